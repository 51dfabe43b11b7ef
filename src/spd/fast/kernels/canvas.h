// One step of the canvas: what queries write is added to their cells, then it spreads to the neighbours.
#pragma once

#include <algorithm>
#include <vector>

#include "convolution.h"
#include "gelu.h"

namespace spd {

// A map of N channels between zeros, a cell wide all around.
template <int N> class PaddedMap {
public:
  PaddedMap(int64_t height, int64_t width) : row((width + 2) * N), values((height + 2) * row) {
    std::fill_n(values + 0, (height + 2) * row, 0.0f);
  }
  // Of a cell counted row by row.
  static int64_t offset(uint32_t cell, uint32_t width) {
    return (int64_t(cell / width + 1) * (width + 2) + cell % width + 1) * N;
  }
  float *at(int64_t offset) { return values + offset; }
  float *cell(int64_t y, int64_t x) { return values + ((y + 1) * row + (x + 1) * N); }

  // Everywhere bias + Σ weight · input, three by three; row y goes to put(y).
  template <class Put> void convolve(const float *taps, const float *bias, int64_t height, int64_t width, Put put) {
    constexpr int64_t KERNEL = 3, ROWS = TOGETHER_ROWS;
    const float *inputs[ROWS + KERNEL - 1];
    float *to[ROWS];
    for (int64_t y = 0; y < height; y += ROWS) {
      const int64_t first = std::max<int64_t>(0, y + ROWS <= height ? y : height - ROWS);
      for (int64_t i = 0; i < ROWS + KERNEL - 1; ++i)
        inputs[i] = values + (first + i) * row;
      for (int64_t i = 0; i < ROWS; ++i)
        to[i] = put(first + i);
      if (height >= ROWS)
        convolve_rows<N, KERNEL, ROWS>(inputs, taps, bias, width, to, N);
      else
        convolve_rows<N, KERNEL, 1>(inputs, taps, bias, width, to, N);
    }
  }

private:
  const int64_t row;
  Buffer values;
};

// canvas, out: (images, height, width, channels). written: (queries, channels), as many for each image. cells, shares:
// (queries, places): cells as rows of the canvases of all images, a query's on that of its own. weights: (channels, 3,
// 3). biases: (channels).
template <int N>
void canvas_step(const float *canvas, const float *written, const int64_t *cells, const float *shares,
                 const float *weights1, const float *bias1, const float *weights2, const float *bias2, float *out,
                 int64_t images, int64_t height, int64_t width, int64_t channels, int64_t queries, int64_t places,
                 int threads) {
  constexpr int64_t TAPS = 9;
  constexpr int64_t AHEAD = 16; // Cells of a map of all channels lie too far apart for the processor to foresee.
  Buffer taps1(TAPS * channels), taps2(TAPS * channels);
  by_tap<N>(weights1, TAPS, channels, taps1 + 0);
  by_tap<N>(weights2, TAPS, channels, taps2 + 0);
  const int64_t chunks = images * (channels / N), of_image = height * width, writes = queries / images * places;
  std::vector<int64_t> offsets(queries * places);
  for (int64_t image = 0; image < images; ++image)
    for (int64_t write = image * writes; write < (image + 1) * writes; ++write)
      offsets[write] = PaddedMap<N>::offset(cells[write] - image * of_image, width);
  // Channels never meet: each thread has its own.
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int thread = 0; thread < threads; ++thread) {
    PaddedMap<N> sums(height, width), middle(height, width);
    Buffer spread(of_image * N);
    for (int64_t chunk = chunks * thread / threads; chunk < chunks * (thread + 1) / threads; ++chunk) {
      const int64_t image = chunk / (channels / N), c = chunk % (channels / N) * N;
      const int64_t start = image * of_image;
      const float *const from = canvas + start * channels + c;
      float *const to = out + start * channels + c;
      for (int64_t y = 0; y < height; ++y)
        for (int64_t x = 0; x < width; ++x) {
          const int64_t cell = y * width + x;
          __builtin_prefetch(from + (cell + AHEAD) * channels);
          store<N>(sums.cell(y, x), load<N>(from + cell * channels));
        }
      for (int64_t write = image * writes; write < (image + 1) * writes; ++write) {
        float *cell = sums.at(offsets[write]);
        store<N>(cell, load<N>(cell) + load<N>(written + write / places * channels + c) * shares[write]);
      }
      sums.convolve(taps1 + c * TAPS, bias1 + c, height, width, [&](int64_t y) { return middle.cell(y, 0); });
      for (int64_t y = 0; y < height; ++y)
        for (int64_t x = 0; x < width; ++x)
          store<N>(middle.cell(y, x), gelu<N, float>(load<N>(middle.cell(y, x))));
      middle.convolve(taps2 + c * TAPS, bias2 + c, height, width, [&](int64_t y) { return spread + y * width * N; });
      for (int64_t y = 0; y < height; ++y)
        for (int64_t x = 0; x < width; ++x) {
          const int64_t cell = y * width + x;
          __builtin_prefetch(to + (cell + AHEAD) * channels, 1);
          store<N>(to + cell * channels, load<N>(spread + cell * N) + load<N>(sums.cell(y, x)));
        }
    }
  }
}

} // namespace spd
