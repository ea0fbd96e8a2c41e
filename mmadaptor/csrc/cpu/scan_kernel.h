// What the CPU kernels of the scans are given, and which there are.
//
// One kernel serves the 1-D and the 2-D scan. Both are walks: a sequence is a
// map of one row, and each group of channels has a path over its map.
#pragma once

#include <c10/core/ScalarType.h>

#include <atomic>
#include <cstdint>

#include "../scan_layout.h"

namespace mmadaptor {

inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

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

// The arguments of one call. u, delta and z are of `dtype`; the rest is float,
// or double with double, and A, D and delta_bias are contiguous over groups and
// channels. What the call leaves out has no data.
struct Scan {
  c10::ScalarType dtype;
  c10::ScalarType sum_dtype;  // of y and of the gradient of u
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

  int64_t length() const { return height * width; }
  int64_t chunks() const { return divide_up(length(), kChunk); }
  int64_t all_channels() const { return groups * channels; }
  Path path(int64_t group) const { return {crosses && group % 2 == 1, crosses && group >= 2}; }

  // A task takes a block of channels: a power of two of blocks, so that threads find
  // equal shares, and whole vectors of any instruction set. The more channels, the
  // longer the pieces of memory; but one sequence alone is shared among threads.
  // Never by their number: the gradients of B and C are summed over blocks.
  static constexpr int64_t kMostChannels = 128;
  int64_t block() const {
    int64_t blocks = 1;
    while (divide_up(channels, blocks) > (batch > 1 ? kMostChannels : 64)) blocks *= 2;
    return divide_up(divide_up(channels, blocks), 16) * 16;
  }
  int64_t blocks() const { return divide_up(channels, block()); }
  int64_t tasks() const { return batch * (groups / sharing) * blocks(); }
};

struct ScanResults {
  Strided y;          // of sum_dtype; if the call reads out
  Strided h;          // every state, float or double; if it gives them
  void* last_state;   // (batch, all channels, states); may be null
  void* checkpoints;  // (batch, chunks, states, all channels)
};

struct ScanGradients {
  Strided y, h;            // incoming, of `dtype` and as in ScanResults
  const void* last_state;  // incoming, may be null
  const void* checkpoints;
  Strided u, delta, z;     // outgoing; u of sum_dtype, the others of `dtype`
  // Outgoing, float or double. Each block of channels has a part of its own in
  // the gradients of a B and C that vary, so that the caller's sum over parts is
  // in one order always; where they do not vary, B and C are as A below.
  Strided B, C;
  int64_t B_part, C_part;    // strides from block to block
  void *A, *D, *delta_bias;  // (batch, all channels, states), (batch, all channels) twice
};

// What given states say: y = sum_k C_k . h_k at each pixel. All are contiguous
// and float, or double: h (pixels, directions, channels, states), C and its
// gradient (pixels, directions, states), y (pixels, channels).
struct Readout {
  c10::ScalarType dtype;
  int64_t directions, channels, states;
  const void *h, *C, *grad_y;
  void *y, *grad_h, *grad_C;
};

// A thread of a scan takes the next of the scan's tasks() until there are none: a
// thread that is held up leaves its share to the others, and no result depends on
// who did a task. A thread of a readout does the pixels begin .. end-1.
struct ScanKernels {
  void (*forward)(const Scan&, const ScanResults&, std::atomic<int64_t>& next_task);
  void (*backward)(const Scan&, const ScanGradients&, std::atomic<int64_t>& next_task);
  void (*readout)(const Readout&, int64_t begin, int64_t end);
  void (*readout_backward)(const Readout&, int64_t begin, int64_t end);
};

#define MMADAPTOR_DECLARE_KERNELS(isa) \
  namespace isa {                      \
  extern const ScanKernels scan_kernels; \
  }
#if defined(__x86_64__)
MMADAPTOR_DECLARE_KERNELS(avx512)
MMADAPTOR_DECLARE_KERNELS(avx2)
#endif
MMADAPTOR_DECLARE_KERNELS(baseline)

}  // namespace mmadaptor
