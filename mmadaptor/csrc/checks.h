// SPDX-License-Identifier: Apache-2.0
// Refusal of arguments with which a kernel would read or write out of bounds. The fake
// kernels in Python (mmadaptor/ops/<op>/fake.py) check the same and explain more: the
// functions of mmadaptor.ops show their message instead.
#pragma once

#include <sstream>
#include <stdexcept>

#include "tensor.h"

namespace mmadaptor {

template <typename... Text>
void require(bool holds, const Text&... text) {
  if (holds) return;
  std::ostringstream message;
  (message << ... << text);
  throw std::runtime_error(message.str());
}

// The checks of one call. All tensors must be on the device of the first.
class Check {
 public:
  Check(const char* op, const char* name, const Tensor& first)
      : op_(op), device_(device_of(op, name, first)) {}

  void dtype(const char* name, const Tensor& t, ScalarType expected) const {
    require(t.defined(), op_, ": `", name, "` must be a tensor, got None");
    require(t.scalar_type() == expected, op_, ": `", name, "` must be ", expected, ", got ",
            t.scalar_type());
    require(t.device() == device_, op_, ": `", name, "` must be on the device of the first tensor");
  }

  void floating(const char* name, const Tensor& t) const {
    require(t.scalar_type() == ScalarType::Half || t.scalar_type() == ScalarType::BFloat16 ||
                is_wide(t.scalar_type()),
            op_, ": `", name, "` must be a floating-point tensor, got ", t.scalar_type());
  }

  void wide(const char* name, const Tensor& t) const {
    require(is_wide(t.scalar_type()), op_, ": `", name, "` must be Float or Double, got ",
            t.scalar_type());
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

  static torch::stable::Device device_of(const char* op, const char* name, const Tensor& t) {
    require(t.defined(), op, ": `", name, "` must be a tensor, got None");
    return t.device();
  }

  static std::string text(const Sizes& sizes) {
    std::ostringstream out;
    for (const auto size : sizes) out << (out.tellp() == 0 ? "[" : ", ") << size;
    out << (sizes.empty() ? "[]" : "]");
    return out.str();
  }

  const char* op_;
  torch::stable::Device device_;
};

}  // namespace mmadaptor
