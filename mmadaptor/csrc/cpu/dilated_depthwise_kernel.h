// SPDX-License-Identifier: Apache-2.0
// What the CPU kernels of dilated_depthwise are given, and which there are.
#pragma once

#include <c10/core/ScalarType.h>

#include <algorithm>
#include <cstdint>

namespace mmadaptor {

// Everything is contiguous, maps channels last.
struct DilatedDepthwise {
  c10::ScalarType dtype;
  int64_t batch, height, width, channels;
  const int64_t* dilations;
  int64_t count;        // of dilations
  const void* kernels;  // (dilations, 9, channels), float or double

  // How far a tap lies from its pixel. Beyond the map's size it is outside
  // wherever the pixel is.
  int64_t row_step(int64_t dilation) const { return std::min(dilation, height); }
  int64_t column_step(int64_t dilation) const { return std::min(dilation, width); }
  int64_t row_reach() const { return row_step(*std::max_element(dilations, dilations + count)); }
  int64_t column_reach() const {
    return column_step(*std::max_element(dilations, dilations + count));
  }

  // A map is worked off in patches of at most this size, all nearly the same.
  static constexpr int64_t kRows = 16, kColumns = 64;
  int64_t bands() const { return (height + kRows - 1) / kRows; }
  int64_t strips() const { return (width + kColumns - 1) / kColumns; }
  int64_t patches() const { return batch * bands() * strips(); }

  // A task is a patch of these neighbouring channels: a cache line of float.
  static constexpr int64_t kChannels = 16;
  int64_t blocks() const { return (channels + kChannels - 1) / kChannels; }
  int64_t tasks() const { return patches() * blocks(); }
};

struct DilatedDepthwiseGradients {
  const void *out, *y;  // that of the result, incoming; and the map
  void* grad_y;
  void* kernels;  // (patches, dilations, 9, channels), float or double
};

// Both work off tasks begin .. end-1.
struct DilatedDepthwiseKernels {
  void (*forward)(const DilatedDepthwise&, const void* y, void* out, int64_t begin, int64_t end);
  void (*backward)(const DilatedDepthwise&, const DilatedDepthwiseGradients&, int64_t begin,
                   int64_t end);
};

#if defined(__x86_64__)
namespace avx2 {
extern const DilatedDepthwiseKernels dilated_depthwise_kernels;
}
#endif
namespace baseline {
extern const DilatedDepthwiseKernels dilated_depthwise_kernels;
}

}  // namespace mmadaptor
