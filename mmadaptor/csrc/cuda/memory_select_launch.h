// SPDX-License-Identifier: Apache-2.0
// Parameters and launch functions of the CUDA kernels of memory_select.
#pragma once

#include "target.h"

namespace mmadaptor::cuda {

// A slice is one group of one direction: the map that the places of this group sample
// from. Its row at a pixel (channels times states) is contiguous in memory, followed by
// the rows of the next slices. All tensors are contiguous, aligned to kAlignment bytes and
// have the type of the launch.
struct MemorySelect {
  static constexpr int kAlignment = 16;

  int64_t batch;
  int height, width;
  int slices;  // directions times groups
  int row;     // D / S * N
  int places;
  // Number of slices of the incoming gradient at a pixel: `slices`, or fewer, and then
  // slice s reads slice s % incoming_slices.
  int incoming_slices;
  const void *states, *locations, *weights;

  __host__ __device__ int64_t pixels() const { return static_cast<int64_t>(height) * width; }
};

struct MemorySelectGradients {
  const void* memory;  // incoming
  void *states, *locations, *weights;
};

// Lists the places of each slice by cell, the square between four pixels: row 0 of the
// cells is above the map, row `height` below its last row of pixels. An entry is a token
// and a place, `token << bits | place`, and there are `items` of them in a slice, some of
// which are no place. Those of cell c are first[c] .. first[c + 1] - 1, in ascending order.
struct PlaceLists {
  int bits;
  int digit_bits, passes;  // of the radix sort
  unsigned items, cells;
  unsigned *entries, *scratch;  // (batch, slices, items)
  unsigned* first;              // (batch, slices, cells + 1)
};

// The first argument is a (possibly null) pointer to float or double and sets the type.
template <typename T>
void launch_memory_select(const T*, const MemorySelect& op, void* memory, const Target& target);
// Gradients of locations and weights.
template <typename T>
void launch_memory_select_places(const T*, const MemorySelect& op,
                                 const MemorySelectGradients& grads, const Target& target);
// Gradient of the states, in two steps.
template <typename T>
void launch_list_places(const T*, const MemorySelect& op, const PlaceLists& lists,
                        const Target& target);
template <typename T>
void launch_memory_select_states(const T*, const MemorySelect& op, const PlaceLists& lists,
                                 const void* incoming, void* states, const Target& target);

}  // namespace mmadaptor::cuda
