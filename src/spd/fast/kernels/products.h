// Matrix products, by the kernels of oneDNN that PyTorch exports for the programs it compiles; and the layout of
// weights that they read.
#pragma once

#include <algorithm>
#include <atomic>
#include <type_traits>

#include "transpose.h"

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
