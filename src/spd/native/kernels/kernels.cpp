// What Python calls: every function by its type, with the widest vectors that divide the channels.
#include "canvas.h"
#include "deformable.h"
#include "depthwise.h"
#include "gelu.h"
#include "rows.h"

using spd::BFloat16;

// Widths of all networks that SPD builds are multiples of eight.
#define WIDEST(channels, call)                                                                                         \
  if ((channels) % 16 == 0) {                                                                                          \
    constexpr int N = 16;                                                                                              \
    call;                                                                                                              \
  } else {                                                                                                             \
    constexpr int N = 8;                                                                                               \
    call;                                                                                                              \
  }

#define EXPORT(T, suffix)                                                                                              \
  extern "C" void gelu_with_squares_##suffix(T *rows, float *squares, int64_t images, int64_t length,                  \
                                             int64_t channels, int threads) {                                          \
    WIDEST(channels, (spd::gelu_with_squares<N, T>(rows, squares, images, length, channels, threads)))                 \
  }                                                                                                                    \
  extern "C" void depthwise_norm_##suffix(const T *maps, const float *weights, const float *bias, const float *scale,  \
                                          const float *shift, float eps, T *out, int64_t images, int64_t height,       \
                                          int64_t width, int64_t channels, int threads) {                              \
    WIDEST(channels, (spd::depthwise_norm<N, T>(maps, weights, bias, scale, shift, eps, out, images, height, width,    \
                                                channels, threads)))                                                   \
  }                                                                                                                    \
  extern "C" void deformable_read_##suffix(const T *values, const int64_t *sizes, const float *references,             \
                                           const float *offsets, const float *scores, T *out, int64_t images,          \
                                           int64_t cells, int64_t queries, int64_t heads, int64_t width,               \
                                           int64_t levels, int64_t points, int threads) {                              \
    WIDEST(width, (spd::deformable_read<N, T>(values, sizes, references, offsets, scores, out, images, cells, queries, \
                                              heads, width, levels, points, threads)))                                 \
  }                                                                                                                    \
  extern "C" void weighted_rows_##suffix(const T *table, const int64_t *rows, const float *weights, T *out,            \
                                         int64_t reads, int64_t places, int64_t channels, int threads) {               \
    WIDEST(channels, (spd::weighted_rows<N, T>(table, rows, weights, out, reads, places, channels, threads)))          \
  }

EXPORT(float, float32)
EXPORT(BFloat16, bfloat16)

extern "C" void canvas_step_float32(const float *canvas, const float *written, const int64_t *cells,
                                    const float *shares, const float *weights1, const float *bias1,
                                    const float *weights2, const float *bias2, float *out, int64_t images,
                                    int64_t height, int64_t width, int64_t channels, int64_t queries, int64_t places,
                                    int threads) {
  WIDEST(channels, (spd::canvas_step<N>(canvas, written, cells, shares, weights1, bias1, weights2, bias2, out, images,
                                        height, width, channels, queries, places, threads)))
}
