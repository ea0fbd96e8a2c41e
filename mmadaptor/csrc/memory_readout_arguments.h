// SPDX-License-Identifier: Apache-2.0
// Argument checks of memory_readout, for all devices.
#pragma once

#include "cross_selective_scan_arguments.h"
#include "memory_select_arguments.h"

namespace mmadaptor {

inline void check_memory_readout(const char* op, const Tensor& values, const Tensor& predicted,
                                 const std::vector<double>& granularities,
                                 const Tensor& coefficients, const OptionalTensor& grad_y) {
  const Check check(op, "values", values);
  const auto dtype = dtype_of(values);
  check.wide("values", values);
  check.rank("values", values, 5);
  check.only_batch_empty("values", values);
  check_map_fits(op, "values", values);
  const auto groups = static_cast<int64_t>(granularities.size());
  require(groups > 0 && values.size(4) % groups == 0, op,
          ": the `granularities`, one a group, must divide the channels of `values`");
  check.dtype("predicted", predicted, dtype);
  check.rank("predicted", predicted, 5);
  const int64_t numbers = predicted.size(4);
  require(numbers > 0 && numbers % (3 * groups) == 0, op,
          ": `predicted` must have three numbers for each place of a group, got ", numbers);
  check.shape("predicted", predicted,
              {values.size(0), values.size(1), values.size(2), values.size(3), numbers});
  check.dtype("coefficients", coefficients, dtype);
  check.shape("coefficients", coefficients,
              {values.size(0), values.size(1), values.size(2), values.size(3)});
  if (!grad_y.has_value()) return;
  check.dtype("grad_y", *grad_y, dtype);
  check.shape("grad_y", *grad_y, sizes_of_readout(values));
}

}  // namespace mmadaptor
