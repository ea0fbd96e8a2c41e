// SPDX-License-Identifier: Apache-2.0
// The decay 2^x of a state over one step. In float it is applied in two parts,
// 2^n (1 + p) with n = ceil(x): a decay close to 1, rounded to float, would lose most of
// its digits, and a scan multiplies these errors up. The product 2^x h is rounded before
// the input is added to it: rounded together, a state under a constant input would stop
// short of its limit, where the change in a step is below half a unit in its last place.
#pragma once

#include <limits>

#include "scan_tile.h"

namespace mmadaptor::MMADAPTOR_ISA {

// A log2(e), finite if A is: exp(0 A) is 1 for any finite A, and NaN for an infinite one.
template <typename T>
MMADAPTOR_INLINE Vec<T> rate_of(Vec<T> A) {
  const Vec<T> most = Vec<T>{} + std::numeric_limits<T>::max(), rate = A * T(kLog2E);
  const Vec<T> within = minimum<T>(most, maximum<T>(-most, rate));
  return (A >= -most) & (A <= most) ? within : rate;
}

// How the decays of one vector over a chunk are computed. A lane gets the same bits from
// each way that is valid for it, so no channel depends on its neighbors.
enum class Decay {
  slow,     // every x is in (-1, 0], so that n = 0
  general,  // every x is in the range of Exponent
  careful   // any x, also infinite, and infinite states: 2^x inf is inf, not inf - inf
};

// Multiplies by 2^x. For double, `part` is 2^x; for float it is p.
template <typename T, Decay decay>
struct Factor;

template <Decay decay>
struct Factor<double, decay> {
  Vec<double> part;
  MMADAPTOR_INLINE explicit Factor(Vec<double> x) : part(exp2(x)) {}
  MMADAPTOR_INLINE Factor(Vec<double>, Vec<double> part) : part(part) {}
  MMADAPTOR_INLINE Vec<double> times(Vec<double> h) const { return part * h; }
};

template <>
struct Factor<float, Decay::slow> {
  Vec<float> part;
  MMADAPTOR_INLINE explicit Factor(Vec<float> x) : part(x * exp2_slope(x)) {}
  MMADAPTOR_INLINE Factor(Vec<float>, Vec<float> part) : part(part) {}
  MMADAPTOR_INLINE Vec<float> times(Vec<float> h) const { return multiply_add<float>(part, h, h); }
};

template <>
struct Factor<float, Decay::general> {
  Exponent e;
  Vec<float> part;
  MMADAPTOR_INLINE explicit Factor(Vec<float> x) : e(x), part(e.r * exp2_slope(e.r)) {}
  MMADAPTOR_INLINE Factor(Vec<float> x, Vec<float> part) : e(x), part(part) {}
  MMADAPTOR_INLINE Vec<float> times(Vec<float> h) const {
    const Vec<float> scaled = e.times(h);
    return multiply_add<float>(part, scaled, scaled);
  }
};

template <>
struct Factor<float, Decay::careful> {
  Vec<float> power;
  Factor<float, Decay::general> finite;
  Vec<float> part;
  MMADAPTOR_INLINE explicit Factor(Vec<float> x)
      : power(exp2(x)), finite(within(x)), part(finite.part) {}
  MMADAPTOR_INLINE Factor(Vec<float> x, Vec<float> part)
      : power(exp2(x)), finite(within(x), part), part(part) {}
  MMADAPTOR_INLINE Vec<float> times(Vec<float> h) const {
    const Vec<float> product = finite.times(h);
    return product == product ? product : power * h;
  }

 private:
  // Beyond the range of Exponent, at n = -127 and 128, 2^n is 0 and inf. NaN stays.
  static MMADAPTOR_INLINE Vec<float> within(Vec<float> x) {
    return minimum<float>(splat(Exponent::kMost + 2),
                          maximum<float>(splat(Exponent::kLeast - 1.25f), x));
  }
};

// The way for a state of this rate, if the steps of the chunk are from `least` to `most`.
MMADAPTOR_INLINE Decay decay_of(Vec<float> rate, Vec<float> least, Vec<float> most) {
  const Vec<float> a = rate * least, b = rate * most;
  if (all_lanes((a > -1.0f) & (b > -1.0f) & (a <= 0.0f) & (b <= 0.0f))) return Decay::slow;
  constexpr float low = Exponent::kLeast, high = Exponent::kMost;
  const bool within = all_lanes((a >= low) & (b >= low) & (a <= high) & (b <= high));
  return within ? Decay::general : Decay::careful;
}
MMADAPTOR_INLINE Decay decay_of(Vec<double>, Vec<double>, Vec<double>) { return Decay::general; }

// Calls visit with the way as a constant.
template <typename T, typename Visit>
MMADAPTOR_INLINE void with_decay(Decay decay, const Visit& visit) {
  using D = Decay;
  if constexpr (std::is_same_v<T, double>)
    visit(std::integral_constant<D, D::general>{});
  else if (decay == D::slow)
    visit(std::integral_constant<D, D::slow>{});
  else if (decay == D::general)
    visit(std::integral_constant<D, D::general>{});
  else
    visit(std::integral_constant<D, D::careful>{});
}

}  // namespace mmadaptor::MMADAPTOR_ISA
