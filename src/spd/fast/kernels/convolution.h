// Depthwise convolutions. Channels are taken N at a time, and a map of so many lies (rows, pixels, N): all that a few
// pixels read is then next to each other, where lines of all channels would crowd into a few sets of the cache.
#pragma once

#include "transpose.h"

namespace spd {

// Rows and pixels of a map that are convolved together: as many sums as registers leave room for.
#ifdef __AVX512F__
constexpr int64_t TOGETHER_ROWS = 2, TOGETHER_PIXELS = 8;
#else
constexpr int64_t TOGETHER_ROWS = 1, TOGETHER_PIXELS = 4;
#endif

// Weights (channels, taps) as (channels / N, taps, N).
template <int N> inline void by_tap(const float *weights, int64_t taps, int64_t channels, float *to) {
  const auto *from = reinterpret_cast<const uint32_t *>(weights);
  auto *tapwise = reinterpret_cast<uint32_t *>(to);
  for (int64_t at = 0; at < channels * taps; at += N * taps)
    pack_block(from + at, taps, N, taps, tapwise + at, N);
}

// bias + Σ weight · input for Rows × Pixels. inputs: the rows that these read, from the leftmost pixel; those outside
// the map are null. to: the first pixel of every row, the next is a step on.
template <int N, int Kernel, int Rows, int Pixels>
inline void convolve(const float *const *inputs, const float *weights, Float<N> bias, float *const *to, int64_t step) {
  Float<N> sums[Rows][Pixels];
  for (auto &row : sums)
    for (auto &sum : row)
      sum = bias;
#pragma GCC unroll 8
  for (int y = 0; y < Rows + Kernel - 1; ++y) {
    if (inputs[y] == nullptr)
      continue;
    // Every number is read once, for all sums that it is part of.
    Float<N> taps[Rows][Kernel];
#pragma GCC unroll 2
    for (int row = 0; row < Rows; ++row)
#pragma GCC unroll 7
      for (int kx = 0; kx < Kernel; ++kx)
        if (y >= row && y < row + Kernel)
          taps[row][kx] = load<N>(weights + ((y - row) * Kernel + kx) * N);
#pragma GCC unroll 14
    for (int x = 0; x < Pixels + Kernel - 1; ++x) {
      const Float<N> input = load<N>(inputs[y] + x * N);
#pragma GCC unroll 2
      for (int row = 0; row < Rows; ++row)
#pragma GCC unroll 7
        for (int kx = 0; kx < Kernel; ++kx)
          if (y >= row && y < row + Kernel && x >= kx && x < kx + Pixels)
            sums[row][x - kx] += input * taps[row][kx];
    }
  }
#pragma GCC unroll 2
  for (int row = 0; row < Rows; ++row)
#pragma GCC unroll 8
    for (int pixel = 0; pixel < Pixels; ++pixel)
      store<N>(to[row] + pixel * step, sums[row][pixel]);
}

// Whole rows, (width, N) each. inputs begin Kernel / 2 pixels left of the map, where they hold zeros, and end as many
// right of it.
template <int N, int Kernel, int Rows>
inline void convolve_rows(const float *const *inputs, const float *weights, const float *bias, int64_t width,
                          float *const *to, int64_t step) {
  constexpr int64_t PIXELS = TOGETHER_PIXELS;
  const Float<N> start = load<N>(bias);
  const float *from[Rows + Kernel - 1];
  float *out[Rows];
  const auto at = [&](int64_t x) {
    for (int y = 0; y < Rows + Kernel - 1; ++y)
      from[y] = inputs[y] == nullptr ? nullptr : inputs[y] + x * N;
    for (int row = 0; row < Rows; ++row)
      out[row] = to[row] + x * step;
  };
  if (width < PIXELS) {
    for (int64_t x = 0; x < width; ++x) {
      at(x);
      convolve<N, Kernel, Rows, 1>(from, weights, start, out, step);
    }
    return;
  }
  // The last pixels are convolved twice rather than one by one.
  for (int64_t x = 0; x < width; x += PIXELS) {
    at(x + PIXELS <= width ? x : width - PIXELS);
    convolve<N, Kernel, Rows, PIXELS>(from, weights, start, out, step);
  }
}

} // namespace spd
