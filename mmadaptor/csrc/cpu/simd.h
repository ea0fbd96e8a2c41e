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
  return Vec<T>{} + value;
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

// The first `count` of a vector's lanes from memory of another type; the rest 0.
template <typename T, typename scalar_t>
MMADAPTOR_INLINE Vec<T> load_as(const scalar_t* source, int count) {
  constexpr int width = Simd<T>::width;
  alignas(MMADAPTOR_VECTOR_BYTES) T lanes[width];
  if (count == width) {
    if constexpr (std::is_same_v<T, scalar_t>) return load(source);
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

// e^x. float: Cody-Waite reduction and a minimax polynomial, below 2 ulp; below
// 2^-125.5 it is 0. NaN stays NaN, and overflow is inf.
MMADAPTOR_INLINE Vec<float> exp(Vec<float> x) {
  using Bits = Simd<float>::Bits;
  x = x > splat(89.0f) ? splat(89.0f) : x;
  x = x < splat(-87.5f) ? splat(-87.5f) : x;
  // Adding 1.5 * 2^23 rounds to an integer and leaves it, biased, in the low bits.
  const Vec<float> rounder = splat(12582912.0f + 126.0f);
  const Vec<float> shifted = x * 1.44269504f + rounder;
  const Vec<float> n = shifted - rounder;
  const Vec<float> r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  Vec<float> p = r * 1.381446706e-3f + 8.368780411e-3f;
  p = p * r + 4.166839421e-2f;
  p = p * r + 1.666652011e-1f;
  p = p * r + 4.999999341e-1f;
  p = p * (r * r) + r + 1.0f;
  const Bits exponent = (Bits)shifted << 23;
  return (p * (Vec<float>)exponent) * 2.0f;  // p 2^(n-1) 2
}

MMADAPTOR_INLINE Vec<double> exp(Vec<double> x) {
  for (int i = 0; i < Simd<double>::width; ++i) x[i] = std::exp(x[i]);
  return x;
}

// log(1 + p) for p in [0, 1]: 2 artanh(s) with s = p / (2 + p), below 2 ulp.
MMADAPTOR_INLINE Vec<float> log1p_unit(Vec<float> p) {
  const Vec<float> s = p / (p + 2.0f);
  const Vec<float> w = s * s;
  Vec<float> q = w * 2.817833509e-1f + 2.796060275e-1f;
  q = q * w + 4.002491028e-1f;
  q = q * w + 6.666631468e-1f;
  q = q * w + 2.0f;
  return s * q;
}

MMADAPTOR_INLINE Vec<double> log1p_unit(Vec<double> p) {
  for (int i = 0; i < Simd<double>::width; ++i) p[i] = std::log1p(p[i]);
  return p;
}

// log(1 + e^x), and x itself above 20, as torch.nn.functional.softplus; `slope`
// receives the derivative.
template <typename T>
MMADAPTOR_INLINE Vec<T> softplus(Vec<T> x, Vec<T>& slope) {
  const Vec<T> zero = splat(T(0)), one = splat(T(1));
  const Vec<T> positive = x > zero ? x : zero;
  const Vec<T> small = exp(x - positive * T(2));  // e^-|x|
  const Vec<T> sigmoid = (x > zero ? one : small) / (small + T(1));
  slope = x > splat(T(20)) ? one : sigmoid;
  return x > splat(T(20)) ? x : positive + log1p_unit(small);
}

template <typename T>
MMADAPTOR_INLINE Vec<T> sigmoid(Vec<T> x) {
  return T(1) / (exp(-x) + T(1));
}

}  // namespace mmadaptor::MMADAPTOR_ISA
