// SPDX-License-Identifier: Apache-2.0
// Argument checks shared by all ops. All messages have the same form:
// "selective_scan: `delta` must have shape [2, 8, 16] (that of `u`), got [2, 8, 15]".
#pragma once

#include <ATen/ATen.h>

#include <optional>

namespace mmadaptor {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;

inline bool is_present(const OptionalTensor& t) { return t.has_value() && t->defined(); }

// The checks of one call. The name of the op is used in messages; all tensors must be on
// the device of `first`.
class Check {
 public:
  Check(const char* op, const Tensor& first) : op_(op), device_(first.device()) {}

  void floating(const char* name, const Tensor& t) const {
    const auto dtype = t.scalar_type();
    TORCH_CHECK_VALUE(
        dtype == at::kFloat || dtype == at::kDouble || dtype == at::kHalf || dtype == at::kBFloat16,
        op_, ": `", name, "` must be float32, float64, float16 or bfloat16, got ", dtype);
  }

  void dtype(const char* name, const Tensor& t, at::ScalarType expected, const char* why) const {
    TORCH_CHECK_VALUE(t.scalar_type() == expected, op_, ": `", name, "` must be ", expected, " (",
                      why, "), got ", t.scalar_type());
    TORCH_CHECK_VALUE(t.device() == device_, op_, ": `", name, "` must be on ", device_,
                      " like the first argument, got ", t.device());
    TORCH_CHECK_VALUE(t.layout() == at::kStrided, op_, ": `", name,
                      "` must be a dense tensor, got ", t.layout());
  }

  void rank(const char* name, const Tensor& t, int64_t expected, const char* meaning) const {
    TORCH_CHECK_VALUE(t.dim() == expected, op_, ": `", name, "` must have ", expected,
                      " dimensions ", meaning, ", got shape ", t.sym_sizes());
  }

  void shape(const char* name, const Tensor& t, c10::SymIntArrayRef expected,
             const char* meaning) const {
    TORCH_CHECK_VALUE(t.sym_sizes().equals(expected), op_, ": `", name, "` must have shape ",
                      expected, " ", meaning, ", got ", t.sym_sizes());
  }

  void only_batch_empty(const char* name, const Tensor& t, const char* meaning) const {
    for (int64_t dim = 1; dim < t.dim(); ++dim)
      TORCH_CHECK_VALUE(t.sym_size(dim) > 0, op_, ": `", name,
                        "` must not be empty but for its batch ", meaning, ", got shape ",
                        t.sym_sizes());
  }

  void not_empty(const char* name, const Tensor& t, int64_t dim, const char* meaning) const {
    TORCH_CHECK_VALUE(t.sym_size(dim) > 0, op_, ": `", name, "` has no ", meaning, ", got shape ",
                      t.sym_sizes());
  }

 private:
  const char* op_;
  at::Device device_;
};

// Results are contiguous, regardless of the strides of the arguments.
inline Tensor empty_contiguous(const Tensor& like) {
  return at::empty_symint(like.sym_sizes(), like.options());
}

// Kernels accumulate in float64 for float64, otherwise in float32.
inline at::ScalarType accumulate_type(at::ScalarType dtype) {
  return dtype == at::kDouble ? at::kDouble : at::kFloat;
}

}  // namespace mmadaptor
