// SPDX-License-Identifier: Apache-2.0
// Parameters and launch functions of the CUDA kernels of cross_readout.
#pragma once

#include "../scan_view.h"
#include "target.h"

namespace mmadaptor::cuda {

// All tensors are contiguous: h and its gradient (pixels, directions, channels, states), C
// and its gradient (pixels, directions, states), y and its gradient (pixels, channels). h
// and its gradient are float or double; the others have the type of the launch.
struct Readout {
  static constexpr int kPixels = 8;  // per block

  int64_t pixels;
  int directions, channels, states;
  const void *h, *C, *grad_y;
  void *y, *grad_h, *grad_C;

  int64_t blocks() const { return divide_up(pixels, kPixels); }
};

// The first argument is a (possibly null) pointer to float, double, __half or
// __nv_bfloat16. h is double if it points to double, otherwise float.
template <typename T>
void launch_readout(const T*, const Readout& readout, const Target& target);
template <typename T>
void launch_readout_backward(const T*, const Readout& readout, const Target& target);

}  // namespace mmadaptor::cuda
