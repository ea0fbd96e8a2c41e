// SPDX-License-Identifier: Apache-2.0
// Parameters and launch functions of the CUDA kernels of dilated_depthwise.
#pragma once

#include "../dilated_depthwise_limits.h"
#include "../scan_view.h"
#include "target.h"

namespace mmadaptor::cuda {

// All tensors are contiguous: maps (batch, height, width, channels), kernels (dilations, 3,
// 3, channels), the gradient of the kernels (parts, dilations, 3, 3, channels). Kernels
// and their gradient are float or double; maps have the type of the launch.
struct DilatedDepthwise {
  int64_t batch, channels;
  int height, width, count, parts;
  int dilations[kMostDilations];
  const void *y, *kernels, *grad;
  void *out, *grad_kernels;

  MMADAPTOR_EVERYWHERE int64_t rows() const { return batch * height; }
};

// Computes out = y plus the sum over all taps. If y is the gradient of out, the result with
// `turned` kernels (rotated by 180 degrees) is the gradient of y. The first argument is a
// (possibly null) pointer to float, double, __half or __nv_bfloat16.
template <typename T>
void launch_dilated_depthwise(const T*, const DilatedDepthwise& op, bool turned,
                              const Target& target);
// Computes the gradient of the kernels from y and grad. Each part sums over a part of the
// rows.
template <typename T>
void launch_dilated_depthwise_kernels(const T*, const DilatedDepthwise& op, const Target& target);

}  // namespace mmadaptor::cuda
