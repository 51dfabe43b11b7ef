// relu6(bias + depthwise convolution of relu6(x)), the middle of EfficientNet-Lite's blocks, and its gradient: neither
// clamped map is written. The rows that a row of the result reads are held as float32 between zeros.
#pragma once

#include <algorithm>

#include "simd.h"

namespace spd {

struct Relu6Maps {
  int64_t images, height, width, channels;
};

template <int N> inline Float<N> relu6(Float<N> x) {
  x = larger<N>(fill<N>(0.0f), x);
  const Float<N> six = fill<N>(6.0f);
  return x > six ? six : x;
}

// Zero where the clamp has no slope.
template <int N> inline Float<N> where_free(Float<N> clamped, Float<N> values) {
  return clamped > fill<N>(0.0f) && clamped < fill<N>(6.0f) ? values : fill<N>(0.0f);
}

// TensorFlow's SAME: of the padding, the half that is rounded down comes before. Even sides only where S is 2.
template <int K, int S> constexpr int64_t BEFORE = (K - S) / 2;

// K rows of a map as float32 between zeros, (channels / N, K, padded pixels, N); row y of the padded map lies at y mod K.
template <int N, int K, int S> class Ring {
public:
  explicit Ring(int64_t width, int64_t channels = N)
      : width(width), channels(channels), length((width + K) * N), rows(channels / N * K * length) {
    std::fill_n(rows + 0, channels / N * K * length, 0.0f);
  }

  // Of the chunk of channels that begins at c.
  float *row(int64_t padded, int64_t c = 0) { return rows + (c / N * K + padded % K) * length; }
  // Of pixel 0 of the map.
  float *pixels(int64_t padded, int64_t c = 0) { return row(padded, c) + BEFORE<K, S> * N; }

  void clear_row(int64_t padded) {
    for (int64_t c = 0; c < channels; c += N)
      std::fill_n(row(padded, c), length, 0.0f);
  }

  // The clamped row of a map of so many channels, which lie innermost; zeros beyond the map.
  template <class T> void take(const T *map, int64_t padded, int64_t height, int64_t all_channels) {
    constexpr int64_t PIXELS = 16; // Enough in a row to be written quickly.
    const int64_t y = padded - BEFORE<K, S>;
    if (y < 0 || y >= height)
      return clear_row(padded);
    const T *from = map + y * width * all_channels;
    for (int64_t first = 0; first < width; first += PIXELS)
      for (int64_t c = 0; c < channels; c += N) {
        float *to = pixels(padded, c);
        for (int64_t x = first; x < std::min(width, first + PIXELS); ++x)
          store<N>(to + x * N, relu6<N>(load<N>(from + x * all_channels + c)));
      }
  }

  // Row y of the result, for as many channels as are held of all_channels. taps: (K·K, all_channels).
  template <class T>
  void convolve(int64_t y, const float *taps, const float *bias, int64_t all_channels, T *out) {
    for (int64_t c = 0; c < channels; c += N) {
      Float<N> of_tap[K * K];
      for (int tap = 0; tap < K * K; ++tap)
        of_tap[tap] = load<N>(taps + tap * all_channels + c);
      const Float<N> start = load<N>(bias + c);
      const float *from[K];
      for (int i = 0; i < K; ++i)
        from[i] = row(y * S + i, c);
      for (int64_t x = 0; x < width / S; ++x) {
        // Two sums, so that an addition does not wait for the one before it.
        Float<N> sums[2] = {start, fill<N>(0.0f)};
#pragma GCC unroll 25
        for (int tap = 0; tap < K * K; ++tap)
          sums[tap % 2] += of_tap[tap] * load<N>(from[tap / K] + (x * S + tap % K) * N);
        store<N>(out + x * all_channels + c, relu6<N>(sums[0] + sums[1]));
      }
    }
  }

private:
  const int64_t width, channels, length;
  Buffer rows;
};

// taps: (K·K, channels). out: (images, height / S, width / S, channels).
template <int N, int K, int S, class T>
void relu6_depthwise(const T *maps, const float *taps, const float *bias, T *out, Relu6Maps size, int threads) {
  constexpr int64_t HELD = 1 << 16; // Floats, of which a processor's second cache has room for more.
  const int64_t channels = size.channels, rows = size.height / S, columns = size.width / S;
  const int64_t most = std::max<int64_t>(1, HELD / (K * (size.width + K) * N)) * N;
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int thread = 0; thread < threads; ++thread) {
    // Rows of the results of all images are counted through.
    const int64_t begin = size.images * rows * thread / threads, end = size.images * rows * (thread + 1) / threads;
    for (int64_t c = 0; c < channels && begin < end; c += most) {
      Ring<N, K, S> ring(size.width, std::min(most, channels - c));
      for (int64_t at = begin, taken = 0; at < end; ++at) {
        const int64_t image = at / rows, y = at % rows;
        if (at == begin || y == 0)
          taken = y * S;
        for (; taken < y * S + K; ++taken)
          ring.take(maps + image * size.height * size.width * channels + c, taken, size.height, channels);
        ring.convolve(y, taps + c, bias + c, channels, out + at * columns * channels + c);
      }
    }
  }
}

