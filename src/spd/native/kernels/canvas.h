// One step of the canvas: what queries write is added to their cells, then it spreads to the neighbours.
#pragma once

#include <algorithm>

#include "convolution.h"
#include "gelu.h"

namespace spd {

// canvas, out: (images, height, width, channels). written: (queries, channels) of all images. cells, shares: (queries,
// places): cells as rows of the canvases of all images. weights: (channels, 3, 3). biases: (channels).
template <int N>
void canvas_step(const float *canvas, const float *written, const int64_t *cells, const float *shares,
                 const float *weights1, const float *bias1, const float *weights2, const float *bias2, float *out,
                 int64_t images, int64_t height, int64_t width, int64_t channels, int64_t queries, int64_t places,
                 int threads) {
  constexpr int64_t KERNEL = 3;
  Buffer taps1(KERNEL * KERNEL * channels), taps2(KERNEL * KERNEL * channels);
  by_tap(weights1, KERNEL * KERNEL, channels, taps1 + 0);
  by_tap(weights2, KERNEL * KERNEL, channels, taps2 + 0);
  // Maps between zeros, a cell wide all around: each row brings the zero after it and before the next.
  const int64_t row = width * channels, padded = row + 2 * channels, map = (height + 2) * padded;
  Buffer sums(images * map), middle(images * map);
  for (int64_t image = 0; image < images; ++image)
    for (float *top : {sums + image * map, middle + image * map}) {
      std::fill_n(top, padded + channels, 0.0f);
      std::fill_n(top + map - padded, padded, 0.0f);
    }
  const auto first_of = [&](int64_t y) { return y / height * map + (y % height + 1) * padded + channels; };
  // Every thread has its own rows, of all images counted through.
  const auto rows_of = [&](int thread) { return images * height * thread / threads; };

#pragma omp parallel num_threads(threads)
  {
#pragma omp for schedule(static)
    for (int thread = 0; thread < threads; ++thread) {
      const int64_t begin = rows_of(thread), end = rows_of(thread + 1);
      for (int64_t y = begin; y < end; ++y) {
        std::copy_n(canvas + y * row, row, sums + first_of(y));
        for (float *behind : {sums + (first_of(y) + row), middle + (first_of(y) + row)})
          std::fill_n(behind, 2 * channels, 0.0f);
      }
      for (int64_t write = 0; write < queries * places; ++write) {
        const int64_t y = cells[write] / width, x = cells[write] % width;
        if (y < begin || y >= end)
          continue;
        float *to = sums + (first_of(y) + x * channels);
        for (int64_t c = 0; c < channels; c += N)
          store<N>(to + c, load<N>(to + c) + load<N>(written + write / places * channels + c) * shares[write]);
      }
    }
#pragma omp for schedule(static)
    for (int thread = 0; thread < threads; ++thread)
      for (int64_t y = rows_of(thread); y < rows_of(thread + 1); ++y) {
        const float *above = sums + (first_of(y) - padded - channels);
        const float *inputs[] = {above, above + padded, above + 2 * padded};
        float *to = middle + first_of(y);
        convolve_row<N, KERNEL>(inputs, taps1 + 0, bias1, width, channels, to);
        for (int64_t i = 0; i < row; i += N)
          store<N>(to + i, gelu<N>(load<N>(to + i)));
      }
#pragma omp for schedule(static)
    for (int thread = 0; thread < threads; ++thread)
      for (int64_t y = rows_of(thread); y < rows_of(thread + 1); ++y) {
        const float *above = middle + (first_of(y) - padded - channels);
        const float *inputs[] = {above, above + padded, above + 2 * padded};
        float *to = out + y * row;
        convolve_row<N, KERNEL>(inputs, taps2 + 0, bias2, width, channels, to);
        for (int64_t i = 0; i < row; i += N)
          store<N>(to + i, load<N>(to + i) + load<N>(sums + (first_of(y) + i)));
      }
  }
}

} // namespace spd
