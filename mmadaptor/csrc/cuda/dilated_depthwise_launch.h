// SPDX-License-Identifier: Apache-2.0
// Depthwise convolutions of several dilations on a GPU.
#pragma once

#include "../dilated_depthwise_limits.h"
#include "../scan_view.h"
#include "target.h"

namespace mmadaptor::cuda {

// All are contiguous: maps (batch, height, width, channels), kernels (dilations, 3,
// 3, channels), the gradient of the kernels (parts, dilations, 3, 3, channels).
// Kernels and their gradient are float or double, maps of the launch's type.
struct DilatedDepthwise {
  int64_t batch, channels;
  int height, width, count, parts;
  int dilations[kMostDilations];
  const void *y, *kernels, *grad;
  void *out, *grad_kernels;

  MMADAPTOR_EVERYWHERE int64_t rows() const { return batch * height; }
};

// For a pointer to float, double, __half or __nv_bfloat16, which may be null: out is
// y and what its taps see; with `turned` kernels it is the gradient of y for y that
// of out.
template <typename T>
void launch_dilated_depthwise(const T*, const DilatedDepthwise& op, bool turned,
                              const Target& target);
// The kernels' gradient from y and grad, a part of the rows in each part.
template <typename T>
void launch_dilated_depthwise_kernels(const T*, const DilatedDepthwise& op, const Target& target);

}  // namespace mmadaptor::cuda
