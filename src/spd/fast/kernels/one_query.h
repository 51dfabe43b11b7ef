// Multi-head attention of one query: all it waits for are keys and values, which are read once, where they lie.
#pragma once

#include <vector>

#include "attention.h"
#include "few_rows.h"

namespace spd {

// As attention, without products.
template <int N, class T>
void one_query(Heads<T> query, Heads<T> key, Heads<T> value, T *out, int64_t images, int64_t heads, int64_t keys,
               int64_t width, int threads) {
  constexpr int64_t ALONE = 1 << 14; // So many numbers are read before another thread wakes.
  constexpr int64_t AHEAD = 16;      // A head has a piece of every key, which the processor alone fetches too late.
  const int used = images * keys * heads * width < ALONE ? 1 : threads;
  const int64_t total = images * heads; // Heads of all images are counted through.
  const float factor = 1 / std::sqrt(float(width));
#pragma omp parallel for num_threads(used) schedule(static)
  for (int thread = 0; thread < used; ++thread) {
    const int64_t first = total * thread / used, own = total * (thread + 1) / used - first;
    Buffer asked(own * width), weights(own * keys), read(own * width);
    std::vector<const T *> starts(own);
    // The pieces of a key lie next to each other.
    const auto every = [&](const Heads<T> &offered, auto work) {
      for (int64_t i = 0; i < own; ++i)
        starts[i] = offered.of((first + i) / heads, (first + i) % heads);
      for (int64_t n = 0; n < keys; ++n)
        for (int64_t i = 0; i < own; ++i) {
          const T *from = starts[i] + n * offered.per_row;
          for (int64_t c = 0; c < width; c += 64 / int64_t(sizeof(T)))
            __builtin_prefetch(from + AHEAD * offered.per_row + c);
          work(n, i, from);
        }
    };
    for (int64_t i = 0; i < own; ++i)
      for (int64_t c = 0; c < width; c += N) {
        store<N>(asked + (i * width + c), load<N>(query.of((first + i) / heads, (first + i) % heads) + c));
        store<N>(read + (i * width + c), fill<N>(0.0f));
      }
    every(key, [&](int64_t n, int64_t i, const T *from) {
      *(weights + (i * keys + n)) = dot<N>(from, asked + i * width, width);
    });
    for (int64_t i = 0; i < own; ++i) {
      float *of_head = weights + i * keys;
      const float share = 1 / exponentials<N>(of_head, factor, keys, of_head);
      for (int64_t n = 0; n < keys; ++n)
        of_head[n] *= share;
    }
    every(value, [&](int64_t n, int64_t i, const T *from) {
      const float weight = *(weights + (i * keys + n));
      for (int64_t c = 0; c < width; c += N) {
        float *to = read + (i * width + c);
        store<N>(to, load<N>(to) + load<N>(from + c) * weight);
      }
    });
    for (int64_t c = 0; c < own * width; c += N)
      store<N>(out + first * width + c, load<N>(read + c));
  }
}

} // namespace spd
