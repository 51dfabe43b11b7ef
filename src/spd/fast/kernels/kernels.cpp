// What Python calls: every function by its type, with the widest vectors that divide the channels.
#include "attention.h"
#include "canvas.h"
#include "deformable.h"
#include "depthwise.h"
#include "few_rows.h"
#include "gelu.h"
#include "inverted_residual.h"
#include "linear.h"
#include "one_query.h"
#include "relu6_depthwise.h"
#include "rows.h"

using spd::BFloat16;

// Widths of all networks that SPD builds are multiples of eight.
#define WIDEST(channels, call)                                                                                         \
  if ((channels) % 16 == 0) {                                                                                          \
    constexpr int N = 16;                                                                                              \
    return call;                                                                                                       \
  } else {                                                                                                             \
    constexpr int N = 8;                                                                                               \
    return call;                                                                                                       \
  }

#define WIDEST_OF_KERNEL(channels, choose)                                                                             \
  if ((channels) % 16 == 0) {                                                                                          \
    constexpr int N = 16;                                                                                              \
    choose                                                                                                             \
  } else {                                                                                                             \
    constexpr int N = 8;                                                                                               \
    choose                                                                                                             \
  }

// The kernels and strides of EfficientNet-Lite.
#define KERNEL_AND_STRIDE(kernel, stride, call)                                                                        \
  if ((kernel) == 3 && (stride) == 1) {                                                                                \
    constexpr int K = 3, S = 1;                                                                                        \
    call;                                                                                                              \
  } else if ((kernel) == 3) {                                                                                          \
    constexpr int K = 3, S = 2;                                                                                        \
    call;                                                                                                              \
  } else if ((stride) == 1) {                                                                                          \
    constexpr int K = 5, S = 1;                                                                                        \
    call;                                                                                                              \
  } else {                                                                                                             \
    constexpr int K = 5, S = 2;                                                                                        \
    call;                                                                                                              \
  }

// The kernels of products that PyTorch exports; true if they multiply.
template <class T> static bool multiplies() {
  constexpr int64_t SIZE = 16;
  T ones[SIZE * SIZE];
  float found[SIZE * SIZE] = {};
  for (T &one : ones)
    spd::store<1>(&one, spd::fill<1>(1.0f));
  const bool done = spd::on_threads<T>(
      1, [&](int) { spd::multiply<T>(SIZE, SIZE, SIZE, ones, SIZE, ones, SIZE, found, SIZE); });
  return done && found[0] == SIZE && found[SIZE * SIZE - 1] == SIZE;
}

extern "C" bool take_products_float32(spd::Multiply<float> multiply, void (*release)(bool)) {
  spd::products.of_float32 = multiply;
  spd::products.release = release;
  return multiplies<float>();
}

extern "C" bool take_products_bfloat16(spd::Multiply<BFloat16> multiply, void (*release)(bool)) {
  spd::products.of_bfloat16 = multiply;
  spd::products.release = release;
  return multiplies<BFloat16>();
}

template <class T> static spd::Heads<T> heads_of(const T *values, const int64_t *strides) {
  return {values, strides[0], strides[1], strides[2]};
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
  }                                                                                                                    \
  extern "C" void weighted_rows_gradient_##suffix(                                                                     \
      const T *table, const int64_t *rows, const float *weights, const T *grad, float *grad_table,                     \
      float *grad_weights, int64_t length, int64_t reads, int64_t places, int64_t channels, int threads) {             \
    WIDEST(channels, (spd::weighted_rows_gradient<N, T>(table, rows, weights, grad, grad_table, grad_weights, length,  \
                                                        reads, places, channels, threads)))                            \
  }                                                                                                                    \
  extern "C" void few_rows_##suffix(const T *rows, const T *weights, const T *bias, const T *residual, T *out,         \
                                    int64_t length, int64_t inner, int64_t columns, int64_t with_gelu, int threads) {  \
    WIDEST(columns | inner,                                                                                            \
           (spd::few_rows<N, T>(rows, weights, bias, residual, out, length, inner, columns, with_gelu, threads)))      \
  }                                                                                                                    \
  extern "C" void pack_##suffix(const T *weights, T *packed, int64_t columns, int64_t inner, int threads) {            \
    spd::pack(weights, packed, columns, inner, threads);                                                               \
  }                                                                                                                    \
  extern "C" bool linear_##suffix(const T *rows, const T *packed, const T *bias, const T *residual, T *out,            \
                                  int64_t length, int64_t inner, int64_t columns, int64_t with_gelu, int threads) {    \
    WIDEST(columns, (spd::linear<N, T>(rows, packed, bias, residual, out, length, inner, columns, with_gelu, threads))) \
  }                                                                                                                    \
  extern "C" bool fc1_##suffix(const T *rows, const T *packed, const T *bias, T *out, float *squares,                  \
                                 int64_t images, int64_t length, int64_t inner, int64_t columns, int threads) {        \
    WIDEST(columns, (spd::fc1<N, T>(rows, packed, bias, out, squares, images, length, inner, columns, threads)))       \
  }                                                                                                                    \
  extern "C" bool fc2_##suffix(const T *rows, const float *squares, const float *gamma, const float *beta,             \
                                  float eps, const T *packed, const T *bias, const T *residual, T *out, int64_t images, \
                                  int64_t length, int64_t inner, int64_t columns, int threads) {                       \
    WIDEST(columns | inner, (spd::fc2<N, T>(rows, squares, gamma, beta, eps, packed, bias, residual, out, images,      \
                                               length, inner, columns, threads)))                                      \
  }                                                                                                                    \
  extern "C" bool attention_##suffix(const T *query, const T *key, const T *value, T *out, const int64_t *strides,     \
                                     int64_t images, int64_t heads, int64_t queries, int64_t keys, int64_t width,      \
                                     int threads) {                                                                    \
    WIDEST(width, (spd::attention<N, T>(heads_of(query, strides), heads_of(key, strides + 3),                          \
                                        heads_of(value, strides + 6), out, images, heads, queries, keys, width,        \
                                        threads)))                                                                     \
  }                                                                                                                    \
  extern "C" void one_query_##suffix(const T *query, const T *key, const T *value, T *out, const int64_t *strides,     \
                                     int64_t images, int64_t heads, int64_t keys, int64_t width, int threads) {        \
    WIDEST(width, (spd::one_query<N, T>(heads_of(query, strides), heads_of(key, strides + 3),                          \
                                        heads_of(value, strides + 6), out, images, heads, keys, width, threads)))      \
  }

