// SPDX-License-Identifier: Apache-2.0
// Parameters and launch functions of the CUDA kernels of memory_readout.
#pragma once

#include "memory_select_launch.h"

namespace mmadaptor::cuda {

// The places of memory_readout are predicted: for each token and direction, `predicted`
// has the offsets of the places of all groups (two numbers each), then their logits.
// `locations` and `weights` are what the backward kernel writes for the gradient of the
// values.
struct MemoryReadout : MemorySelect {
  static constexpr int kMostGroups = 64;

  int groups;                         // S; slices are directions times groups
  double granularities[kMostGroups];  // in pixels
  const void *predicted, *coefficients;

  __host__ __device__ int directions() const { return slices / groups; }
  __host__ __device__ int channels() const { return groups * row; }
};

struct MemoryReadoutGradients {
  const void* y;  // incoming
  void *locations, *weights;
  void *predicted, *coefficients;
};

// The first argument is a (possibly null) pointer to float or double and sets the type.
template <typename T>
void launch_memory_readout(const T*, const MemoryReadout& op, void* y, const Target& target);
// Gradients of the predictions and coefficients; the places and weights.
template <typename T>
void launch_memory_readout_places(const T*, const MemoryReadout& op,
                                  const MemoryReadoutGradients& grads, const Target& target);

}  // namespace mmadaptor::cuda