// The gradient of a chunk of channels of one image, and what it adds to that of the taps and the bias.
template <int N, int K, int S, class T> class Relu6DepthwiseGradient {
public:
  Relu6DepthwiseGradient(Relu6Maps size)
      : size(size), inputs(size.width), gradients(size.width), slopes(size.width / S * N) {}

  // grad_out, out: of the result. grad: of the map, written. All begin at the chunk's first channel.
  void run(const T *map, const T *out, const T *grad_out, const float *taps, T *grad, Float<N> *grad_taps,
           Float<N> &grad_bias) {
    const int64_t channels = size.channels, rows = size.height / S, columns = size.width / S;
    int64_t taken = 0;
    for (int64_t y = 0; y < rows; ++y) {
      for (; taken < y * S + K; ++taken) {
        inputs.template take<T>(map, taken, size.height, channels);
        gradients.clear_row(taken);
      }
      for (int64_t x = 0; x < columns; ++x) {
        const int64_t at = (y * columns + x) * channels;
        const Float<N> slope = where_free<N>(load<N>(out + at), load<N>(grad_out + at));
        grad_bias += slope;
        store<N>(slopes + x * N, slope);
      }
      of_taps(y, columns, grad_taps);
      of_map(y, columns, taps);
      // Later rows of the result add nothing to these.
      for (int64_t padded = y * S; padded < (y + 1) * S; ++padded)
        write(padded, grad);
    }
    for (int64_t padded = rows * S; padded < rows * S + K - S; ++padded)
      write(padded, grad);
  }

private:
  // Row by row of the kernel: its sums and its taps stay in registers.
  void of_taps(int64_t y, int64_t columns, Float<N> *grad_taps) {
    for (int row = 0; row < K; ++row) {
      const float *from = inputs.row(y * S + row);
      Float<N> sums[K];
      for (int i = 0; i < K; ++i)
        sums[i] = grad_taps[row * K + i];
      for (int64_t x = 0; x < columns; ++x) {
        const Float<N> slope = load<N>(slopes + x * N);
#pragma GCC unroll 5
        for (int i = 0; i < K; ++i)
          sums[i] += slope * load<N>(from + (x * S + i) * N);
      }
      for (int i = 0; i < K; ++i)
        grad_taps[row * K + i] = sums[i];
    }
  }

  void of_map(int64_t y, int64_t columns, const float *taps) {
    for (int row = 0; row < K; ++row) {
      float *to = gradients.row(y * S + row);
      Float<N> of_tap[K];
      for (int i = 0; i < K; ++i)
        of_tap[i] = load<N>(taps + (row * K + i) * size.channels);
      // The pixels that later columns add to as well wait in registers.
      Float<N> waiting[K];
      for (int i = 0; i < K; ++i)
        waiting[i] = load<N>(to + i * N);
      for (int64_t x = 0; x < columns; ++x) {
        const Float<N> slope = load<N>(slopes + x * N);
#pragma GCC unroll 5
        for (int i = 0; i < K; ++i)
          waiting[i] += slope * of_tap[i];
#pragma GCC unroll 2
        for (int i = 0; i < S; ++i)
          store<N>(to + (x * S + i) * N, waiting[i]);
#pragma GCC unroll 5
        for (int i = 0; i < K - S; ++i)
          waiting[i] = waiting[i + S];
#pragma GCC unroll 2
        for (int i = K - S; i < K; ++i)
          waiting[i] = load<N>(to + ((x + 1) * S + i) * N);
      }
      for (int i = 0; i < K - S; ++i)
        store<N>(to + (columns * S + i) * N, waiting[i]);
    }
  }

  void write(int64_t padded, T *grad) {
    const int64_t y = padded - BEFORE<K, S>;
    if (y < 0 || y >= size.height)
      return;
    const float *of_row = gradients.pixels(padded), *clamped = inputs.pixels(padded);
    T *to = grad + y * size.width * size.channels;
    for (int64_t x = 0; x < size.width; ++x)
      store<N>(to + x * size.channels, where_free<N>(load<N>(clamped + x * N), load<N>(of_row + x * N)));
  }

  const Relu6Maps size;
  Ring<N, K, S> inputs, gradients;
  Buffer slopes;
};

// grad_taps: (K·K, channels). grad_bias: (channels). A thread has whole channels: nothing is shared.
template <int N, int K, int S, class T>
void relu6_depthwise_gradient(const T *maps, const T *out, const T *grad_out, const float *taps, T *grad,
                              float *grad_taps, float *grad_bias, Relu6Maps size, int threads) {
  const int64_t channels = size.channels, chunks = channels / N;
  const int64_t cells = size.height * size.width * channels, results = cells / (S * S);
#pragma omp parallel num_threads(threads)
  {
    Relu6DepthwiseGradient<N, K, S, T> gradient(size);
#pragma omp for schedule(static)
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
      const int64_t c = chunk * N;
      Float<N> of_taps[K * K] = {}, of_bias = fill<N>(0.0f);
      for (int64_t image = 0; image < size.images; ++image)
        gradient.run(maps + image * cells + c, out + image * results + c, grad_out + image * results + c, taps + c,
                     grad + image * cells + c, of_taps, of_bias);
      for (int tap = 0; tap < K * K; ++tap)
        store<N>(grad_taps + tap * channels + c, of_taps[tap]);
      store<N>(grad_bias + c, of_bias);
    }
  }
}

} // namespace spd
