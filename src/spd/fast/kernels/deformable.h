// Deformable attention: every head of every query reads a few points of a few maps, bilinearly.
#pragma once

#include <algorithm>

#include "gelu.h"

namespace spd {

constexpr int LANES = 8;

// The softmax of scores in their place; beyond size, up to a multiple of eight, they are free.
inline void softmax(float *scores, int64_t size) {
  constexpr float LOG2_E = 1.442695041f, LEAST = -126.0f; // 2^LEAST is the least normal number.
  float most = scores[0], total = 0.0f;
  for (int64_t i = 1; i < size; ++i)
    most = std::max(most, scores[i]);
  for (int64_t i = 0; i < size; i += LANES) {
    const Float<LANES> power = (load<LANES>(scores + i) - most) * LOG2_E;
    // Compared this way round what is no number stays none.
    store<LANES>(scores + i, exp2<LANES, float>(power < LEAST ? fill<LANES>(LEAST) : power));
  }
  for (int64_t i = 0; i < size; ++i)
    total += scores[i];
  for (int64_t i = 0; i < size; ++i)
    scores[i] /= total;
}

// One axis of a bilinear read, clamped to the border: the cell before the position, and the share of the one behind.
struct Between {
  int64_t cell, step;
  float share;

  Between(float position, int64_t size) {
    const float last = size - 1;
    const float inside = position < 0 ? 0.0f : position > last ? last : position;
    // A position that is no number reads the first cells with a share that is none.
    cell = inside >= 1 ? std::min<int64_t>(inside, std::max<int64_t>(size - 2, 0)) : 0;
    step = size > 1;
    share = inside - cell;
  }
};

// values: (images, all cells of all levels, heads · width). sizes: (levels, 2), height and width. references: (images,
// queries, levels, 2), xy in cells; offsets: (images, queries, heads, levels, points, 2), to be added; scores: (images,
// queries, heads, levels · points). out: (images, queries, heads · width).
template <int N, class T>
void deformable_read(const T *values, const int64_t *sizes, const float *references, const float *offsets,
                     const float *scores, T *out, int64_t images, int64_t cells, int64_t queries, int64_t heads,
                     int64_t width, int64_t levels, int64_t points, int threads) {
  const int64_t samples = levels * points, channels = heads * width;
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int thread = 0; thread < threads; ++thread) {
    Buffer weights((samples + LANES - 1) / LANES * LANES), read(width);
    const int64_t total = images * queries * heads; // Heads of all queries of all images are counted through.
    for (int64_t head = total * thread / threads; head < total * (thread + 1) / threads; ++head) {
      const int64_t query = head / heads, image = query / queries;
      std::copy_n(scores + head * samples, samples, weights + 0);
      softmax(weights + 0, samples);
      std::fill_n(read + 0, width, 0.0f);
      const T *map = values + image * cells * channels + head % heads * width;
      for (int64_t level = 0; level < levels; ++level) {
        const int64_t rows = sizes[2 * level], columns = sizes[2 * level + 1];
        const float *reference = references + (query * levels + level) * 2;
        for (int64_t point = 0; point < points; ++point) {
          const int64_t sample = level * points + point;
          const float *offset = offsets + (head * samples + sample) * 2;
          const Between x(reference[0] + offset[0], columns), y(reference[1] + offset[1], rows);
          const float weight = *(weights + sample), below = weight * y.share, above = weight - below;
          const T *top = map + (y.cell * columns + x.cell) * channels, *bottom = top + y.step * columns * channels;
          const int64_t right = x.step * channels;
          for (int64_t c = 0; c < width; c += N) {
            const Float<N> upper = load<N>(top + c) * (above - above * x.share) + load<N>(top + right + c) * (above * x.share);
            const Float<N> lower =
                load<N>(bottom + c) * (below - below * x.share) + load<N>(bottom + right + c) * (below * x.share);
            store<N>(read + c, load<N>(read + c) + upper + lower);
          }
        }
        map += rows * columns * channels;
      }
      for (int64_t c = 0; c < width; c += N)
        store<N>(out + head * width + c, load<N>(read + c));
    }
  }
}

} // namespace spd
