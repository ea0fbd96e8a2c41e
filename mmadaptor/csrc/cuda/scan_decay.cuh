// SPDX-License-Identifier: Apache-2.0
// Exponentials of the scans. ex2.approx errs by up to 2^-22.5, possibly to one side, and a
// state multiplies this error up over all steps. So the decays of single steps are rounded
// to nearest like exp, and the decay over a piece, which carries a state from piece to
// piece, is applied in two parts, 2^n (1 + p): see csrc/cpu/scan_decay.h.
#pragma once

#include <cmath>
#include <limits>

#include "device.cuh"
#include "scan_launch.h"

namespace mmadaptor::cuda {

constexpr double kLog2E = 1.44269504088896340736;

__device__ __forceinline__ double multiply_add(double a, double b, double c) {
  return fma(a, b, c);
}
__device__ __forceinline__ float multiply_add(float a, float b, float c) { return fmaf(a, b, c); }
__device__ __forceinline__ double magnitude(double x) { return fabs(x); }
__device__ __forceinline__ float magnitude(float x) { return fabsf(x); }
__device__ __forceinline__ double larger(double a, double b) { return fmax(a, b); }
__device__ __forceinline__ float larger(float a, float b) { return fmaxf(a, b); }

// 2^x, float: relative error up to 2^-22.5.
__device__ __forceinline__ double fast_exp2(double x) { return exp2(x); }
__device__ __forceinline__ float fast_exp2(float x) {
#if defined(__CUDA_ARCH__)
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
#elif defined(MMADAPTOR_EMULATION)
  return emulation::ex2_approx(x);
#else
  return exp2f(x);
#endif
}

__device__ __forceinline__ double reciprocal(double x) { return 1.0 / x; }
__device__ __forceinline__ float reciprocal(float x) { return __fdividef(1.0f, x); }

// log(1 + e) for e in [0, 1]. float: the polynomial of the CPU, relative error 1.6e-7.
__device__ __forceinline__ double log1p_unit(double e) { return log1p(e); }
__device__ __forceinline__ float log1p_unit(float e) {
  float q = fmaf(5.365422461e-3f, e, -3.006830066e-2f);
  q = fmaf(q, e, 7.920882851e-2f);
  q = fmaf(q, e, -1.375418752e-1f);
  q = fmaf(q, e, 1.915384829e-1f);
  q = fmaf(q, e, -2.485721707e-1f);
  q = fmaf(q, e, 3.332132995e-1f);
  q = fmaf(q, e, -4.999964833e-1f);
  return fmaf(e * e, q, e);
}

// log(1 + e^x).
template <typename W>
__device__ __forceinline__ W softplus(W x) {
  const W small = fast_exp2(magnitude(x) * W(-kLog2E));  // e^-|x|
  return (x > W(0) ? x : W(0)) + log1p_unit(small);
}

// (2^r - 1) / r for r in [-1, 0]: the polynomial of the CPU, error 1e-8, of either sign.
__device__ __forceinline__ float exp2_slope(float r) {
  float q = fmaf(1.154565325e-4f, r, 1.293191337e-3f);
  q = fmaf(q, r, 9.598684497e-3f);
  q = fmaf(q, r, 5.550000072e-2f);
  q = fmaf(q, r, 2.402262390e-1f);
  return fmaf(q, r, 6.931471825e-1f);
}

// x = n + r, n = ceil(x), r in (-1, 0]. 2^n is 0 for x <= -127 and infinite for x >= 128. A
// NaN may become any number: on a device its low bits are set.
struct Exponent {
  float r;
  int shifted;  // n 2^23

  __device__ __forceinline__ explicit Exponent(float x) {
    x = x < -127.0f ? -127.0f : x;
    x = x > 128.0f ? 128.0f : x;
    // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits.
    const float rounded = __fadd_ru(x, 12582912.0f);
    r = x - (rounded - 12582912.0f);
    shifted = static_cast<int>(__float_as_uint(rounded) << 23);
  }
  // 2^n x for x in [1/2, 1].
  __device__ __forceinline__ float times(float x) const {
    return __int_as_float(__float_as_int(x) + shifted);
  }
};

// 2^x for x in (-1, 0], with the bits of precise_exp2.
__device__ __forceinline__ float slow_exp2(float x) { return fmaf(x, exp2_slope(x), 1.0f); }

// 2^x, float: relative error 7e-8, of either sign.
__device__ __forceinline__ double precise_exp2(double x) { return exp2(x); }
__device__ __forceinline__ float precise_exp2(float x) {
  const Exponent e(x);
  return e.times(slow_exp2(e.r));
}

// Fast for slopes of softplus; precise for gates, as their bias would be that of sums over time.
template <typename W>
__device__ __forceinline__ W fast_sigmoid(W x) {
  return reciprocal(W(1) + fast_exp2(x * W(-kLog2E)));
}
template <typename W>
__device__ __forceinline__ W precise_sigmoid(W x) {
  return reciprocal(W(1) + precise_exp2(x * W(-kLog2E)));
}

// The decay 2^x over the steps of a piece or segment: scale (1 + part).
template <typename W>
struct Decay {
  W scale, part;

  Decay() = default;
  __device__ __forceinline__ explicit Decay(double x) : scale(exp2(x)), part(0) {}
  __device__ __forceinline__ explicit Decay(float x) {
    const Exponent e(x);
    scale = e.times(1.0f);
    part = e.r * exp2_slope(e.r);
  }

  // Rounded before an input is added to it: rounded together, a state under a constant
  // input would stop short of its limit.
  __device__ __forceinline__ W times(W h) const {
    const W scaled = scale * h, product = multiply_add(part, scaled, scaled);
    return product == product ? product : scaled;  // of an infinite state
  }
};

template <typename W>
constexpr W kMost = std::numeric_limits<W>::max();

// A log2(e). It is finite even if A is not: the steps beyond the end of a path are 0, and
// must decay nothing.
template <typename W>
__device__ __forceinline__ W rate_of(W A) {
  const W rate = A * W(kLog2E);
  return rate < -kMost<W> ? -kMost<W> : rate > kMost<W> ? kMost<W> : rate;
}

// The decays of the steps of a piece, all of them between `least` and `most`, and numbers.
__device__ __forceinline__ void find_decays(double (&decay)[kSteps<double>],
                                            const double (&step)[kSteps<double>], double rate,
                                            double, double) {
#pragma unroll
  for (int i = 0; i < kSteps<double>; ++i) decay[i] = exp2(step[i] * rate);
}
__device__ __forceinline__ void find_decays(float (&decay)[kSteps<float>],
                                            const float (&step)[kSteps<float>], float rate,
                                            float least, float most) {
  const float a = least * rate, b = most * rate;
  const bool slow = a > -1.0f && a <= 0.0f && b > -1.0f && b <= 0.0f;
  if (__all_sync(kAllLanes, slow)) {
#pragma unroll
    for (int i = 0; i < kSteps<float>; ++i) decay[i] = slow_exp2(step[i] * rate);
  } else {
#pragma unroll
    for (int i = 0; i < kSteps<float>; ++i) decay[i] = precise_exp2(step[i] * rate);
  }
}

}  // namespace mmadaptor::cuda
