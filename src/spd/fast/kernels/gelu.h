// GELU(x) = x Φ(x) as max(x, 0) − |x| Q(|x|), with Q = 1 − Φ the upper tail of the normal distribution.
#pragma once

#include <algorithm>

#include "simd.h"

namespace spd {

// Polynomials of log2 Q on [0, 6], where beyond x Q is below 6e-9 and taken for that, and of 2^f on [−½, ½]: with the
// least largest error of x Q, and the least relative error, that their length allows. T is what results are rounded to.
template <class T> struct Terms {
  static constexpr float LOG2_TAIL[] = {-9.999963289e-01f, -1.151177108e+00f, -4.588343326e-01f, -5.333740051e-02f,
                                        8.036972876e-03f,  -7.569155285e-04f, 3.177485659e-05f};
  static constexpr float EXP2[] = {1.000000072e+00f, 6.931469671e-01f, 2.402211972e-01f,
                                   5.550713276e-02f, 9.675541540e-03f, 1.327647174e-03f};
};

// To a tenth of half a unit in the last place.
template <> struct Terms<BFloat16> {
  static constexpr float LOG2_TAIL[] = {-1.000357509e+00f, -1.146272779e+00f, -4.713626802e-01f, -4.166895151e-02f,
                                        3.374084830e-03f};
  static constexpr float EXP2[] = {9.999280572e-01f, 6.932609677e-01f, 2.426113188e-01f, 5.517175794e-02f};
};

// Added to a float it leaves the nearest integer in the lowest bits.
constexpr float ROUND = 12582912.0f; // 1.5 · 2^23

template <int N, class T> inline Float<N> exp2(Float<N> x) {
  using Bits = typename Lanes<N>::Bits;
  const Float<N> shifted = x + ROUND;
  const Float<N> fraction = x - (shifted - ROUND);
  return (Float<N>)((Bits)polynomial<N>(fraction, Terms<T>::EXP2) + ((Bits)shifted << 23));
}

template <int N, class T> inline Float<N> gelu(Float<N> x) {
  const Float<N> size = bounded<N>(x, 6.0f);
  return larger<N>(fill<N>(0.0f), x) - size * exp2<N, T>(polynomial<N>(size, Terms<T>::LOG2_TAIL));
}

// GELU of rows in their place, and the sum of its squares over the rows of each image.
//
// rows: (images, length, channels), channels a multiple of N. squares: (images, channels).
template <int N, class T>
void gelu_with_squares(T *rows, float *squares, int64_t images, int64_t length, int64_t channels, int threads) {
  // Of so many rows each, so that float32 adds numbers of like size.
  constexpr int64_t BLOCK = 32;
  constexpr int64_t AHEAD = 4096; // Bytes.
  const int64_t blocks = (length + BLOCK - 1) / BLOCK;
  Buffer partial(threads * images * channels);
  std::fill_n(partial + 0, threads * images * channels, 0.0f);
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int thread = 0; thread < threads; ++thread) {
    Buffer sums(channels);
    const int64_t all = images * blocks;
    for (int64_t block = all * thread / threads; block < all * (thread + 1) / threads; ++block) {
      const int64_t image = block / blocks, first = block % blocks * BLOCK;
      T *at = rows + (image * length + first) * channels;
      std::fill_n(sums + 0, channels, 0.0f);
      for (int64_t row = first; row < std::min(first + BLOCK, length); ++row, at += channels)
        for (int64_t c = 0; c < channels; c += N) {
          // The map is wider than the caches, and the processor alone fetches too late.
          __builtin_prefetch((const char *)(at + c) + AHEAD, 1);
          const Float<N> value = gelu<N, T>(load<N>(at + c));
          store<N>(at + c, value);
          store<N>(sums + c, load<N>(sums + c) + value * value);
        }
      float *total = partial + (thread * images + image) * channels;
      for (int64_t c = 0; c < channels; ++c)
        total[c] += *(sums + c);
    }
  }
  for (int64_t i = 0; i < images * channels; ++i) {
    float total = 0;
    for (int thread = 0; thread < threads; ++thread)
      total += *(partial + (thread * images * channels + i));
    squares[i] = total;
  }
}

} // namespace spd
