// SPDX-License-Identifier: Apache-2.0
// Parameters and launch functions of the CUDA kernels of memory_select.
#pragma once

#include "target.h"

namespace mmadaptor::cuda {

// A slice is one group of one direction: the map that the places of this group sample
// from. Its row at a pixel (channels times states) is contiguous in memory, followed by
// the rows of the next slices. All tensors are contiguous and have the type of the launch.
struct MemorySelect {
  int64_t batch, height, width;
  int64_t slices;  // directions times groups
  int64_t row;     // D / S * N
  int64_t places;
  const void *states, *locations, *weights;

  __host__ __device__ int64_t pixels() const { return height * width; }
  __host__ __device__ int64_t tokens() const { return batch * pixels() * slices; }
};

struct MemorySelectGradients {
  const void* memory;  // incoming
  void *states, *locations, *weights;
};

// The first argument is a (possibly null) pointer to float or double and sets the type.
template <typename T>
void launch_memory_select(const T*, const MemorySelect& op, void* memory, const Target& target);
template <typename T>
void launch_memory_select_backward(const T*, const MemorySelect& op,
                                   const MemorySelectGradients& grads, const Target& target);

}  // namespace mmadaptor::cuda
