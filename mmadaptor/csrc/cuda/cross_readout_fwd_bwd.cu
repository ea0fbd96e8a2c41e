// SPDX-License-Identifier: Apache-2.0
// The readout of given states and its gradient: one warp per pixel, one lane per channel.
#include "cross_readout_launch.h"
#include "device.cuh"

namespace mmadaptor::cuda {

constexpr int kPixels = Readout::kPixels;

template <typename T>
__global__ void __launch_bounds__(kPixels* kWarp) readout_kernel(const Readout r) {
  using W = Wide<T>;
  const int64_t pixel = static_cast<int64_t>(blockIdx.x) * kPixels + threadIdx.y;
  if (pixel >= r.pixels) return;
  const int states = r.states, row = r.channels * states;
  const W* const h = static_cast<const W*>(r.h) + pixel * r.directions * row;
  const T* const C = static_cast<const T*>(r.C) + pixel * r.directions * states;
  T* const y = static_cast<T*>(r.y) + pixel * r.channels;
  for (int d = threadIdx.x; d < r.channels; d += kWarp) {
    const W* at = h + d * states;
    W sum = 0;
    for (int k = 0; k < r.directions; ++k, at += row)
      for (int n = 0; n < states; ++n) sum += widen(C[k * states + n]) * at[n];
    y[d] = narrow<T>(sum);
  }
}

template <typename T>
__global__ void __launch_bounds__(kPixels* kWarp) readout_backward_kernel(const Readout r) {
  using W = Wide<T>;
  const int64_t pixel = static_cast<int64_t>(blockIdx.x) * kPixels + threadIdx.y;
  if (pixel >= r.pixels) return;
  const int64_t map = pixel * r.directions * r.channels * r.states;
  const int64_t row = pixel * r.directions * r.states;
  const W* h = static_cast<const W*>(r.h) + map;
  W* grad_h = static_cast<W*>(r.grad_h) + map;
  const T* grad_y = static_cast<const T*>(r.grad_y) + pixel * r.channels;
  for (int64_t k = 0; k < r.directions; ++k)
    for (int64_t n = 0; n < r.states; ++n) {
      const W C = widen(static_cast<const T*>(r.C)[row + k * r.states + n]);
      W sum = 0;
      for (int64_t d = threadIdx.x; d < r.channels; d += kWarp) {
        const int64_t at = (k * r.channels + d) * r.states + n;
        const W grad = widen(grad_y[d]);
        sum += grad * h[at];
        grad_h[at] = grad * C;
      }
      sum = warp_sum(sum);
      if (threadIdx.x == 0) static_cast<T*>(r.grad_C)[row + k * r.states + n] = narrow<T>(sum);
    }
}

template <typename T>
void launch_readout(const T*, const Readout& readout, const Target& target) {
  launch(readout_kernel<T>, dim3(readout.blocks()), dim3(kWarp, kPixels), 0, target.stream,
         readout);
}

template <typename T>
void launch_readout_backward(const T*, const Readout& readout, const Target& target) {
  launch(readout_backward_kernel<T>, dim3(readout.blocks()), dim3(kWarp, kPixels), 0, target.stream,
         readout);
}

#define MMADAPTOR_READOUT(T)                                             \
  template void launch_readout(const T*, const Readout&, const Target&); \
  template void launch_readout_backward(const T*, const Readout&, const Target&);
MMADAPTOR_READOUT(float)
MMADAPTOR_READOUT(double)
MMADAPTOR_READOUT(__half)
MMADAPTOR_READOUT(__nv_bfloat16)

}  // namespace mmadaptor::cuda
