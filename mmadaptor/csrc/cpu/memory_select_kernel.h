// SPDX-License-Identifier: Apache-2.0
// What the CPU kernels of memory_select and memory_readout are given, and which
// there are.
#pragma once

#include <c10/core/ScalarType.h>

#include <algorithm>
#include <cstdint>

namespace mmadaptor {

// A slice is one group of one direction: the map that its places are read from.
// Its row at a pixel, channels times states, lies together in memory; the slices
// of a pixel lie one after the other. Everything is contiguous.
struct MemorySelect {
  c10::ScalarType dtype;  // float or double
  int64_t batch, height, width;
  int64_t slices;  // directions times groups
  int64_t row;     // D / S * N
  int64_t places;
  const void *states, *locations, *weights;
  // How many slices the incoming gradient has at a pixel: as many as there are, or
  // fewer, which the slices read in turn.
  int64_t incoming_slices;

  int64_t pixels() const { return height * width; }

  // Tokens are worked off in tiles, of about this many places.
  static constexpr int64_t kTilePlaces = 32;
  int64_t tile_tokens() const { return std::max<int64_t>(1, kTilePlaces / places); }
  int64_t tiles() const { return (pixels() + tile_tokens() - 1) / tile_tokens(); }
  int64_t forward_tasks() const { return batch * tiles(); }

  // The backward pass owns a slice's gradient, in blocks of its row if the row
  // is long: more tasks for more threads.
  static constexpr int64_t kBlock = 128;
  int64_t blocks() const { return (row + kBlock - 1) / kBlock; }
  int64_t backward_tasks() const { return batch * slices * blocks(); }
};

struct MemorySelectGradients {
  const void* memory;  // incoming
  void* states;
  // Outgoing, one part for each block, (blocks, batch, height, width, slices,
  // places, ...): a part belongs to one task, and the caller's sum has one order.
  void *locations, *weights;
};

// memory_readout's places are predicted: at a token and direction lie the offsets
// of all groups' places, two numbers each, and then their logits. `locations` and
// `weights` are not used.
struct MemoryReadout : MemorySelect {
  int64_t groups;               // S; slices are directions times groups
  const double* granularities;  // one a group
  const void *predicted, *coefficients;

  int64_t directions() const { return slices / groups; }
  int64_t width_of_predicted() const { return 3 * groups * places; }
  int64_t channels() const { return groups * row; }
};

struct MemoryReadoutGradients {
  const void* y;  // incoming
  void* values;
  // Outgoing, one part for each block, and of the coefficients for each group too:
  // (blocks, batch, ...) and (blocks, groups, batch, ...).
  void *predicted, *coefficients;
};

// All work off tasks begin .. end-1.
struct MemorySelectKernels {
  void (*forward)(const MemorySelect&, void* memory, int64_t begin, int64_t end);
  void (*backward)(const MemorySelect&, const MemorySelectGradients&, int64_t begin, int64_t end);
  void (*readout)(const MemoryReadout&, void* y, int64_t begin, int64_t end);
  void (*readout_backward)(const MemoryReadout&, const MemoryReadoutGradients&, int64_t begin,
                           int64_t end);
};

// Those of this processor.
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
