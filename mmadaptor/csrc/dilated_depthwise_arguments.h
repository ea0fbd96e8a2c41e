// SPDX-License-Identifier: Apache-2.0
// Argument checks of dilated_depthwise, for all devices.
#pragma once

#include <algorithm>

#include "checks.h"
#include "dilated_depthwise_limits.h"

namespace mmadaptor {

inline Check check_dilated_depthwise(const char* op, const Tensor& y, const Tensor& kernels,
                                     const std::vector<int64_t>& dilations) {
  const Check check(op, "y", y);
  check.floating("y", y);
  check.rank("y", y, 4);
  check.only_batch_empty("y", y);
  const auto not_positive = [](int64_t dilation) { return dilation < 1; };
  require(!dilations.empty() && dilations.size() <= kMostDilations &&
              std::none_of(dilations.begin(), dilations.end(), not_positive),
          op, ": `dilations` must be positive, and 1 to ", kMostDilations, " of them");
  check.dtype("kernels", kernels, accumulate_type(dtype_of(y)));
  check.shape("kernels", kernels, {static_cast<int64_t>(dilations.size()), y.size(3), 3, 3});
  return check;
}

inline void check_dilated_depthwise_gradient(const Tensor& grad, const Tensor& y,
                                             const Tensor& kernels,
                                             const std::vector<int64_t>& dilations) {
  const Check check = check_dilated_depthwise("dilated_depthwise_backward", y, kernels, dilations);
  check.dtype("grad", grad, dtype_of(y));
  check.shape("grad", grad, sizes_of(y));
}

}  // namespace mmadaptor
