// Multi-head attention: the scores of a few queries with all keys lie in the cache, from one product to the other.
#pragma once

#include <limits>

#include "gelu.h"
#include "products.h"

namespace spd {

// (images, heads, rows, width) of any strides but the last, which is one.
template <class T> struct Heads {
  const T *values;
  int64_t per_image, per_head, per_row;

  const T *of(int64_t image, int64_t head) const { return values + image * per_image + head * per_head; }
};

// Keys and values of one head as the products read them.
template <int N, class T> class Offered {
public:
  Offered(int64_t keys, int64_t width)
      : keys(keys), width(width), block(block_width<T>(keys)), even(keys + (PAIRS<T> ? keys % 2 : 0)),
        packed_keys(keys * width), packed_values(PAIRS<T> ? even * width : 0) {}

  void take(const T *key, int64_t row_key, const T *value, int64_t row_value) {
    constexpr int64_t HELD = sizeof(uint32_t) / sizeof(T);
    auto *to = reinterpret_cast<uint32_t *>(packed_keys + 0);
    for (int64_t first = 0; first < keys; first += block) {
      const int64_t own = std::min(block, keys - first);
      pack_block(reinterpret_cast<const uint32_t *>(key + first * row_key), row_key / HELD, own, width / HELD,
                 to + first * width / HELD, own);
    }
    values = value;
    per_value = row_value;
    if constexpr (PAIRS<T>) {
      // Two rows, number by number; where there is none, zero.
      using Bits = typename Lanes<N>::Bits;
      auto *pairs = reinterpret_cast<uint32_t *>(packed_values + 0);
      for (int64_t n = 0; n < keys; n += 2)
        for (int64_t c = 0; c < width; c += N) {
          const T *at = value + n * row_value + c;
          const Bits lower = (Bits)load<N>(at) >> 16, upper = n + 1 < keys ? (Bits)load<N>(at + row_value) : Bits{};
          const Bits both = lower | upper;
          std::memcpy(pairs + n / 2 * width + c, &both, sizeof both);
        }
      values = reinterpret_cast<const T *>(pairs);
      per_value = width;
    }
  }

  // scores (rows, keys), whose rows are row_scores long.
  void ask(const T *queries, int64_t row_queries, int64_t rows, float *scores, int64_t row_scores) {
    const T *packed = reinterpret_cast<const T *>(packed_keys + 0);
    for (int64_t first = 0; first < keys; first += block) {
      const int64_t own = std::min(block, keys - first);
      multiply<T>(rows, own, width, queries, row_queries, packed + first * width, own, scores + first, row_scores);
    }
  }

  // read (rows, width) = weights (rows, keys) · values; to an even number of keys weights are zero.
  void read(const T *weights, int64_t row_weights, int64_t rows, float *read) const {
    multiply<T>(rows, width, even, weights, row_weights, values, per_value, read, width);
  }

private:
  const int64_t keys, width, block, even;
  Buffer packed_keys, packed_values;
  const T *values = nullptr;
  int64_t per_value = 0;
};

// The exponentials of factor · (scores − their greatest), to be divided by their sum, which is returned. Weights may
// lie where the scores do.
template <int N, class T>
inline float exponentials(const float *scores, float factor, int64_t size, T *weights) {
  constexpr float LOG2_E = 1.442695041f, LEAST = -126.0f; // 2^LEAST is the least normal number.
  const int64_t whole = size / N * N;
  Float<N> most = fill<N>(-std::numeric_limits<float>::infinity());
  for (int64_t i = 0; i < whole; i += N)
    most = larger<N>(load<N>(scores + i), most);
  float greatest = -std::numeric_limits<float>::infinity();
  for (int i = 0; i < N; ++i)
    greatest = std::max(greatest, most[i]);
  for (int64_t i = whole; i < size; ++i)
    greatest = std::max(greatest, scores[i]);
  const float unit = factor * LOG2_E, start = greatest * unit;
  const auto power = [&](Float<N> score) {
    const Float<N> exponent = score * unit - start;
    return exp2<N, T>(larger<N>(fill<N>(LEAST), exponent));
  };
  Float<N> total = fill<N>(0.0f);
  for (int64_t i = 0; i < whole; i += N) {
    const Float<N> value = power(load<N>(scores + i));
    total += value;
    store<N>(weights + i, value);
  }
  float rest[N] = {}, remaining = 0;
  std::copy(scores + whole, scores + size, rest);
  const Float<N> value = power(load<N>(rest));
  T last[N];
  store<N>(last, value);
  std::copy_n(last, size - whole, weights + whole);
  for (int64_t i = 0; i < size - whole; ++i)
    remaining += value[i];
  return sum<N>(total) + remaining;
}

// out: (images, queries, heads · width) = softmax(query · keyᵀ / √width) · value.
template <int N, class T>
bool attention(Heads<T> query, Heads<T> key, Heads<T> value, T *out, int64_t images, int64_t heads, int64_t queries,
               int64_t keys, int64_t width, int threads) {
  // As many queries at a time as leave the scores in the cache.
  constexpr int64_t ROWS = 64, SCORES = 1 << 17;
  const int64_t most = std::max<int64_t>(16, std::min(ROWS, SCORES / keys));
  const int64_t down = blocks_of(queries, most), height = blocks_of(queries, down);
  const int64_t total = images * heads * down, row = blocks_of(keys, 32) * 32;
  const float factor = 1 / std::sqrt(float(width));
  return on_threads<T>(threads, [&](int thread) {
    Offered<N, T> offered(keys, width);
    Buffer scores(height * row), read(height * width);
    Buffer rounded(PAIRS<T> ? height * row / 2 : 0);
    T *weights = reinterpret_cast<T *>(PAIRS<T> ? rounded + 0 : scores + 0);
    int64_t taken = -1; // Heads of all images are counted through.
    for (int64_t task = total * thread / threads; task < total * (thread + 1) / threads; ++task) {
      const int64_t both = task / down, image = both / heads, head = both % heads, first = task % down * height;
      const int64_t rows = std::min(height, queries - first);
      if (both != taken)
        offered.take(key.of(image, head), key.per_row, value.of(image, head), value.per_row);
      taken = both;
      offered.ask(query.of(image, head) + first * query.per_row, query.per_row, rows, scores + 0, row);
      float sums[ROWS];
      for (int64_t r = 0; r < rows; ++r) {
        sums[r] = exponentials<16>(scores + r * row, factor, keys, weights + r * row);
        if (PAIRS<T> && keys % 2)
          weights[r * row + keys] = T{};
      }
      offered.read(weights, row, rows, read + 0);
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t c = 0; c < width; c += N)
          store<N>(out + ((image * queries + first + r) * heads + head) * width + c,
                   load<N>(read + (r * width + c)) * (1 / sums[r]));
    }
  });
}

} // namespace spd
