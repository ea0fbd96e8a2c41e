// SPDX-License-Identifier: Apache-2.0
// Refusal of arguments with which a kernel would read or write out of bounds. The fake
// kernels in Python (mmadaptor/ops/<op>/fake.py) check the same and explain more: the
// functions of mmadaptor.ops show their message instead.
#pragma once

#include "require.h"
#include "tensor.h"

namespace mmadaptor {

// The checks of one call. All tensors must be on the device of the first.
class Check {
 public:
  Check(const char* op, const char* name, const Tensor& first) : op_(op) {
    require(first.defined(), op, ": `", name, "` must be a tensor, got None");
    device_ = device_of(first);
  }

  void dtype(const char* name, const Tensor& t, ScalarType expected) const {
    require(t.defined(), op_, ": `", name, "` must be a tensor, got None");
    require(dtype_of(t) == expected, op_, ": `", name, "` must be ", expected, ", got ",
            dtype_of(t));
    require(device_of(t) == device_, op_, ": `", name,
            "` must be on the device of the first tensor");
  }

  void floating(const char* name, const Tensor& t) const {
    const auto dtype = dtype_of(t);
    require(is_wide(dtype) || dtype == ScalarType::Half || dtype == ScalarType::BFloat16, op_,
            ": `", name, "` must be a floating-point tensor, got ", dtype);
  }

  void wide(const char* name, const Tensor& t) const {
    const auto dtype = dtype_of(t);
    require(is_wide(dtype), op_, ": `", name, "` must be Float or Double, got ", dtype);
  }

  void rank(const char* name, const Tensor& t, int64_t expected) const {
    require(t.dim() == expected, op_, ": `", name, "` must have ", expected, " dimensions, got ",
            t.dim());
  }

  // Sizes that a kernel divides by; only the batch may be empty.
  void only_batch_empty(const char* name, const Tensor& t) const {
    for (int64_t dim = 1; dim < t.dim(); ++dim)
      require(t.size(dim) > 0, op_, ": `", name, "` must not be empty in dimension ", dim);
  }

  void shape(const char* name, const Tensor& t, const Sizes& expected) const {
    require(sizes_of(t) == expected, op_, ": `", name, "` must have shape ", text(expected),
            ", got ", text(sizes_of(t)));
  }

 private:
  static bool is_wide(ScalarType dtype) {
    return dtype == ScalarType::Float || dtype == ScalarType::Double;
  }

  // Type and index, as torch numbers them.
  static std::pair<int32_t, int32_t> device_of(const Tensor& t) {
    std::pair<int32_t, int32_t> device;
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(t.get(), &device.first));
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_index(t.get(), &device.second));
    return device;
  }

  const char* op_;
  std::pair<int32_t, int32_t> device_;
};

}  // namespace mmadaptor
