// Vectors of one register, and the few functions the scan needs on them.
//
// Each instruction set compiles this header in a file of its own (see
// selective_scan_avx512.cpp and its neighbours), inside a namespace of its own:
// MMADAPTOR_ISA names it and MMADAPTOR_VECTOR_BYTES is its register's width.
// The vector types are the compiler's own (GCC and Clang, any processor).
#pragma once

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define MMADAPTOR_INLINE inline __attribute__((always_inline))

namespace mmadaptor::MMADAPTOR_ISA {

template <typename T>
struct Simd;

template <>
struct Simd<float> {
  typedef float Vec __attribute__((vector_size(MMADAPTOR_VECTOR_BYTES)));
  typedef int32_t Bits __attribute__((vector_size(MMADAPTOR_VECTOR_BYTES)));
  static constexpr int width = MMADAPTOR_VECTOR_BYTES / sizeof(float);
};

template <>
struct Simd<double> {
  typedef double Vec __attribute__((vector_size(MMADAPTOR_VECTOR_BYTES)));
  typedef int64_t Bits __attribute__((vector_size(MMADAPTOR_VECTOR_BYTES)));
  static constexpr int width = MMADAPTOR_VECTOR_BYTES / sizeof(double);
};

template <typename T>
using Vec = typename Simd<T>::Vec;

template <typename T>
MMADAPTOR_INLINE Vec<T> splat(T value) {
  return value - Vec<T>{};  // plus would turn -0 into 0, so it is not optimised away
}

template <typename T>
MMADAPTOR_INLINE Vec<T> load(const T* source) {
  Vec<T> v;
  std::memcpy(&v, source, sizeof(v));
  return v;
}

template <typename T>
MMADAPTOR_INLINE void store(T* target, Vec<T> v) {
  std::memcpy(target, &v, sizeof(v));
}

#if MMADAPTOR_VECTOR_BYTES >= 32
typedef uint16_t Words __attribute__((vector_size(MMADAPTOR_VECTOR_BYTES / 2)));
typedef uint32_t DoubleWords __attribute__((vector_size(MMADAPTOR_VECTOR_BYTES)));

MMADAPTOR_INLINE Vec<float> widen(const c10::BFloat16* source) {
  Words words;
  std::memcpy(&words, source, sizeof(words));
  return (Vec<float>)(__builtin_convertvector(words, DoubleWords) << 16);
}

// Rounded to nearest even; the rounding of a NaN could make it an infinity.
MMADAPTOR_INLINE void narrow(c10::BFloat16* target, Vec<float> v) {
  const DoubleWords bits = (DoubleWords)v;
  const DoubleWords rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  const Words words =
      __builtin_convertvector(v == v ? rounded : DoubleWords{} + 0x7fc0, Words);
  std::memcpy(target, &words, sizeof(words));
}

MMADAPTOR_INLINE Vec<float> widen(const c10::Half* source) {
#if MMADAPTOR_VECTOR_BYTES == 64
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(source)));
#else
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(source)));
#endif
}

