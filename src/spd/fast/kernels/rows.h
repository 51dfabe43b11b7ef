// Weighted sums of the rows of a table, every bilinear read, and their gradient.
#pragma once

#include "simd.h"

namespace spd {

// table: (any number, channels). rows, weights: (reads, places). out: (reads, channels).
template <int N, class T>
void weighted_rows(const T *table, const int64_t *rows, const float *weights, T *out, int64_t reads, int64_t places,
                   int64_t channels, int threads) {
  // A few reads take less time than to wake a thread.
  const int used = reads < 128 ? 1 : threads;
#pragma omp parallel for num_threads(used) schedule(static)
  for (int64_t read = 0; read < reads; ++read)
    for (int64_t c = 0; c < channels; c += N) {
      Float<N> sum = fill<N>(0.0f);
      for (int64_t place = read * places; place < (read + 1) * places; ++place)
        sum += load<N>(table + rows[place] * channels + c) * weights[place];
      store<N>(out + read * channels + c, sum);
    }
}

// The gradient of weighted_rows: of the table, to whose zeros it is added, and of the weights, written. Both in float32:
// a row of a coarse map is read thousands of times. A thread has the reads of some of the table's rows, so that a sum has
// one order whatever the number of threads.
template <int N, class T>
void weighted_rows_gradient(const T *table, const int64_t *rows, const float *weights, const T *grad, float *grad_table,
                            float *grad_weights, int64_t length, int64_t reads, int64_t places, int64_t channels,
                            int threads) {
  const int used = reads < 128 ? 1 : threads;
#pragma omp parallel for num_threads(used) schedule(static)
  for (int thread = 0; thread < used; ++thread) {
    const int64_t first = length * thread / used, end = length * (thread + 1) / used;
    for (int64_t read = 0; read < reads; ++read) {
      const T *slope = grad + read * channels;
      for (int64_t place = read * places; place < (read + 1) * places; ++place) {
        const int64_t row = rows[place];
        if (row < first || row >= end)
          continue;
        const T *values = table + row * channels;
        float *to = grad_table + row * channels;
        Float<N> product = fill<N>(0.0f);
        for (int64_t c = 0; c < channels; c += N) {
          const Float<N> of_chunk = load<N>(slope + c);
          product += of_chunk * load<N>(values + c);
          store<N>(to + c, load<N>(to + c) + of_chunk * weights[place]);
        }
        grad_weights[place] = sum<N>(product);
      }
    }
  }
}

} // namespace spd
