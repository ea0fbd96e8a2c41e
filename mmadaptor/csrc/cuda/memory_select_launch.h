// SPDX-License-Identifier: Apache-2.0
// memory_select's kernels on a GPU: what they are given.
#pragma once

#include "target.h"

namespace mmadaptor::cuda {

// A slice is one group of one direction: the map that its places are read from.
// Its row at a pixel, channels times states, lies together in memory; the slices
// of a pixel lie one after the other. Everything is contiguous, and of the
// launch's type.
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

// For a pointer to float or double, which may be null.
template <typename T>
void launch_memory_select(const T*, const MemorySelect& op, void* memory, const Target& target);
template <typename T>
void launch_memory_select_backward(const T*, const MemorySelect& op,
                                   const MemorySelectGradients& grads, const Target& target);

}  // namespace mmadaptor::cuda
