// SPDX-License-Identifier: Apache-2.0
// What the kernels of the scans are given, on every device.
//
// One kernel serves the 1-D and the 2-D scan. Both are walks: a sequence is a
// map of one row, and each group of channels has a path over its map.
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

// A tensor as the kernels see it: where it starts and its strides, in elements.
struct Strided {
  void* data = nullptr;
  int64_t batch = 0, group = 0, channel = 0, row = 0, column = 0;
  int64_t state = 0;  // of B, C and the states
};

// In which order a group takes the pixels of its map.
struct Path {
  bool by_columns, reversed;
};

// The arguments of one call. A, D and delta_bias are contiguous over groups and
// channels. What the call leaves out has no data.
struct ScanView {
  int64_t batch, groups, channels, states;  // `channels` are those of a group
  int64_t height, width;
  // So many groups share u and y, which is then the sum over them. One task
  // walks them one after the other, so the order of the sum is always the same.
  int64_t sharing = 1;
  bool crosses = false;  // the groups are the four directions over a map
  bool delta_softplus;
  bool reads_out, gives_states;
  Strided u, delta, z;
  Strided B, C;  // no row and column if they do not vary, no channel if they do
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
  Strided y;          // if the call reads out
  Strided h;          // every state, float or double; if it gives them
  void* last_state;   // (batch, all channels, states); may be null
  void* checkpoints;  // (batch, chunks, states, all channels)
};

struct ScanGradients {
  Strided y, h;            // incoming, as in ScanResults
  const void* last_state;  // incoming, may be null
  const void* checkpoints;
  Strided u, delta, z;  // outgoing
  // Outgoing, float or double. Each block of channels has a part of its own in
  // the gradients of a B and C that vary, so that the caller's sum over parts is
  // in one order always; where they do not vary, B and C are as A below.
  Strided B, C;
  int64_t B_part, C_part;    // strides from block to block
  void *A, *D, *delta_bias;  // (batch, all channels, states), (batch, all channels) twice
};

}  // namespace mmadaptor
