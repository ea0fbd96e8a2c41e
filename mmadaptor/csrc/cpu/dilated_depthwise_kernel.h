// SPDX-License-Identifier: Apache-2.0
// Parameters and table of the CPU kernels of dilated_depthwise.
#pragma once

#include <torch/headeronly/core/ScalarType.h>

#include <algorithm>
#include <cstdint>

namespace mmadaptor {

using torch::headeronly::ScalarType;

// All tensors are contiguous; maps are channels last.
struct DilatedDepthwise {
  ScalarType dtype;
  int64_t batch, height, width, channels;
  const int64_t* dilations;
  int64_t count;        // number of dilations
  const void* kernels;  // (dilations, 9, channels), float or double

  // Distance of a tap from its pixel. Clamped to the size of the map: beyond this, the
  // tap is outside the map for every pixel.
  int64_t row_step(int64_t dilation) const { return std::min(dilation, height); }
  int64_t column_step(int64_t dilation) const { return std::min(dilation, width); }
  int64_t row_reach() const { return row_step(*std::max_element(dilations, dilations + count)); }
  int64_t column_reach() const {
    return column_step(*std::max_element(dilations, dilations + count));
  }

  // Maps are split into patches of at most this size, all of nearly the same size.
  static constexpr int64_t kRows = 16, kColumns = 64;
  int64_t bands() const { return (height + kRows - 1) / kRows; }
  int64_t strips() const { return (width + kColumns - 1) / kColumns; }
  int64_t patches() const { return batch * bands() * strips(); }

  // A task is a patch of this many neighboring channels: one cache line of floats.
  static constexpr int64_t kChannels = 16;
  int64_t blocks() const { return (channels + kChannels - 1) / kChannels; }
  int64_t tasks() const { return patches() * blocks(); }
};

struct DilatedDepthwiseGradients {
  const void *out, *y;  // incoming gradient of the result; the map
  void* grad_y;
  void* kernels;  // (patches, dilations, 9, channels), float or double
};

// Each function processes tasks begin .. end-1.
struct DilatedDepthwiseKernels {
  void (*forward)(const DilatedDepthwise&, const void* y, void* out, int64_t begin, int64_t end);
  void (*backward)(const DilatedDepthwise&, const DilatedDepthwiseGradients&, int64_t begin,
                   int64_t end);
};

// The kernels for the current processor.
const DilatedDepthwiseKernels& dilated_depthwise_kernels();

#if defined(__x86_64__)
namespace avx2 {
extern const DilatedDepthwiseKernels dilated_depthwise_kernels;
}
#endif
namespace baseline {
extern const DilatedDepthwiseKernels dilated_depthwise_kernels;
}

}  // namespace mmadaptor
