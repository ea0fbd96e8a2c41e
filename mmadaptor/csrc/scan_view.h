// SPDX-License-Identifier: Apache-2.0
// Parameters of the kernels of the scans, on all devices.
//
// The same kernels serve the 1-D and the 2-D scan: a sequence is a map of one row, and
// each group of channels walks along a path over its map.
#pragma once

#include <cstdint>

#include "scan_layout.h"

#ifdef __CUDACC__
#define MMADAPTOR_EVERYWHERE __host__ __device__
#else
#define MMADAPTOR_EVERYWHERE
#endif

namespace mmadaptor {

MMADAPTOR_EVERYWHERE inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// A tensor as the kernels see it: data pointer and strides in elements.
struct Strided {
  void* data = nullptr;
  int64_t batch = 0, group = 0, channel = 0, row = 0, column = 0;
  int64_t state = 0;  // only for B, C and the states
};

// The order in which a group visits the pixels of its map.
struct Path {
  bool by_columns, reversed;
};

// The arguments of one call. A, D and delta_bias are contiguous over groups and channels.
// The data of omitted arguments is null.
struct ScanView {
  int64_t batch, groups, channels, states;  // `channels` is per group
  int64_t height, width;
  // Number of groups that share u and y; y is then the sum over them. One task walks them
  // in turn, so the order of the sum is fixed.
  int64_t sharing = 1;
  bool crosses = false;  // the groups are the four directions over a map
  bool delta_softplus;
  bool reads_out, gives_states;
  Strided u, delta, z;
  Strided B, C;  // if varying, the channel stride is 0, otherwise row and column are
  bool B_varies, C_varies;
  const void *A, *D, *delta_bias;

  MMADAPTOR_EVERYWHERE int64_t length() const { return height * width; }
  MMADAPTOR_EVERYWHERE int64_t chunks() const { return divide_up(length(), kChunk); }
  MMADAPTOR_EVERYWHERE int64_t all_channels() const { return groups * channels; }
  MMADAPTOR_EVERYWHERE Path path(int64_t group) const {
    return {crosses && group % 2 == 1, crosses && group >= 2};
  }
};

struct ScanResults {
  Strided y;          // only if reads_out
  Strided h;          // all states, float or double; only if gives_states
  void* last_state;   // (batch, all channels, states); may be null
  void* checkpoints;  // (batch, chunks, states, all channels)
};

struct ScanGradients {
  Strided y, h;            // incoming, as in ScanResults
  const void* last_state;  // incoming, may be null
  const void* checkpoints;
  Strided u, delta, z;  // outgoing
  // Outgoing, float or double. If B and C vary, each block of channels writes a separate
  // part of their gradients, so that the caller sums the parts in a fixed order. If they
  // do not vary, their gradients have the layout of A below.
  Strided B, C;
  int64_t B_part, C_part;    // strides between the parts of blocks
  void *A, *D, *delta_bias;  // (batch, all channels, states), (batch, all channels) twice
};

}  // namespace mmadaptor
