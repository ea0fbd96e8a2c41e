// SPDX-License-Identifier: Apache-2.0
// Parameters and table of the CPU kernels of memory_select and memory_readout.
#pragma once

#include <torch/headeronly/core/ScalarType.h>

#include <algorithm>
#include <cstdint>

namespace mmadaptor {

using torch::headeronly::ScalarType;

// A slice is one group of one direction: the map that the places of this group sample
// from. Its row at a pixel (channels times states) is contiguous in memory, followed by
// the rows of the next slices. All tensors are contiguous.
struct MemorySelect {
  ScalarType dtype;  // float or double
  int64_t batch, height, width;
  int64_t slices;  // directions times groups
  int64_t row;     // D / S * N
  int64_t places;
  const void *states, *locations, *weights;
  // Number of slices of the incoming gradient at a pixel: `slices`, or fewer, and then
  // slice s reads slice s % incoming_slices.
  int64_t incoming_slices;

  int64_t pixels() const { return height * width; }

  // Tokens are processed in tiles of about this many places.
  static constexpr int64_t kTilePlaces = 32;
  int64_t tile_tokens() const { return std::max<int64_t>(1, kTilePlaces / places); }
  int64_t tiles() const { return (pixels() + tile_tokens() - 1) / tile_tokens(); }
  int64_t forward_tasks() const { return batch * tiles(); }

  // In the backward pass, each task owns the gradient of one slice. Long rows are split
  // into blocks, which gives more tasks for more threads.
  static constexpr int64_t kBlock = 128;
  int64_t blocks() const { return (row + kBlock - 1) / kBlock; }
  int64_t backward_tasks() const { return batch * slices * blocks(); }
};

struct MemorySelectGradients {
  const void* memory;  // incoming
  void* states;
  // Outgoing, one part per block: (blocks, batch, height, width, slices, places, ...).
  // Each part is written by one task, and the caller sums the parts in a fixed order.
  void *locations, *weights;
};

// The places of memory_readout are predicted: for each token and direction, `predicted`
// has the offsets of the places of all groups (two numbers each), then their logits.
// `locations` and `weights` are unused.
struct MemoryReadout : MemorySelect {
  int64_t groups;               // S; slices are directions times groups
  const double* granularities;  // one per group
  const void *predicted, *coefficients;

  int64_t directions() const { return slices / groups; }
  int64_t width_of_predicted() const { return 3 * groups * places; }
  int64_t channels() const { return groups * row; }
};

struct MemoryReadoutGradients {
  const void* y;  // incoming
  void* values;
  // Outgoing. `predicted` has one part per block, (blocks, batch, ...); `coefficients`
  // has one part per block and group, (blocks, groups, batch, ...).
  void *predicted, *coefficients;
};

// Each function processes tasks begin .. end-1.
struct MemorySelectKernels {
  void (*forward)(const MemorySelect&, void* memory, int64_t begin, int64_t end);
  void (*backward)(const MemorySelect&, const MemorySelectGradients&, int64_t begin, int64_t end);
  void (*readout)(const MemoryReadout&, void* y, int64_t begin, int64_t end);
  void (*readout_backward)(const MemoryReadout&, const MemoryReadoutGradients&, int64_t begin,
                           int64_t end);
};

// The kernels for the current processor.
const MemorySelectKernels& memory_select_kernels();

#if defined(__x86_64__)
namespace avx2 {
extern const MemorySelectKernels memory_select_kernels;
}
#endif
namespace baseline {
extern const MemorySelectKernels memory_select_kernels;
}

}  // namespace mmadaptor
