// SPDX-License-Identifier: Apache-2.0
// Argument checks and result allocation of memory_readout. Shared by all devices and by
// torch.compile, which calls them with fake tensors.
#pragma once

#include <tuple>

#include "checks.h"

namespace mmadaptor {

inline void check_memory_readout(const char* op, const Tensor& values, const Tensor& predicted,
                                 at::ArrayRef<double> granularities, const Tensor& coefficients) {
  const Check check(op, values);
  const auto dtype = values.scalar_type();
  TORCH_CHECK_VALUE(dtype == at::kFloat || dtype == at::kDouble, op,
                    ": `values` must be float32 or float64, got ", dtype);
  check.dtype("values", values, dtype, "its own dtype");
  check.rank("values", values, 5, "(batch, height, width, directions, channels)");
  constexpr const char* kSizes[] = {"batch", "rows", "columns", "directions", "channels"};
  for (int64_t dim = 1; dim < 5; ++dim) check.not_empty("values", values, dim, kSizes[dim]);

  const auto groups = static_cast<int64_t>(granularities.size());
  TORCH_CHECK_VALUE(groups > 0, op, ": `granularities` must be one number at least, got none");
  const auto batch = values.sym_size(0), height = values.sym_size(1), width = values.sym_size(2),
             directions = values.sym_size(3), channels = values.sym_size(4);
  TORCH_CHECK_VALUE(channels % groups == 0, op, ": the ", groups,
                    " `granularities`, one a group, must divide the ", channels,
                    " channels of `values`");
  const char* like_values = "the dtype of `values`";
  check.dtype("predicted", predicted, dtype, like_values);
  check.rank("predicted", predicted, 5, "(batch, height, width, directions, 3 x groups x places)");
  const auto numbers = predicted.sym_size(4);
  TORCH_CHECK_VALUE(numbers > 0 && numbers % (3 * groups) == 0, op,
                    ": `predicted` must have three numbers for each place of the ", groups,
                    " groups, got ", numbers);
  check.shape("predicted", predicted, {batch, height, width, directions, numbers},
              "(batch, height, width, directions, 3 x groups x places)");
  check.dtype("coefficients", coefficients, dtype, like_values);
  check.shape("coefficients", coefficients, {batch, height, width, directions},
              "(batch, height, width, directions)");
}

inline void check_memory_readout_gradient(const Tensor& grad_y, const Tensor& values,
                                          const Tensor& predicted,
                                          at::ArrayRef<double> granularities,
                                          const Tensor& coefficients) {
  const char* op = "memory_readout_backward";
  check_memory_readout(op, values, predicted, granularities, coefficients);
  const Check check(op, values);
  check.dtype("grad_y", grad_y, values.scalar_type(), "the dtype of `values`");
  check.shape("grad_y", grad_y,
              {values.sym_size(0), values.sym_size(1), values.sym_size(2), values.sym_size(4)},
              "(batch, height, width, channels)");
}

inline Tensor empty_memory_readout(const Tensor& values) {
  return at::empty_symint(
      {values.sym_size(0), values.sym_size(1), values.sym_size(2), values.sym_size(4)},
      values.options());
}

// Gradients of values, predicted and coefficients.
inline std::tuple<Tensor, Tensor, Tensor> empty_memory_readout_gradients(
    const Tensor& values, const Tensor& predicted, const Tensor& coefficients) {
  return {empty_contiguous(values), empty_contiguous(predicted), empty_contiguous(coefficients)};
}

}  // namespace mmadaptor
