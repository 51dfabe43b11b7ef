// Matrices of 32-bit numbers the other way round.
#pragma once

#include <algorithm>

#include "simd.h"

namespace spd {

// from (N, N) transposed. Interleaving its upper with its lower half turns the bits of an element's index, row before
// column, by one place.
template <int N> inline void transpose(const uint32_t *from, int64_t row_from, uint32_t *to, int64_t row_to) {
  using Bits = typename Lanes<N>::Bits;
  Bits low, high;
  for (int i = 0; i < N; ++i) {
    low[i] = i / 2 + i % 2 * N;
    high[i] = low[i] + N / 2;
  }
  Bits rows[N], next[N];
  for (int i = 0; i < N; ++i)
    std::memcpy(&rows[i], from + i * row_from, sizeof rows[i]);
#pragma GCC unroll 4
  for (int round = 1; round < N; round *= 2) {
#pragma GCC unroll 16
    for (int i = 0; i < N / 2; ++i) {
      next[2 * i] = shuffle<N>(rows[i], rows[i + N / 2], low);
      next[2 * i + 1] = shuffle<N>(rows[i], rows[i + N / 2], high);
    }
    std::copy_n(next, N, rows);
  }
  for (int i = 0; i < N; ++i)
    std::memcpy(to + i * row_to, &rows[i], sizeof rows[i]);
}

// from (width, inner) transposed to (inner, width).
inline void pack_block(const uint32_t *from, int64_t row_from, int64_t width, int64_t inner, uint32_t *to,
                       int64_t row_to) {
  constexpr int N = 16;
  const int64_t whole_columns = width / N * N, whole_inner = inner / N * N;
  for (int64_t n = 0; n < whole_columns; n += N)
    for (int64_t k = 0; k < whole_inner; k += N)
      transpose<N>(from + n * row_from + k, row_from, to + k * row_to + n, row_to);
  for (int64_t n = 0; n < width; ++n)
    for (int64_t k = n < whole_columns ? whole_inner : 0; k < inner; ++k)
      to[k * row_to + n] = from[n * row_from + k];
}

} // namespace spd
