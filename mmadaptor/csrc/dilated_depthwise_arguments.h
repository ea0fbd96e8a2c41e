// SPDX-License-Identifier: Apache-2.0
// Argument checks and result allocation of dilated_depthwise. Shared by all devices and by
// torch.compile, which calls them with fake tensors.
#pragma once

#include <algorithm>
#include <tuple>

#include "checks.h"
#include "dilated_depthwise_limits.h"

namespace mmadaptor {

inline void check_dilated_depthwise(const char* op, const Tensor& y, const Tensor& kernels,
                                    at::IntArrayRef dilations) {
  const Check check(op, y);
  check.floating("y", y);
  check.dtype("y", y, y.scalar_type(), "its own dtype");
  check.rank("y", y, 4, "(batch, height, width, channels)");
  constexpr const char* kSizes[] = {"batch", "rows", "columns", "channels"};
  for (int64_t dim = 1; dim < 4; ++dim) check.not_empty("y", y, dim, kSizes[dim]);

  const auto not_positive = [](int64_t dilation) { return dilation < 1; };
  TORCH_CHECK_VALUE(!dilations.empty() && dilations.size() <= kMostDilations &&
                        std::none_of(dilations.begin(), dilations.end(), not_positive),
                    op, ": `dilations` must be positive, and 1 to ", kMostDilations,
                    " of them, got ", dilations);
  check.dtype("kernels", kernels, accumulate_type(y.scalar_type()), "as wide as the sums over `y`");
  check.shape("kernels", kernels, {static_cast<int64_t>(dilations.size()), y.sym_size(3), 3, 3},
              "(dilations, channels of `y`, 3, 3)");
}

inline void check_dilated_depthwise_gradient(const Tensor& grad, const Tensor& y,
                                             const Tensor& kernels, at::IntArrayRef dilations) {
  const char* op = "dilated_depthwise_backward";
  check_dilated_depthwise(op, y, kernels, dilations);
  const Check check(op, y);
  check.dtype("grad", grad, y.scalar_type(), "the dtype of `y`");
  check.shape("grad", grad, y.sym_sizes(), "(that of `y`)");
}

// Gradients of y and kernels.
inline std::tuple<Tensor, Tensor> empty_dilated_depthwise_gradients(const Tensor& y,
                                                                    const Tensor& kernels) {
  return {empty_contiguous(y), empty_contiguous(kernels)};
}

}  // namespace mmadaptor
