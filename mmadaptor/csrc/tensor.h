// SPDX-License-Identifier: Apache-2.0
// Tensors for the host code of all ops, on torch's stable ABI: one binary serves every
// torch from TORCH_TARGET_VERSION (setup.py) on. Only torch/csrc/stable and
// torch/headeronly may be included in this folder.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <optional>
#include <utility>
#include <vector>

namespace mmadaptor {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using OptionalTensor = std::optional<Tensor>;
using Sizes = std::vector<int64_t>;

inline bool is_present(const OptionalTensor& t) { return t.has_value() && t->defined(); }

inline Sizes sizes_of(const Tensor& t) {
  const auto sizes = t.sizes();
  return {sizes.begin(), sizes.end()};
}

// Uninitialized and contiguous, on the device of `like`.
inline Tensor empty(const Sizes& sizes, ScalarType dtype, const Tensor& like) {
  return torch::stable::new_empty(like, sizes, dtype);
}

// Results are contiguous, regardless of the strides of the arguments.
inline Tensor empty_contiguous(const Tensor& like) {
  return empty(sizes_of(like), like.scalar_type(), like);
}

inline Tensor as_contiguous(const Tensor& t) {
  return t.is_contiguous() ? t : torch::stable::contiguous(t);
}

inline OptionalTensor as_contiguous(const OptionalTensor& t) {
  return is_present(t) ? OptionalTensor(as_contiguous(*t)) : std::nullopt;
}

inline Tensor cast(const Tensor& t, ScalarType dtype) {
  return t.scalar_type() == dtype ? t : torch::stable::to(t, dtype);
}

inline void copy(const Tensor& from, Tensor to) { torch::stable::copy_(to, from); }

inline Tensor sum_of_parts(const Tensor& parts) {
  const int64_t first[] = {0};
  return torch::stable::sum(parts, torch::headeronly::IntHeaderOnlyArrayRef(first, 1));
}

// A view with the dimensions in the given order, as in at::Tensor::permute.
inline Tensor permute(Tensor t, Sizes order) {
  for (int64_t dim = 0; dim < static_cast<int64_t>(order.size()); ++dim) {
    const int64_t from = order[dim];
    if (from == dim) continue;
    t = torch::stable::transpose(t, dim, from);
    for (auto& other : order)
      if (other == dim) other = from;
    order[dim] = dim;
  }
  return t;
}

inline const void* data_or_null(const OptionalTensor& t) {
  return is_present(t) ? t->const_data_ptr() : nullptr;
}

// Kernels accumulate in float64 for float64, otherwise in float32.
inline ScalarType accumulate_type(ScalarType dtype) {
  return dtype == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

// Partial gradients, for tasks that contribute to the same gradient: each task writes a
// part, and the parts are summed in a fixed order. A single part with the dtype of the
// gradient is the gradient itself.
class Parts {
 public:
  Parts() = default;
  Parts(const Tensor& total, int64_t parts, ScalarType dtype)
      : total_(total), direct_(parts == 1 && total.scalar_type() == dtype) {
    auto sizes = sizes_of(total);
    sizes.insert(sizes.begin(), parts);
    parts_ = direct_ ? torch::stable::unsqueeze(total, 0) : empty(sizes, dtype, total);
  }

  void* data() const { return parts_ ? parts_->mutable_data_ptr() : nullptr; }
  int64_t stride() const { return parts_ ? parts_->stride(0) : 0; }
  Tensor first() const { return torch::stable::select(*parts_, 0, 0); }

  void add_up() const {
    if (!parts_ || direct_) return;
    copy(parts_->size(0) == 1 ? first() : sum_of_parts(*parts_), *total_);
  }

 private:
  OptionalTensor total_, parts_;
  bool direct_ = false;
};

}  // namespace mmadaptor
