// Depthwise convolutions over maps whose channels lie innermost.
#pragma once

#include "simd.h"

namespace spd {

// Weights (channels, taps) as (taps, channels): those of neighbouring channels are read together.
inline void by_tap(const float *weights, int64_t taps, int64_t channels, float *to) {
  for (int64_t c = 0; c < channels; ++c)
    for (int64_t tap = 0; tap < taps; ++tap)
      to[tap * channels + c] = weights[c * taps + tap];
}

// Pixels in a row: bias + Σ weight · input. Of each of the rows it reads, inputs has the first pixel's leftmost; rows
// outside the map are null.
template <int N, int Kernel, int Pixels>
inline void convolve(const float *const *inputs, const float *weights, Float<N> bias, int64_t channels, float *to) {
  Float<N> sums[Pixels];
  for (auto &sum : sums)
    sum = bias;
  for (int64_t ky = 0; ky < Kernel; ++ky) {
    if (inputs[ky] == nullptr)
      continue;
#pragma GCC unroll 7
    for (int64_t kx = 0; kx < Kernel; ++kx) {
      const Float<N> weight = load<N>(weights + (ky * Kernel + kx) * channels);
#pragma GCC unroll 8
      for (int64_t pixel = 0; pixel < Pixels; ++pixel)
        sums[pixel] += load<N>(inputs[ky] + (pixel + kx) * channels) * weight;
    }
  }
#pragma GCC unroll 8
  for (int64_t pixel = 0; pixel < Pixels; ++pixel)
    store<N>(to + pixel * channels, sums[pixel]);
}

// A row of a map: (width, channels). The rows it reads begin Kernel / 2 pixels left of the map, where they hold zeros,
// and end as many right of it.
template <int N, int Kernel>
inline void convolve_row(const float *const *inputs, const float *weights, const float *bias, int64_t width,
                         int64_t channels, float *to) {
  constexpr int64_t PIXELS = 8;
  for (int64_t c = 0; c < channels; c += N) {
    const Float<N> start = load<N>(bias + c);
    const float *from[Kernel];
    const auto at = [&](int64_t x) {
      for (int64_t ky = 0; ky < Kernel; ++ky)
        from[ky] = inputs[ky] == nullptr ? nullptr : inputs[ky] + x * channels + c;
      return from;
    };
    if (width < PIXELS) {
      for (int64_t x = 0; x < width; ++x)
        convolve<N, Kernel, 1>(at(x), weights + c, start, channels, to + x * channels + c);
      continue;
    }
    // The last pixels are convolved twice rather than one by one.
    for (int64_t x = 0; x < width; x += PIXELS) {
      const int64_t first = x + PIXELS <= width ? x : width - PIXELS;
      convolve<N, Kernel, PIXELS>(at(first), weights + c, start, channels, to + first * channels + c);
    }
  }
}

} // namespace spd