MMADAPTOR_INLINE void narrow(c10::Half* target, Vec<float> v) {
#if MMADAPTOR_VECTOR_BYTES == 64
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(target),
                      _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
#else
  _mm_storeu_si128(reinterpret_cast<__m128i*>(target),
                   _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
#endif
}
#endif

template <typename T, typename scalar_t>
constexpr bool converts_whole_vectors =
    MMADAPTOR_VECTOR_BYTES >= 32 && std::is_same_v<T, float> && sizeof(scalar_t) == 2;

// The first `count` of a vector's lanes from memory of another type; the rest 0.
template <typename T, typename scalar_t>
MMADAPTOR_INLINE Vec<T> load_as(const scalar_t* source, int count) {
  constexpr int width = Simd<T>::width;
  alignas(MMADAPTOR_VECTOR_BYTES) T lanes[width];
  if (count == width) {
    if constexpr (std::is_same_v<T, scalar_t>) return load(source);
    if constexpr (converts_whole_vectors<T, scalar_t>) return widen(source);
    for (int i = 0; i < width; ++i) lanes[i] = static_cast<T>(source[i]);
  } else {
    for (int i = 0; i < width; ++i) lanes[i] = i < count ? static_cast<T>(source[i]) : T(0);
  }
  return load(lanes);
}

template <typename T, typename scalar_t>
MMADAPTOR_INLINE void store_as(scalar_t* target, Vec<T> v, int count) {
  constexpr int width = Simd<T>::width;
  alignas(MMADAPTOR_VECTOR_BYTES) T lanes[width];
  if (count == width) {
    if constexpr (std::is_same_v<T, scalar_t>) return store<T>(target, v);
    if constexpr (converts_whole_vectors<T, scalar_t>) return narrow(target, v);
    store<T>(lanes, v);
    for (int i = 0; i < width; ++i) target[i] = static_cast<scalar_t>(lanes[i]);
  } else {
    store<T>(lanes, v);
    for (int i = 0; i < count; ++i) target[i] = static_cast<scalar_t>(lanes[i]);
  }
}

// a0 b0 a1 b1 ... of the lower (part 0) or the upper (part 1) halves.
template <int part, typename V, std::size_t... lane>
MMADAPTOR_INLINE V interleave(V a, V b, std::index_sequence<lane...>) {
  constexpr std::size_t width = sizeof...(lane);
  return __builtin_shufflevector(
      a, b, (part * width / 2 + lane / 2 + (lane % 2) * width)...);
}

// Transposes a square of `width` rows: each pass is a perfect shuffle of all
// rows, and log2(width) of them exchange row and lane. Unrolled, so that the
// rows stay in registers.
template <typename T, int pass = 1>
MMADAPTOR_INLINE void transpose(Vec<T>* rows) {
  constexpr int width = Simd<T>::width;
  constexpr auto lanes = std::make_index_sequence<width>{};
  if constexpr (pass < width) {
    Vec<T> next[width];
#pragma GCC unroll 16
    for (int i = 0; i < width / 2; ++i) {
      next[2 * i] = interleave<0>(rows[i], rows[i + width / 2], lanes);
      next[2 * i + 1] = interleave<1>(rows[i], rows[i + width / 2], lanes);
    }
    transpose<T, pass * 2>(next);
#pragma GCC unroll 16
    for (int i = 0; i < width; ++i) rows[i] = next[i];
  }
}

// Every second lane of the two, from the first (odd 0) or the second (odd 1) on.
template <int odd, typename V, std::size_t... lane>
MMADAPTOR_INLINE V every_second(V a, V b, std::index_sequence<lane...>) {
  return __builtin_shufflevector(a, b, (2 * lane + odd)...);
}

// The sum over each row's lanes: that of rows[i] in lane i. Each level adds
// neighbours, and leaves half as many rows.
template <typename T, int count = Simd<T>::width>
MMADAPTOR_INLINE Vec<T> lane_sums(const Vec<T>* rows) {
  constexpr auto lanes = std::make_index_sequence<Simd<T>::width>{};
  if constexpr (count == 1) {
    return rows[0];
  } else {
    Vec<T> half[count / 2];
#pragma GCC unroll 16
    for (int i = 0; i < count / 2; ++i)
      half[i] = every_second<0>(rows[2 * i], rows[2 * i + 1], lanes) +
                every_second<1>(rows[2 * i], rows[2 * i + 1], lanes);
    return lane_sums<T, count / 2>(half);
  }
}

// 2^x = 2^floor(x) 2^r. float: within 1.5 ulp by a minimax polynomial in r, which
// is exact at 0; from 2^-125 down it may be 0. NaN stays NaN, overflow is inf.
MMADAPTOR_INLINE Vec<float> polynomial_exp2(Vec<float> r) {
  Vec<float> q = r * 2.161291594e-4f + 1.246784617e-3f;
  q = q * r + 9.675451594e-3f;
  q = q * r + 5.548528061e-2f;
  q = q * r + 2.402293056e-1f;
  q = q * r + 6.931470444e-1f;
  return q * r + 1.0f;
}

#if MMADAPTOR_VECTOR_BYTES == 64
MMADAPTOR_INLINE Vec<float> exp2(Vec<float> x) {
  const Vec<float> r = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF);  // x - floor(x)
  return _mm512_scalef_ps(polynomial_exp2(r), x);                   // p 2^floor(x)
}
#else
MMADAPTOR_INLINE Vec<float> exp2(Vec<float> x) {
  using Bits = Simd<float>::Bits;
  x = x > splat(129.0f) ? splat(129.0f) : x;
  x = x < splat(-125.5f) ? splat(-125.5f) : x;
  // Adding 1.5 * 2^23 rounds to an integer and leaves it, biased, in the low bits.
  const Vec<float> rounder = splat(12582912.0f + 126.0f);
  const Vec<float> shifted = (x - 0.5f) + rounder;
  const Vec<float> r = x - (shifted - rounder);
  const Bits exponent = (Bits)shifted << 23;
  return (polynomial_exp2(r) * (Vec<float>)exponent) * 2.0f;  // p 2^(n-1) 2
}
#endif

