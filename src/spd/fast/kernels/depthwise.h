// A depthwise convolution of 7×7 with the layer normalisation after it: the convolved map is never written.
#pragma once

#include <algorithm>

#include "convolution.h"

namespace spd {

template <int N, class T>
inline void normalise(const float *from, const float *scale, const float *shift, float eps, int64_t channels, T *to) {
  Float<N> total = fill<N>(0.0f), squares = fill<N>(0.0f);
  for (int64_t c = 0; c < channels; c += N)
    total += load<N>(from + c);
  const float mean = sum<N>(total) / channels;
  for (int64_t c = 0; c < channels; c += N) {
    const Float<N> centred = load<N>(from + c) - mean;
    squares += centred * centred;
  }
  const float inverse = 1.0f / std::sqrt(sum<N>(squares) / channels + eps);
  for (int64_t c = 0; c < channels; c += N)
    store<N>(to + c, (load<N>(from + c) - mean) * inverse * load<N>(scale + c) + load<N>(shift + c));
}

// The rows that a few rows read, as float32 between zeros, (channels / N, held rows, padded pixels, N): row y lies at y
// mod the number held.
template <int N, class T> class Window {
public:
  static constexpr int64_t KERNEL = 7, REACH = KERNEL / 2, HELD = TOGETHER_ROWS + KERNEL - 1;

  Window(const T *maps, int64_t height, int64_t width, int64_t channels)
      : maps(maps), height(height), width(width), channels(channels), row((width + 2 * REACH) * N),
        rows(channels / N * HELD * row) {
    std::fill_n(rows + 0, channels / N * HELD * row, 0.0f);
  }

  // Rows of all images are counted through. Those that the rows from y on read, where they belong to the same image.
  void move(int64_t y) {
    const int64_t top = y / height * height;
    for (int64_t i = 0; i < HELD; ++i) {
      const int64_t read = y + i - REACH;
      inside[i] = read >= top && read < top + height;
      slot[i] = (read + HELD) % HELD;
      if (inside[i] && read > held) {
        take(read, slot[i]);
        held = read;
      }
    }
  }

  void inputs(int64_t c, const float **to) {
    for (int64_t i = 0; i < HELD; ++i)
      to[i] = inside[i] ? rows + (c / N * HELD + slot[i]) * row : nullptr;
  }

private:
  void take(int64_t y, int64_t at) {
    constexpr int64_t PIXELS = 16; // Enough in a row to be written quickly.
    const T *from = maps + y * width * channels;
    for (int64_t first = 0; first < width; first += PIXELS)
      for (int64_t c = 0; c < channels; c += N)
        for (int64_t x = first; x < std::min(width, first + PIXELS); ++x)
          store<N>(rows + ((c / N * HELD + at) * row + (x + REACH) * N), load<N>(from + x * channels + c));
  }

  const T *maps;
  const int64_t height, width, channels, row;
  Buffer rows;
  int64_t held = -1, slot[HELD];
  bool inside[HELD];
};

// maps, out: (images, height, width, channels). weights: (channels, 7, 7). bias, scale, shift: (channels).
template <int N, class T>
void depthwise_norm(const T *maps, const float *weights, const float *bias, const float *scale, const float *shift,
                    float eps, T *out, int64_t images, int64_t height, int64_t width, int64_t channels, int threads) {
  constexpr int64_t KERNEL = 7, ROWS = TOGETHER_ROWS;
  Buffer taps(KERNEL * KERNEL * channels);
  by_tap<N>(weights, KERNEL * KERNEL, channels, taps + 0);
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int thread = 0; thread < threads; ++thread) {
    const int64_t end = images * height * (thread + 1) / threads;
    Window<N, T> window(maps, height, width, channels);
    Buffer convolved(ROWS * width * channels);
    for (int64_t y = images * height * thread / threads, rows; y < end; y += rows) {
      rows = y + ROWS <= end && y / height == (y + ROWS - 1) / height ? ROWS : 1;
      window.move(y);
      for (int64_t c = 0; c < channels; c += N) {
        const float *inputs[ROWS + KERNEL - 1];
        float *to[ROWS];
        window.inputs(c, inputs);
        for (int64_t row = 0; row < rows; ++row)
          to[row] = convolved + (row * width * channels + c);
        const float *of_chunk = taps + c * KERNEL * KERNEL;
        if (rows == ROWS)
          convolve_rows<N, KERNEL, ROWS>(inputs, of_chunk, bias + c, width, to, channels);
        else
          convolve_rows<N, KERNEL, 1>(inputs, of_chunk, bias + c, width, to, channels);
      }
      for (int64_t x = 0; x < rows * width; ++x)
        normalise<N>(convolved + x * channels, scale, shift, eps, channels, out + (y * width + x) * channels);
    }
  }
}

} // namespace spd
