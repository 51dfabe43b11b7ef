// Matrix products, by the kernels of oneDNN that PyTorch exports for the programs it compiles; and the layout of weights
// that they read.
#pragma once

#include <algorithm>
#include <atomic>
#include <type_traits>

#include "simd.h"

namespace spd {

// c (rows, columns) = a (rows, inner) · b (inner, columns), or added to c; the last is true where b holds pairs of its
// rows, number by number, which is what bfloat16 takes.
template <class T>
using Multiply = void (*)(int64_t rows, int64_t columns, int64_t inner, int64_t row_a, int64_t row_b, int64_t row_c,
                          bool add, const T *a, const T *b, float *c, bool pairs);

// Of PyTorch; null where it has none.
struct Products {
  Multiply<float> of_float32 = nullptr;
  Multiply<BFloat16> of_bfloat16 = nullptr;
  void (*release)(bool pairs) = nullptr;
};
inline Products products;

template <class T> constexpr bool PAIRS = std::is_same_v<T, BFloat16>;

template <class T>
inline void multiply(int64_t rows, int64_t columns, int64_t inner, const T *a, int64_t row_a, const T *b, int64_t row_b,
                     float *c, int64_t row_c, bool add = false) {
  if constexpr (PAIRS<T>)
    products.of_bfloat16(rows, columns, inner, row_a, row_b, row_c, add, a, b, c, true);
  else
    products.of_float32(rows, columns, inner, row_a, row_b, row_c, add, a, b, c, false);
}

// Work with products of T, on every thread; false where PyTorch refused one, by an exception that may not leave its
// thread.
template <class T, class Work> inline bool on_threads(int threads, Work work) {
  std::atomic<bool> failed{false};
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int thread = 0; thread < threads; ++thread) {
    try {
      work(thread);
      products.release(PAIRS<T>); // The tiles of the processor, for whoever wants them next.
    } catch (...) {
      failed = true;
    }
  }
  return !failed;
}

inline int64_t blocks_of(int64_t size, int64_t most) { return (size + most - 1) / most; }

// Weights (columns, inner) are packed in blocks of so many columns, the last of what is left: inside a block they lie
// (inner, width), in bfloat16 (inner / 2, width, 2).
template <class T> inline int64_t block_width(int64_t columns) {
  constexpr int64_t MOST = PAIRS<T> ? 192 : 64, STEP = 32;
  const int64_t even = blocks_of(columns, blocks_of(columns, MOST));
  return std::min(columns, blocks_of(even, STEP) * STEP);
}

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

// from (width, inner) transposed to (inner, width); for bfloat16 these are pairs of numbers.
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

// weights, packed: (columns, inner), the latter even for bfloat16.
template <class T> void pack(const T *weights, T *packed, int64_t columns, int64_t inner, int threads) {
  constexpr int64_t HELD = sizeof(uint32_t) / sizeof(T);
  const int64_t width = block_width<T>(columns), units = inner / HELD, blocks = blocks_of(columns, width);
  // Parts of blocks, so that all threads have some.
  constexpr int64_t PART = 32;
  const int64_t parts = blocks_of(width, PART);
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t part = 0; part < blocks * parts; ++part) {
    const int64_t block = part / parts, first = part % parts * PART;
    const int64_t own = std::min(width, columns - block * width);
    if (first >= own)
      continue;
    const auto *from = reinterpret_cast<const uint32_t *>(weights) + (block * width + first) * units;
    auto *to = reinterpret_cast<uint32_t *>(packed) + block * width * units + first;
    pack_block(from, units, std::min(PART, own - first), units, to, own);
  }
}

} // namespace spd
