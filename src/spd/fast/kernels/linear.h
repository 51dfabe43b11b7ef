// Linear layers whose ends are applied to each tile of the product while that is in the cache.
#pragma once

#include <limits>

#include "gelu.h"
#include "products.h"

namespace spd {

// rows: (images, length, inner) times packed weights (columns, inner), those of each image weights_step on. Calls
// finish(tile, thread, image, row, rows, column, columns) for every tile, (rows, columns) from there.
template <class T, class Finish>
bool product(const T *rows, const T *packed, int64_t weights_step, int64_t images, int64_t length, int64_t inner,
             int64_t columns, int threads, Finish finish) {
  constexpr int64_t ROWS = PAIRS<T> ? 64 : 128, INNER = 512, ENTIRE = PAIRS<T> ? 768 : INNER;
  const int64_t down = blocks_of(length, ROWS), height = blocks_of(length, down);
  const int64_t width = block_width<T>(columns), across = blocks_of(columns, width);
  const int64_t depth = inner <= ENTIRE ? inner : blocks_of(blocks_of(inner, blocks_of(inner, INNER)), 32) * 32;
  const int64_t total = images * down * across;
  // Weights that fit the cache are gone through for every few rows; of others it is the rows that pass by every block.
  const bool by_rows = columns * inner * int64_t(sizeof(T)) <= 1 << 22;
  return on_threads<T>(threads, [&](int thread) {
    Buffer tile(height * width);
    for (int64_t task = total * thread / threads; task < total * (thread + 1) / threads; ++task) {
      const int64_t image = task / (down * across);
      const int64_t tile_of = task % (down * across);
      const int64_t row = (by_rows ? tile_of / across : tile_of % down) * height;
      const int64_t column = (by_rows ? tile_of % across : tile_of / down) * width;
      const int64_t tall = std::min(height, length - row), wide = std::min(width, columns - column);
      const T *a = rows + (image * length + row) * inner, *b = packed + image * weights_step + column * inner;
      for (int64_t k = 0; k < inner; k += depth)
        multiply<T>(tall, wide, std::min(depth, inner - k), a + k, inner, b + k * wide, wide, tile + 0, wide, k > 0);
      finish(tile + 0, thread, image, row, tall, column, wide);
    }
  });
}

// out: (length, columns) = rows · weightsᵀ + bias, GELU of it if asked, + residual. bias and residual may be null.
template <int N, class T>
bool linear(const T *rows, const T *packed, const T *bias, const T *residual, T *out, int64_t length, int64_t inner,
            int64_t columns, int64_t with_gelu, int threads) {
  const auto finish = [&](const float *tile, int, int64_t, int64_t row, int64_t tall, int64_t column, int64_t wide) {
    for (int64_t r = 0; r < tall; ++r) {
      const int64_t first = (row + r) * columns + column;
      for (int64_t c = 0; c < wide; c += N) {
        Float<N> value = load<N>(tile + r * wide + c);
        if (bias != nullptr)
          value += load<N>(bias + column + c);
        if (with_gelu)
          value = gelu<N, T>(value);
        if (residual != nullptr)
          value += load<N>(residual + first + c);
        store<N>(out + first + c, value);
      }
    }
  };
  return product<T>(rows, packed, 0, 1, length, inner, columns, threads, finish);
}

// out: (images, length, columns) = GELU(rows · weightsᵀ + bias). squares: (images, columns), the sums of its squares.
template <int N, class T>
bool fc1(const T *rows, const T *packed, const T *bias, T *out, float *squares, int64_t images, int64_t length,
           int64_t inner, int64_t columns, int threads) {
  constexpr int64_t AHEAD = 8; // Rows.
  const int64_t all = images * columns;
  Buffer partial(threads * all);
  std::fill_n(partial + 0, threads * all, 0.0f);
  const auto finish = [&](const float *tile, int thread, int64_t image, int64_t row, int64_t tall, int64_t column,
                          int64_t wide) {
    float *total = partial + (thread * all + image * columns + column);
    for (int64_t c = 0; c < wide; c += N) {
      const Float<N> shift = load<N>(bias + column + c);
      // Of one tile, so that float32 adds numbers of like size.
      Float<N> sum = fill<N>(0.0f);
      for (int64_t r = 0; r < tall; ++r) {
        T *const to = out + (image * length + row + r) * columns + column + c;
        // The map is wider than the caches, and the processor alone fetches too late.
        __builtin_prefetch(to + AHEAD * columns, 1);
        const Float<N> value = gelu<N, T>(load<N>(tile + r * wide + c) + shift);
        store<N>(to, value);
        sum += value * value;
      }
      store<N>(total + c, load<N>(total + c) + sum);
    }
  };
  const bool done = product<T>(rows, packed, 0, images, length, inner, columns, threads, finish);
  for (int64_t i = 0; i < all; ++i) {
    squares[i] = 0;
    for (int thread = 0; thread < threads; ++thread)
      squares[i] += *(partial + (thread * all + i));
  }
  return done;
}

// N columns of a row, in bfloat16 of a pair of rows.
template <int N>
inline void scale_weights(const float *from, float *to, int64_t column, const float *scale, const float *beta,
                          float *sums) {
  const Float<N> weight = load<N>(from + column);
  store<N>(sums, load<N>(sums) + weight * beta[0]);
  store<N>(to + column, weight * scale[0]);
}

template <int N>
inline void scale_weights(const BFloat16 *from, BFloat16 *to, int64_t column, const float *scale, const float *beta,
                          float *sums) {
  typename Lanes<N>::Bits pairs;
  std::memcpy(&pairs, from + 2 * column, sizeof pairs);
  const Float<N> even = (Float<N>)(pairs << 16), odd = (Float<N>)(pairs & 0xffff0000u);
  store<N>(sums, load<N>(sums) + even * beta[0] + odd * beta[1]);
  pairs = rounded<N>(even * scale[0]) | rounded<N>(odd * scale[1]) << 16;
  std::memcpy(to + 2 * column, &pairs, sizeof pairs);
}

// Weights of one image with global response normalisation in them: packed (columns, inner) with each inner channel
// scaled, and shift = bias + weights · beta.
template <int N, class T>
void scaled(const T *packed, const float *scale, const float *beta, const T *bias, T *out, float *shift,
            int64_t columns, int64_t inner, int threads) {
  // So many columns of a block together, for the sums to stay in registers or near.
  constexpr int64_t PART = 6 * N;
  const int64_t width = block_width<T>(columns), parts = blocks_of(width, PART);
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t part = 0; part < blocks_of(columns, width) * parts; ++part) {
    const int64_t block = part / parts * width, first = part % parts * PART;
    const int64_t own = std::min(width, columns - block), end = std::min(own, first + PART);
    float *const sums = shift + block;
    for (int64_t c = first; c < end; c += N)
      store<N>(sums + c, load<N>(bias + block + c));
    for (int64_t k = 0; k < inner; k += PAIRS<T> ? 2 : 1) {
      const int64_t row = block * inner + k * own;
      for (int64_t c = first; c < end; c += N)
        scale_weights<N>(packed + row, out + row, c, scale + k, beta + k, sums + c);
    }
  }
}

