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

// maps, out: (images, height, width, channels). weights: (channels, 7, 7). bias, scale, shift: (channels).
template <int N, class T>
void depthwise_norm(const T *maps, const float *weights, const float *bias, const float *scale, const float *shift,
                    float eps, T *out, int64_t images, int64_t height, int64_t width, int64_t channels, int threads) {
  constexpr int64_t KERNEL = 7, REACH = KERNEL / 2;
  Buffer taps(KERNEL * KERNEL * channels);
  by_tap(weights, KERNEL * KERNEL, channels, taps + 0);
  const int64_t row = width * channels, padded = row + 2 * REACH * channels;
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int thread = 0; thread < threads; ++thread) {
    const int64_t begin = images * height * thread / threads, end = images * height * (thread + 1) / threads;
    // The seven rows that a row reads, as float32 between zeros: row y lies at y mod 7.
    Buffer window(KERNEL * padded), convolved(row);
    std::fill_n(window + 0, KERNEL * padded, 0.0f);
    int64_t held = -1; // Rows of all images are counted through; this is the last one in the window.
    for (int64_t y = begin; y < end; ++y) {
      const int64_t top = y / height * height, bottom = top + height;
      const float *inputs[KERNEL];
      for (int64_t ky = 0; ky < KERNEL; ++ky) {
        const int64_t read = y + ky - REACH;
        if (read < top || read >= bottom) {
          inputs[ky] = nullptr;
          continue;
        }
        float *slot = window + read % KERNEL * padded;
        if (read > held) {
          for (int64_t i = 0; i < row; i += N)
            store<N>(slot + REACH * channels + i, load<N>(maps + read * row + i));
          held = read;
        }
        inputs[ky] = slot;
      }
      convolve_row<N, KERNEL>(inputs, taps + 0, bias, width, channels, convolved + 0);
      for (int64_t x = 0; x < width; ++x)
        normalise<N>(convolved + x * channels, scale, shift, eps, channels, out + y * row + x * channels);
    }
  }
}

} // namespace spd