#define EXPORT_RELU6(T, suffix)                                                                                        \
  extern "C" void relu6_depthwise_##suffix(const T *maps, const float *taps, const float *bias, T *out, int64_t images, \
                                           int64_t height, int64_t width, int64_t channels, int64_t kernel,            \
                                           int64_t stride, int threads) {                                              \
    const spd::Relu6Maps size{images, height, width, channels};                                                        \
    WIDEST_OF_KERNEL(channels, KERNEL_AND_STRIDE(kernel, stride,                                                       \
                                       (spd::relu6_depthwise<N, K, S, T>(maps, taps, bias, out, size, threads))))      \
  }                                                                                                                    \
  extern "C" void relu6_depthwise_gradient_##suffix(                                                                   \
      const T *maps, const T *out, const T *grad_out, const float *taps, T *grad, float *grad_taps, float *grad_bias,  \
      int64_t images, int64_t height, int64_t width, int64_t channels, int64_t kernel, int64_t stride, int threads) {  \
    const spd::Relu6Maps size{images, height, width, channels};                                                        \
    WIDEST_OF_KERNEL(channels,                                                                                         \
           KERNEL_AND_STRIDE(kernel, stride, (spd::relu6_depthwise_gradient<N, K, S, T>(                               \
                                                 maps, out, grad_out, taps, grad, grad_taps, grad_bias, size, threads)))) \
  }

#define EXPORT_INVERTED_RESIDUAL(T, suffix)                                                                            \
  extern "C" bool inverted_residual_##suffix(                                                                          \
      const T *maps, const T *expand, const T *expand_bias, const float *taps, const float *bias, const T *project,    \
      const T *project_bias, T *out, int64_t images, int64_t height, int64_t width, int64_t inner, int64_t channels,   \
      int64_t outer, int64_t kernel, int64_t stride, int64_t skips, int threads) {                                     \
    const spd::BlockSizes size{images, height, width, inner, channels, outer};                                         \
    const spd::BlockLayers<T> layers{expand, expand_bias, taps, bias, project, project_bias};                          \
    WIDEST_OF_KERNEL(channels,                                                                                         \
                     KERNEL_AND_STRIDE(kernel, stride, return (spd::inverted_residual<N, K, S, T>(                     \
                                                           maps, layers, out, size, skips, threads))))                 \
  }

EXPORT(float, float32)
EXPORT(BFloat16, bfloat16)
EXPORT_RELU6(float, float32)
EXPORT_RELU6(BFloat16, bfloat16)
EXPORT_INVERTED_RESIDUAL(float, float32)
EXPORT_INVERTED_RESIDUAL(BFloat16, bfloat16)

extern "C" void canvas_step_float32(const float *canvas, const float *written, const int64_t *cells,
                                    const float *shares, const float *weights1, const float *bias1,
                                    const float *weights2, const float *bias2, float *out, int64_t images,
                                    int64_t height, int64_t width, int64_t channels, int64_t queries, int64_t places,
                                    int threads) {
  WIDEST(channels, (spd::canvas_step<N>(canvas, written, cells, shares, weights1, bias1, weights2, bias2, out, images,
                                        height, width, channels, queries, places, threads)))
}
