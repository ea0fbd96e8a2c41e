// SPDX-License-Identifier: Apache-2.0
// SIMD vectors of one register, and the functions that the kernels need on them.
//
// This header is compiled once per instruction set, in a separate source file (such
// as scan_avx512.cpp) and a separate namespace: MMADAPTOR_ISA is the name of the
// namespace, MMADAPTOR_VECTOR_BYTES the width of a register. The vector types are
// compiler extensions (GCC and Clang, any processor).
#pragma once

#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define MMADAPTOR_INLINED __attribute__((always_inline))
#define MMADAPTOR_INLINE inline MMADAPTOR_INLINED

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
  return value - Vec<T>{};  // not +: it turns -0 into 0 and cannot be optimized away
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

MMADAPTOR_INLINE Vec<float> widen(const torch::headeronly::BFloat16* source) {
  Words words;
  std::memcpy(&words, source, sizeof(words));
  return (Vec<float>)(__builtin_convertvector(words, DoubleWords) << 16);
}

// Rounds to nearest even. NaN is handled separately: rounding could turn it into inf.
MMADAPTOR_INLINE void narrow(torch::headeronly::BFloat16* target, Vec<float> v) {
  const DoubleWords bits = (DoubleWords)v;
  const DoubleWords rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  const Words words = __builtin_convertvector(v == v ? rounded : DoubleWords{} + 0x7fc0, Words);
  std::memcpy(target, &words, sizeof(words));
}

MMADAPTOR_INLINE Vec<float> widen(const torch::headeronly::Half* source) {
#if MMADAPTOR_VECTOR_BYTES == 64
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(source)));
#else
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(source)));
#endif
}