MMADAPTOR_INLINE Vec<double> exp2(Vec<double> x) {
  for (int i = 0; i < Simd<double>::width; ++i) x[i] = std::exp2(x[i]);
  return x;
}

constexpr double kLog2E = 1.44269504088896340736;

template <typename T>
MMADAPTOR_INLINE Vec<T> exp(Vec<T> x) {
  return exp2(x * T(kLog2E));
}

// log(1 + p) for p in [0, 1]; float: a minimax polynomial, within 2.6 ulp.
MMADAPTOR_INLINE Vec<float> log1p_unit(Vec<float> p) {
  Vec<float> q = p * 5.232690027e-3f - 2.950521992e-2f;
  q = q * p + 7.822591751e-2f;
  q = q * p - 1.366324250e-1f;
  q = q * p + 1.910600499e-1f;
  q = q * p - 2.484298169e-1f;
  q = q * p + 3.331909673e-1f;
  q = q * p - 4.999949314e-1f;
  q = q * p + 9.999999699e-1f;
  return q * p;
}

MMADAPTOR_INLINE Vec<double> log1p_unit(Vec<double> p) {
  for (int i = 0; i < Simd<double>::width; ++i) p[i] = std::log1p(p[i]);
  return p;
}

template <typename T>
MMADAPTOR_INLINE Vec<T> maximum(Vec<T> x, Vec<T> y) {  // y where either is NaN
#if MMADAPTOR_VECTOR_BYTES == 64
  if constexpr (std::is_same_v<T, float>) return _mm512_max_ps(x, y);
#endif
  return x > y ? x : y;
}

// log(1 + e^x), and x itself above 20, as torch.nn.functional.softplus; and its
// slope, if asked for. In float within 2e-6 of itself for x > -15: the exponent's
// rounding grows with |x|.
template <typename T, bool with_slope>
MMADAPTOR_INLINE Vec<T> softplus(Vec<T> x, Vec<T>* slope) {
  const Vec<T> positive = maximum<T>(x, Vec<T>{});
  const Vec<T> small = exp<T>(x - positive * T(2));  // e^-|x|
  const Vec<T> result = positive + log1p_unit(small);
  if constexpr (with_slope) {
    *slope = (x < Vec<T>{} ? small : splat(T(1))) / (small + T(1));
    *slope = x > splat(T(20)) ? splat(T(1)) : *slope;
  }
  // In float the sum is x already.
  if constexpr (std::is_same_v<T, double>) return x > splat(20.0) ? x : result;
  return result;
}

template <typename T>
MMADAPTOR_INLINE Vec<T> sigmoid(Vec<T> x) {
  return T(1) / (exp<T>(-x) + T(1));
}

}  // namespace mmadaptor::MMADAPTOR_ISA
