// Weighted sums of the rows of a table: every bilinear read.
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

} // namespace spd
