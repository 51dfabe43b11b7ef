// Linear layers of a few rows: all they wait for are the weights, which are read once, in the order in which they lie.
#pragma once

#include <algorithm>

#include "gelu.h"

namespace spd {

// The product of two rows of so many numbers. Four sums, so that no addition waits for the one before.
template <int N, class T> inline float dot(const T *weights, const float *row, int64_t size) {
  constexpr int SUMS = 4;
  Float<N> sums[SUMS] = {};
  int64_t k = 0;
  for (; k + SUMS * N <= size; k += SUMS * N)
    for (int i = 0; i < SUMS; ++i)
      sums[i] += load<N>(weights + k + i * N) * load<N>(row + k + i * N);
  for (; k < size; k += N)
    sums[0] += load<N>(weights + k) * load<N>(row + k);
  return sum<N>((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

// out: (length, columns) = rows · weightsᵀ + bias, GELU of it if asked, + residual. rows: (length, inner). weights:
// (columns, inner). bias and residual may be null.
template <int N, class T>
void few_rows(const T *rows, const T *weights, const T *bias, const T *residual, T *out, int64_t length, int64_t inner,
              int64_t columns, int64_t with_gelu, int threads) {
  constexpr int64_t ALONE = 1 << 14; // So many weights are read before another thread wakes.
  const int used = columns * inner < ALONE ? 1 : threads;
  Buffer floats(length * inner);
  for (int64_t i = 0; i < length * inner; i += N)
    store<N>(floats + i, load<N>(rows + i));
#pragma omp parallel for num_threads(used) schedule(static)
  for (int64_t c = 0; c < columns; c += N) {
    Buffer found(length * N);
    // Each row of weights meets all rows while it is in the cache.
    for (int64_t column = 0; column < N; ++column)
      for (int64_t r = 0; r < length; ++r)
        *(found + (r * N + column)) = dot<N>(weights + (c + column) * inner, floats + r * inner, inner);
    for (int64_t r = 0; r < length; ++r) {
      Float<N> value = load<N>(found + r * N);
      if (bias != nullptr)
        value += load<N>(bias + c);
      if (with_gelu)
        value = gelu<N, T>(value);
      if (residual != nullptr)
        value += load<N>(residual + r * columns + c);
      store<N>(out + r * columns + c, value);
    }
  }
}

} // namespace spd
