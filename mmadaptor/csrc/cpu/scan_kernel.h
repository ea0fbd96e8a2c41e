// SPDX-License-Identifier: Apache-2.0
// Parameters and table of the CPU kernels of the scans.
#pragma once

#include <torch/headeronly/core/ScalarType.h>

#include <atomic>

#include "../scan_view.h"

namespace mmadaptor {

using torch::headeronly::ScalarType;

// u, delta, z and the incoming gradient of y have `dtype`. Everything else is double if
// `dtype` is double, otherwise float.
struct Scan : ScanView {
  ScalarType dtype;
  ScalarType sum_dtype;  // dtype of y and of the gradient of u

  // A task takes a block of channels. The number of blocks is a power of two, so that
  // threads get equal shares; a block is whole vectors of any instruction set. Larger
  // blocks give longer contiguous memory accesses; with batch size 1 they are smaller,
  // so that several threads can share one sequence. The size does not depend on the
  // number of threads: the gradients of B and C are summed over blocks.
  static constexpr int64_t kMostChannels = 128;
  int64_t block() const {
    int64_t blocks = 1;
    while (divide_up(channels, blocks) > (batch > 1 ? kMostChannels : 64)) blocks *= 2;
    return divide_up(divide_up(channels, blocks), 16) * 16;
  }
  int64_t blocks() const { return divide_up(channels, block()); }
  int64_t tasks() const { return batch * (groups / sharing) * blocks(); }
};

// The readout of given states: y = sum_k C_k . h_k at each pixel. All tensors are
// contiguous and all float or all double: h (pixels, directions, channels, states),
// C and its gradient (pixels, directions, states), y (pixels, channels).
struct Readout {
  ScalarType dtype;
  int64_t directions, channels, states;
  const void *h, *C, *grad_y;
  void *y, *grad_h, *grad_C;
};

// Each thread of a scan takes the next of the scan's tasks() until none are left, so a
// delayed thread leaves its share to the others. No result depends on which thread runs
// a task. A thread of a readout processes pixels begin .. end-1.
struct ScanKernels {
  void (*forward)(const Scan&, const ScanResults&, std::atomic<int64_t>& next_task);
  void (*backward)(const Scan&, const ScanGradients&, std::atomic<int64_t>& next_task);
  void (*readout)(const Readout&, int64_t begin, int64_t end);
  void (*readout_backward)(const Readout&, int64_t begin, int64_t end);
};

#define MMADAPTOR_DECLARE_KERNELS(isa)   \
  namespace isa {                        \
  extern const ScanKernels scan_kernels; \
  }
#if defined(__x86_64__)
MMADAPTOR_DECLARE_KERNELS(avx512)
MMADAPTOR_DECLARE_KERNELS(avx2)
#endif
MMADAPTOR_DECLARE_KERNELS(baseline)

// The kernels for the current processor.
const ScanKernels& scan_kernels();

}  // namespace mmadaptor
