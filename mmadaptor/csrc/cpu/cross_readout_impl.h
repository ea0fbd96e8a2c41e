// SPDX-License-Identifier: Apache-2.0
// The readout of given states and its gradient, one pixel at a time.
#pragma once

#include "scan_kernel.h"
#include "simd.h"

namespace mmadaptor::MMADAPTOR_ISA {

// Loads `count` values that are `stride` elements apart (neighboring channels of one
// state); the other lanes are 0.
template <typename T>
MMADAPTOR_INLINE Vec<T> load_every(const T* source, int64_t stride, int count) {
  if (stride == 1) return load_as<T>(source, count);
  alignas(MMADAPTOR_VECTOR_BYTES) T lanes[Simd<T>::width] = {};
  for (int i = 0; i < count; ++i) lanes[i] = source[i * stride];
  return load(lanes);
}

template <typename T>
MMADAPTOR_INLINE void store_every(T* target, int64_t stride, Vec<T> v, int count) {
  if (stride == 1) return store_as<T>(target, v, count);
  alignas(MMADAPTOR_VECTOR_BYTES) T lanes[Simd<T>::width];
  store<T>(lanes, v);
  for (int i = 0; i < count; ++i) target[i * stride] = lanes[i];
}

template <typename Visit>
MMADAPTOR_INLINE void each_vector(int64_t channels, int width, const Visit& visit) {
  for (int64_t d = 0; d < channels; d += width)
    visit(d, static_cast<int>(channels - d < width ? channels - d : width));
}

template <typename T>
void read_out_as(const Readout& r, int64_t begin, int64_t end) {
  const int64_t terms = r.directions * r.states, size = r.directions * r.channels * r.states;
  for (int64_t pixel = begin; pixel < end; ++pixel) {
    const T* h = static_cast<const T*>(r.h) + pixel * size;
    const T* C = static_cast<const T*>(r.C) + pixel * terms;
    T* y = static_cast<T*>(r.y) + pixel * r.channels;
    each_vector(r.channels, Simd<T>::width, [&](int64_t d, int count) {
      Vec<T> sum = {};
      for (int64_t k = 0; k < r.directions; ++k)
        for (int64_t n = 0; n < r.states; ++n)
          sum += C[k * r.states + n] *
                 load_every(h + (k * r.channels + d) * r.states + n, r.states, count);
      store_as<T>(y + d, sum, count);
    });
  }
}

template <typename T>
void read_out_backward_as(const Readout& r, int64_t begin, int64_t end) {
  const int64_t terms = r.directions * r.states, size = r.directions * r.channels * r.states;
  for (int64_t pixel = begin; pixel < end; ++pixel) {
    const T* h = static_cast<const T*>(r.h) + pixel * size;
    const T* C = static_cast<const T*>(r.C) + pixel * terms;
    const T* grad_y = static_cast<const T*>(r.grad_y) + pixel * r.channels;
    T* grad_h = static_cast<T*>(r.grad_h) + pixel * size;
    T* grad_C = static_cast<T*>(r.grad_C) + pixel * terms;
    for (int64_t k = 0; k < r.directions; ++k)
      for (int64_t n = 0; n < r.states; ++n) {
        Vec<T> sum = {};
        each_vector(r.channels, Simd<T>::width, [&](int64_t d, int count) {
          const int64_t at = (k * r.channels + d) * r.states + n;
          const Vec<T> grad = load_as<T>(grad_y + d, count);
          sum += grad * load_every(h + at, r.states, count);
          store_every<T>(grad_h + at, r.states, grad * C[k * r.states + n], count);
        });
        T total = 0;
        for (int i = 0; i < Simd<T>::width; ++i) total += sum[i];
        grad_C[k * r.states + n] = total;
      }
  }
}

inline void read_out(const Readout& r, int64_t begin, int64_t end) {
  if (r.dtype == ScalarType::Double)
    read_out_as<double>(r, begin, end);
  else
    read_out_as<float>(r, begin, end);
}

inline void read_out_backward(const Readout& r, int64_t begin, int64_t end) {
  if (r.dtype == ScalarType::Double)
    read_out_backward_as<double>(r, begin, end);
  else
    read_out_backward_as<float>(r, begin, end);
}

}  // namespace mmadaptor::MMADAPTOR_ISA
