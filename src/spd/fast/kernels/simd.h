// Vectors of floats by the compiler's own vector types (GCC, Clang): it chooses the instructions of the machine.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <new>

#ifdef __AVX512F__
#include <immintrin.h>
#endif

namespace spd {

// 16 floats are one register of AVX-512, two of AVX2, four of NEON.
template <int N> struct Lanes {
  typedef float Float __attribute__((vector_size(4 * N)));
  typedef uint32_t Bits __attribute__((vector_size(4 * N)));
  typedef uint16_t Half __attribute__((vector_size(2 * N)));
};

template <int N> using Float = typename Lanes<N>::Float;

// Memory that begins where a cache line does, so that no vector lies across two; what it holds is arbitrary.
class Buffer {
public:
  explicit Buffer(int64_t size) : values(new (ALIGNMENT) float[size]) {}
  ~Buffer() { ::operator delete[](values, ALIGNMENT); }
  Buffer(const Buffer &) = delete;
  Buffer &operator=(const Buffer &) = delete;
  float *operator+(int64_t offset) { return values + offset; }

private:
  static constexpr std::align_val_t ALIGNMENT{64};
  float *values;
};

// The upper half of a float32.
struct BFloat16 {
  uint16_t bits;
};

// Lanes of a and b by their numbers, those of b counted on from N.
template <int N>
inline auto shuffle(typename Lanes<N>::Bits a, typename Lanes<N>::Bits b, typename Lanes<N>::Bits lanes) {
#ifdef __clang__
  typename Lanes<N>::Bits chosen;
  for (int i = 0; i < N; ++i)
    chosen[i] = lanes[i] < N ? a[lanes[i]] : b[lanes[i] - N];
  return chosen;
#else
  return __builtin_shuffle(a, b, lanes);
#endif
}

template <int N> inline Float<N> load(const float *from) {
  Float<N> values;
  std::memcpy(&values, from, sizeof values);
  return values;
}

template <int N> inline Float<N> load(const BFloat16 *from) {
#ifdef __AVX512F__
  // GCC splits this conversion in two.
  if constexpr (N == 16)
    return (Float<N>)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)from)), 16);
#endif
  typename Lanes<N>::Half half;
  std::memcpy(&half, from, sizeof half);
  return (Float<N>)(__builtin_convertvector(half, typename Lanes<N>::Bits) << 16);
}

template <int N> inline void store(float *to, Float<N> values) { std::memcpy(to, &values, sizeof values); }

// The bits of the nearest bfloat16, ties to even, as PyTorch rounds; what is no number stays none.
template <int N> inline auto rounded(Float<N> values) {
  using Bits = typename Lanes<N>::Bits;
  const Bits bits = (Bits)values;
  const Bits nearest = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  return values == values ? nearest : (bits >> 16) | 0x40;
}

template <int N> inline void store(BFloat16 *to, Float<N> values) {
#if defined(__AVX512BF16__) && defined(__AVX512VL__)
  if constexpr (N == 16) {
    const __m256bh half = _mm512_cvtneps_pbh((__m512)values);
    std::memcpy(to, &half, sizeof half);
    return;
  }
#endif
  const auto half = __builtin_convertvector(rounded<N>(values), typename Lanes<N>::Half);
  std::memcpy(to, &half, sizeof half);
}

template <int N> inline Float<N> fill(float value) { return Float<N>{} + value; }

// The smaller of |x| and a positive bound, which as integers are in the same order; of no number, the bound.
template <int N> inline Float<N> bounded(Float<N> x, float bound) {
  using Bits = typename Lanes<N>::Bits;
  const Bits size = (Bits)x & 0x7fffffffu, most = (Bits)fill<N>(bound);
  return (Float<N>)(size < most ? size : most);
}

// The larger; what is no number in x stays none.
template <int N> inline Float<N> larger(Float<N> bound, Float<N> x) {
#ifdef __AVX512F__
  // GCC compares and chooses, since the two might be zeros of either sign.
  if constexpr (N == 16)
    return (Float<N>)_mm512_max_ps((__m512)bound, (__m512)x);
#endif
  return x < bound ? bound : x;
}

// By halves, so that no addition waits for more than three others.
template <int N> inline float sum(Float<N> x) {
  if constexpr (N == 2) {
    return x[0] + x[1];
  } else {
    Float<N / 2> halves[2];
    std::memcpy(halves, &x, sizeof x);
    return sum<N / 2>(halves[0] + halves[1]);
  }
}

// c[0] + c[1] x + c[2] x² + …
template <int N, int Terms> inline Float<N> polynomial(Float<N> x, const float (&c)[Terms]) {
  Float<N> value = fill<N>(c[Terms - 1]);
#pragma GCC unroll 16
  for (int i = Terms - 2; i >= 0; --i)
    value = value * x + c[i];
  return value;
}

} // namespace spd
