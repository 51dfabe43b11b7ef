// A whole block of EfficientNet-Lite, row by row: what lies between its products stays in the processor's second cache.
#pragma once

#include "products.h"
#include "relu6_depthwise.h"

namespace spd {

// Of the map, and of the layers: inner channels are expanded to so many, and those projected to outer ones.
struct BlockSizes {
  int64_t images, height, width, inner, channels, outer;
};

// The parameters of its layers, norms folded in; weights are packed. Without expand the map is wide as it is.
template <class T> struct BlockLayers {
  const T *expand, *expand_bias;
  const float *taps, *bias;
  const T *project, *project_bias;
};

template <int N, int K, int S, class T> class InvertedResidual {
public:
  InvertedResidual(BlockLayers<T> layers, BlockSizes size)
      : layers(layers), size(size), ring(size.width, size.channels), tile(PIXELS * WIDEST),
        middle(size.width / S * size.channels) {}

  // Rows of the results of all images are counted through. Where it skips, the map is added.
  void run(const T *maps, T *out, bool skips, int64_t begin, int64_t end) {
    const int64_t rows = size.height / S, columns = size.width / S;
    for (int64_t at = begin, taken = 0; at < end; ++at) {
      const int64_t image = at / rows, y = at % rows;
      const T *map = maps + image * size.height * size.width * size.inner;
      if (at == begin || y == 0)
        taken = y * S;
      for (; taken < y * S + K; ++taken)
        take(map, taken);
      ring.convolve(y, layers.taps, layers.bias, size.channels, wide());
      const int64_t first = at * columns * size.outer;
      project(columns, skips ? maps + first : nullptr, out + first);
    }
  }

private:
  // A tile of a product stays in the first cache until its end is applied.
  static constexpr int64_t PIXELS = 64, WIDEST = PAIRS<T> ? 192 : 64;

  T *wide() { return reinterpret_cast<T *>(middle + 0); }

  void take(const T *map, int64_t padded) {
    if (layers.expand == nullptr)
      return ring.take(map, padded, size.height, size.channels);
    const int64_t y = padded - BEFORE<K, S>;
    if (y < 0 || y >= size.height)
      return ring.clear_row(padded);
    const auto finish = [&](int64_t x, int64_t tall, int64_t column, int64_t wide) {
      for (int64_t c = 0; c < wide; c += N) {
        const Float<N> shift = load<N>(layers.expand_bias + column + c);
        float *to = ring.pixels(padded, column + c) + x * N;
        for (int64_t i = 0; i < tall; ++i)
          store<N>(to + i * N, relu6<N>(load<N>(tile + (i * wide + c)) + shift));
      }
    };
    product(map + y * size.width * size.inner, size.width, layers.expand, size.inner, size.channels, finish);
  }

  void project(int64_t columns, const T *residual, T *out) {
    const auto finish = [&](int64_t x, int64_t tall, int64_t column, int64_t wide) {
      const auto in_lanes = [&](auto lanes) {
        constexpr int M = decltype(lanes)::value;
        for (int64_t i = 0; i < tall; ++i)
          for (int64_t c = 0; c < wide; c += M) {
            const int64_t at = (x + i) * size.outer + column + c;
            Float<M> value = load<M>(tile + (i * wide + c)) + load<M>(layers.project_bias + column + c);
            if (residual != nullptr)
              value += load<M>(residual + at);
            store<M>(out + at, value);
          }
      };
      if (wide % 16 == 0)
        in_lanes(std::integral_constant<int, 16>{});
      else
        in_lanes(std::integral_constant<int, 8>{});
    };
    product(wide(), columns, layers.project, size.channels, size.outer, finish);
  }

  // rows (length, inner) times packed weights (columns, inner); finish(row, rows, column, columns) of every tile.
  template <class Finish>
  void product(const T *rows, int64_t length, const T *packed, int64_t inner, int64_t columns, Finish finish) {
    const int64_t height = blocks_of(length, blocks_of(length, PIXELS)), width = block_width<T>(columns);
    for (int64_t x = 0; x < length; x += height)
      for (int64_t column = 0; column < columns; column += width) {
        const int64_t tall = std::min(height, length - x), wide = std::min(width, columns - column);
        multiply<T>(tall, wide, inner, rows + x * inner, inner, packed + column * inner, wide, tile + 0, wide);
        finish(x, tall, column, wide);
      }
  }

  const BlockLayers<T> layers;
  const BlockSizes size;
  Ring<N, K, S> ring;
  Buffer tile, middle;
};

// out: (images, height / S, width / S, outer).
template <int N, int K, int S, class T>
bool inverted_residual(const T *maps, BlockLayers<T> layers, T *out, BlockSizes size, bool skips, int threads) {
  const int64_t rows = size.images * size.height / S;
  return on_threads<T>(threads, [&](int thread) {
    const int64_t begin = rows * thread / threads, end = rows * (thread + 1) / threads;
    if (begin < end)
      InvertedResidual<N, K, S, T>(layers, size).run(maps, out, skips, begin, end);
  });
}

} // namespace spd
