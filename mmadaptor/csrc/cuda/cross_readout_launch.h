// SPDX-License-Identifier: Apache-2.0
// The readout of given states on a GPU.
#pragma once

#include "target.h"

namespace mmadaptor::cuda {

// All are contiguous: h and its gradient (pixels, directions, channels, states), C
// and its gradient (pixels, directions, states), y and its gradient (pixels,
// channels). h is float or double, the others are of the launch's type.
struct Readout {
  int64_t pixels, directions, channels, states;
  const void *h, *C, *grad_y;
  void *y, *grad_h, *grad_C;
};

// For a pointer to float, double, __half or __nv_bfloat16, which may be null; h is
// double with double only.
template <typename T>
void launch_readout(const T*, const Readout& readout, const Target& target);
template <typename T>
void launch_readout_backward(const T*, const Readout& readout, const Target& target);

}  // namespace mmadaptor::cuda
