// What the CPU kernels of the selective scan are given, and which there are.
#pragma once

#include <c10/core/ScalarType.h>

#include <cstdint>

#include "../scan_layout.h"

namespace mmadaptor {

// Channels are walked in tiles of one vector. A tile never holds channels of
// two groups; a block is the tiles that one task works off one after the other.
constexpr int64_t kBlock = 64;

inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// A tensor as the kernels see it: where it starts and its strides, in elements.
struct Strided {
  void* data = nullptr;
  int64_t batch = 0, channel = 0, time = 0;
  int64_t state = 0;  // of B, C and the states
};

// The arguments of one call. u, delta and z are of `dtype`; the rest is float,
// or double with double, and A, D and delta_bias are contiguous. What the call
// leaves out has no data.
struct Scan {
  c10::ScalarType dtype;
  int64_t batch, channels, groups, states, length;
  bool delta_softplus;
  bool reads_out;  // if not, the call asks for the states themselves
  Strided u, delta, z;
  Strided B, C;         // `channel` is the stride over groups if they vary in
  bool B_varies, C_varies;  // time, and over channels if they do not
  const void *A, *D, *delta_bias;

  int64_t chunks() const { return divide_up(length, kChunk); }
  int64_t group_channels() const { return channels / groups; }
  int64_t blocks() const { return divide_up(group_channels(), kBlock); }
  int64_t tasks() const { return batch * groups * blocks(); }
};

struct ScanResults {
  Strided y;          // in the inputs' dtype; of a call that reads out
  Strided h;          // every state, float or double; of one that does not
  void* last_state;   // (batch, channels, states); may be null
  void* checkpoints;  // (batch, chunks, states, channels)
};

struct ScanGradients {
  Strided y, h;            // incoming, as in ScanResults
  const void* last_state;  // incoming, may be null
  const void* checkpoints;
  Strided u, delta, z;     // outgoing, in the inputs' dtype
  // Outgoing and zero at first, float or double. Each task adds to a part of
  // its own, so that the caller's sum over parts is in one order always.
  void *B, *C;  // (batch, groups, blocks, states, length) if they vary in time,
                // (batch, channels, states) if they do not
  void *A, *D, *delta_bias;  // (batch, channels, states), (batch, channels) twice
};

// Both work off tasks begin .. end-1 of the scan's tasks().
struct ScanKernels {
  void (*forward)(const Scan&, const ScanResults&, int64_t begin, int64_t end);
  void (*backward)(const Scan&, const ScanGradients&, int64_t begin, int64_t end);
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