MMADAPTOR_INLINE void narrow(torch::headeronly::Half* target, Vec<float> v) {
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

// a b + c with a single rounding if the processor has FMA. Explicit, because several
// code paths must produce bit-identical sums.
template <typename T>
MMADAPTOR_INLINE Vec<T> multiply_add(Vec<T> a, Vec<T> b, Vec<T> c) {
  if constexpr (std::is_same_v<T, float>) {
#if MMADAPTOR_VECTOR_BYTES == 64
    return _mm512_fmadd_ps(a, b, c);
#elif MMADAPTOR_VECTOR_BYTES == 32
    return _mm256_fmadd_ps(a, b, c);
#endif
  } else {
#if MMADAPTOR_VECTOR_BYTES == 64
    return _mm512_fmadd_pd(a, b, c);
#elif MMADAPTOR_VECTOR_BYTES == 32
    return _mm256_fmadd_pd(a, b, c);
#endif
  }
  return a * b + c;
}

// Loads the first `count` lanes from memory of another type; the other lanes are 0.
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

template <typename T>
MMADAPTOR_INLINE Vec<T> maximum(Vec<T> x, Vec<T> y) {  // y if either is NaN
#if MMADAPTOR_VECTOR_BYTES == 64
  if constexpr (std::is_same_v<T, float>) return _mm512_max_ps(x, y);
#endif
  return x > y ? x : y;
}

template <typename T>
MMADAPTOR_INLINE Vec<T> minimum(Vec<T> x, Vec<T> y) {  // y if either is NaN
#if MMADAPTOR_VECTOR_BYTES == 64
  if constexpr (std::is_same_v<T, float>) return _mm512_min_ps(x, y);
#endif
  return x < y ? x : y;
}

// Whether a condition holds in every lane.
template <typename Mask>
MMADAPTOR_INLINE bool all_lanes(Mask mask) {
  int64_t words[sizeof(Mask) / sizeof(int64_t)], all = -1;
  std::memcpy(words, &mask, sizeof(mask));
  for (int64_t word : words) all &= word;
  return all == -1;
}

template <typename T>
MMADAPTOR_INLINE bool any_nan(Vec<T> v) {
  return !all_lanes(v == v);
}

// (2^r - 1) / r for r in [-1, 0]: a minimax polynomial of error 1e-8, of either sign;
// relative error below 1.1e-7 with the roundings.
MMADAPTOR_INLINE Vec<float> exp2_slope(Vec<float> r) {
  Vec<float> q = multiply_add<float>(splat(1.154565325e-4f), r, splat(1.293191337e-3f));
  q = multiply_add<float>(q, r, splat(9.598684497e-3f));
  q = multiply_add<float>(q, r, splat(5.550000072e-2f));
  q = multiply_add<float>(q, r, splat(2.402262390e-1f));
  return multiply_add<float>(q, r, splat(6.931471825e-1f));
}

// x = n + r, n = ceil(x), r in [-1, 0]. times(v) is v 2^n.
struct Exponent {
  Vec<float> n, r;
#if MMADAPTOR_VECTOR_BYTES == 64
  // Not vreduceps for r: on Zen 4 (measured) it has a false dependency on its
  // destination register, which serializes consecutive exponentials.
  MMADAPTOR_INLINE explicit Exponent(Vec<float> x)
      : n(_mm512_roundscale_ps(x, _MM_FROUND_TO_POS_INF)), r(x - n) {}
  MMADAPTOR_INLINE Vec<float> times(Vec<float> v) const { return _mm512_scalef_ps(v, n); }
  static constexpr float kLeast = -INFINITY, kMost = INFINITY;
#else
  using Bits = Simd<float>::Bits;
  Bits bits;
  // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits.
  MMADAPTOR_INLINE explicit Exponent(Vec<float> x) {
    const Vec<float> rounder = splat(12582912.0f), shifted = (x + 0.5f) + rounder;
    n = shifted - rounder;
    r = x - n;
    bits = (Bits)shifted;
  }
  MMADAPTOR_INLINE Vec<float> times(Vec<float> v) const {
    return v * (Vec<float>)((bits + 127) << 23);
  }
  static constexpr float kLeast = -126.0f, kMost = 126.0f;
#endif
  // times() is exact, and correct at all, for kLeast <= x <= kMost.
};

// 2^n (1 + p) for p in [-1/2, 0], where n may exceed the bounds of times().
MMADAPTOR_INLINE Vec<float> power(const Exponent& e, Vec<float> significand) {
#if MMADAPTOR_VECTOR_BYTES == 64
  return e.times(significand);
#else
  return (significand * (Vec<float>)((e.bits + 125) << 23)) * 4.0f;
#endif
}

// 2^x. float: relative error below 2e-7. Results of 2^-125 and below may be flushed to 0. NaN
// stays NaN, overflow gives inf.
MMADAPTOR_INLINE Vec<float> exp2(Vec<float> x) {
  x = maximum<float>(splat(-125.9f - 25 * (MMADAPTOR_VECTOR_BYTES == 64)), x);
  const Exponent e(minimum<float>(splat(128.5f), x));
  return power(e, multiply_add<float>(e.r, exp2_slope(e.r), splat(1.0f)));
}

MMADAPTOR_INLINE Vec<double> exp2(Vec<double> x) {
  for (int i = 0; i < Simd<double>::width; ++i) x[i] = std::exp2(x[i]);
  return x;
}

constexpr double kLog2E = 1.44269504088896340736;

// e^x, as exp2, relative error below 2.3e-7. With FMA, x log2(e) - n is rounded once; without, n
// ln(2) is subtracted from x in two parts, of which the first is exact.
MMADAPTOR_INLINE Vec<float> exp(Vec<float> x) {
  x = maximum<float>(splat(-87.2f - 17 * (MMADAPTOR_VECTOR_BYTES == 64)), x);
  x = minimum<float>(splat(89.0f), x);
  constexpr float log2e = kLog2E;
  Exponent e(x * log2e);
#if MMADAPTOR_VECTOR_BYTES >= 32
  constexpr float log2e_rest = kLog2E - log2e;
  e.r = multiply_add<float>(x, splat(log2e), -e.n);
  e.r = multiply_add<float>(x, splat(log2e_rest), e.r);
#else
  constexpr float ln2 = 0.693359375f, ln2_rest = -2.12194440e-4f;
  e.r = ((x - e.n * ln2) - e.n * ln2_rest) * log2e;
#endif
  return power(e, multiply_add<float>(e.r, exp2_slope(e.r), splat(1.0f)));
}

MMADAPTOR_INLINE Vec<double> exp(Vec<double> x) {
  for (int i = 0; i < Simd<double>::width; ++i) x[i] = std::exp(x[i]);
  return x;
}

// log(1 + p) for p in [0, 1]. float: p + p^2 s(p), s a minimax polynomial; relative error
// below 1.6e-7, of either sign.
MMADAPTOR_INLINE Vec<float> log1p_unit(Vec<float> p) {
  Vec<float> s = multiply_add<float>(splat(5.365422461e-3f), p, splat(-3.006830066e-2f));
  s = multiply_add<float>(s, p, splat(7.920882851e-2f));
  s = multiply_add<float>(s, p, splat(-1.375418752e-1f));
  s = multiply_add<float>(s, p, splat(1.915384829e-1f));
  s = multiply_add<float>(s, p, splat(-2.485721707e-1f));
  s = multiply_add<float>(s, p, splat(3.332132995e-1f));
  s = multiply_add<float>(s, p, splat(-4.999964833e-1f));
  return multiply_add<float>(p * p, s, p);
}

MMADAPTOR_INLINE Vec<double> log1p_unit(Vec<double> p) {
  for (int i = 0; i < Simd<double>::width; ++i) p[i] = std::log1p(p[i]);
  return p;
}

// -|x|, by the sign bit: also of infinities.
template <typename T>
MMADAPTOR_INLINE Vec<T> minus_magnitude(Vec<T> x) {
  using Bits = typename Simd<T>::Bits;
  return (Vec<T>)((Bits)x | (Bits)splat(T(-0.0)));
}

// log(1 + e^x), or x for x > 20, like torch.nn.functional.softplus; optionally also its
// derivative. float: relative error below 2.6e-7 for x > -86.
template <typename T, bool with_slope>
MMADAPTOR_INLINE Vec<T> softplus(Vec<T> x, Vec<T>* slope) {
  const Vec<T> positive = maximum<T>(x, Vec<T>{});
  const Vec<T> small = exp(minus_magnitude<T>(x));
  const Vec<T> result = positive + log1p_unit(small);
  if constexpr (with_slope) {
    *slope = (x < Vec<T>{} ? small : splat(T(1))) / (small + T(1));
    *slope = x > splat(T(20)) ? splat(T(1)) : *slope;
  }
  // In float the sum already equals x for x > 20.
  if constexpr (std::is_same_v<T, double>) return x > splat(20.0) ? x : result;
  return result;
}

template <typename T>
MMADAPTOR_INLINE Vec<T> sigmoid(Vec<T> x) {
  return T(1) / (exp(-x) + T(1));
}

}  // namespace mmadaptor::MMADAPTOR_ISA