// x scale + beta of rows in float32, rounded once.
template <int N, class T>
void normed(const T *rows, const float *scale, const float *beta, T *out, int64_t length, int64_t inner, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t row = 0; row < length; ++row)
    for (int64_t k = 0; k < inner; k += N)
      store<N>(out + row * inner + k, load<N>(rows + row * inner + k) * load<N>(scale + k) + load<N>(beta + k));
}

// 1 + gamma · n, n the norm of a channel over the mean of all channels'.
inline void response(const float *squares, const float *gamma, float eps, int64_t channels, float *scale) {
  double total = 0;
  for (int64_t c = 0; c < channels; ++c) {
    scale[c] = std::sqrt(std::max(squares[c], std::numeric_limits<float>::min()));
    total += scale[c];
  }
  const float mean = float(total / channels) + eps;
  for (int64_t c = 0; c < channels; ++c)
    scale[c] = 1 + gamma[c] * (scale[c] / mean);
}

// out: (images, length, columns) = norm(rows) · weightsᵀ + bias + residual, norm(x) = x (1 + gamma · response) + beta with
// the response of a channel its norm over the rows, √squares, over the mean of all channels'. residual may be null.
template <int N, class T>
bool fc2(const T *rows, const float *squares, const float *gamma, const float *beta, float eps, const T *packed,
            const T *bias, const T *residual, T *out, int64_t images, int64_t length, int64_t inner, int64_t columns,
            int threads) {
  // Weights of each image pay where it has more rows than they have.
  const bool of_weights = length >= columns;
  const int64_t each = inner * (of_weights ? columns : length);
  Buffer scale(inner), shift(images * columns), made(images * each * sizeof(T) / sizeof(float));
  T *const own = reinterpret_cast<T *>(made + 0);
  for (int64_t image = 0; image < images; ++image) {
    response(squares + image * inner, gamma, eps, inner, scale + 0);
    float *const start = shift + image * columns;
    if (of_weights) {
      scaled<N>(packed, scale + 0, beta, bias, own + image * each, start, columns, inner, threads);
      continue;
    }
    normed<N>(rows + image * each, scale + 0, beta, own + image * each, length, inner, threads);
    for (int64_t c = 0; c < columns; c += N)
      store<N>(start + c, load<N>(bias + c));
  }
  const auto finish = [&](const float *tile, int, int64_t image, int64_t row, int64_t tall, int64_t column,
                          int64_t wide) {
    for (int64_t r = 0; r < tall; ++r) {
      const int64_t first = (image * length + row + r) * columns + column;
      for (int64_t c = 0; c < wide; c += N) {
        Float<N> value = load<N>(tile + r * wide + c) + load<N>(shift + (image * columns + column + c));
        if (residual != nullptr)
          value += load<N>(residual + first + c);
        store<N>(out + first + c, value);
      }
    }
  };
  return product<T>(of_weights ? rows : own, of_weights ? own : packed, of_weights ? each : 0, images, length, inner,
                    columns, threads, finish);
}

} // namespace spd
