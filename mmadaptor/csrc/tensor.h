// SPDX-License-Identifier: Apache-2.0
// Tensors for the host code of all ops, on torch's stable ABI: one binary serves every
// torch from TORCH_TARGET_VERSION (setup.py) on. Only torch/csrc/stable and
// torch/headeronly may be included in this folder.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <algorithm>
#include <numeric>
#include <optional>
#include <stdexcept>
#include <utility>
#include <vector>

#include "allocation_failure.h"

namespace mmadaptor {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using OptionalTensor = std::optional<Tensor>;
using Sizes = std::vector<int64_t>;

inline bool is_present(const OptionalTensor& t) { return t.has_value() && t->defined(); }

// The dtypes of the kernels, as torch numbers them.
struct NumberedDtype {
  int32_t number;
  ScalarType dtype;
};

inline const auto& numbered_dtypes() {
  static const NumberedDtype dtypes[] = {{aoti_torch_dtype_float32(), ScalarType::Float},
                                         {aoti_torch_dtype_bfloat16(), ScalarType::BFloat16},
                                         {aoti_torch_dtype_float16(), ScalarType::Half},
                                         {aoti_torch_dtype_float64(), ScalarType::Double}};
  return dtypes;
}

// Like t.scalar_type(), which asks torch for the number of each dtype in turn.
inline ScalarType dtype_of(const Tensor& t) {
  int32_t number = 0;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_dtype(t.get(), &number));
  for (const auto& known : numbered_dtypes())
    if (number == known.number) return known.dtype;
  return t.scalar_type();
}

inline Sizes sizes_of(const Tensor& t) {
  const auto sizes = t.sizes();
  return {sizes.begin(), sizes.end()};
}

// The stride of a dimension. If its size is 1, torch allows any stride, and this is 0.
inline int64_t stride_of(const Tensor& t, int64_t dim) {
  return t.size(dim) == 1 ? 0 : t.stride(dim);
}

// Uninitialized and contiguous, on the device of `like`.
inline Tensor empty_tensor(const Sizes& sizes, ScalarType dtype, const Tensor& like) {
  int32_t number = 0, device_type = 0, device_index = 0;
  for (const auto& known : numbered_dtypes())
    if (dtype == known.dtype) number = known.number;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(like.get(), &device_type));
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_index(like.get(), &device_index));
  Sizes strides(sizes.size());
  int64_t stride = 1;
  for (size_t dim = sizes.size(); dim-- > 0; stride *= std::max<int64_t>(sizes[dim], 1))
    strides[dim] = stride;
  AtenTensorHandle tensor = nullptr;
  if (aoti_torch_empty_strided(static_cast<int64_t>(sizes.size()), sizes.data(), strides.data(),
                               number, device_type, device_index, &tensor) != TORCH_SUCCESS)
    throw_allocation_failure(stride, like);
  return Tensor(tensor);
}

// Uninitialized, in the memory order of `like`, as torch.empty_like chooses it. Like
// torch::stable::empty_like, except for its failure.
inline Tensor empty_in_order_of(const Tensor& like) {
  const StableIValue none = torch::stable::detail::from(std::nullopt);
  StableIValue stack[] = {torch::stable::detail::from(like), none, none, none, none, none};
  if (torch_call_dispatcher("aten::empty_like", "", stack, TORCH_ABI_VERSION) != TORCH_SUCCESS)
    throw_allocation_failure(like.numel(), like);
  return torch::stable::detail::to<Tensor>(stack[0]);
}

inline void copy_to(const Tensor& from, Tensor to) { torch::stable::copy_(to, from); }

// Results are contiguous, regardless of the strides of the arguments.
inline Tensor empty_contiguous(const Tensor& like) {
  return empty_tensor(sizes_of(like), dtype_of(like), like);
}

inline Tensor as_contiguous(const Tensor& t) {
  if (t.is_contiguous()) return t;
  const Tensor copied = empty_contiguous(t);
  copy_to(t, copied);
  return copied;
}

inline OptionalTensor as_contiguous(const OptionalTensor& t) {
  return is_present(t) ? OptionalTensor(as_contiguous(*t)) : std::nullopt;
}

inline Tensor as_dtype(const Tensor& t, ScalarType dtype) {
  if (dtype_of(t) == dtype) return t;
  try {
    return torch::stable::to(t, dtype);
  } catch (const std::runtime_error&) {
    throw_allocation_failure(t.numel(), t);
  }
}

// The sum of the numbers of a tensor on the CPU, one after another.
template <typename T>
double sum_in_order(const Tensor& t) {
  const T* const numbers = static_cast<const T*>(t.const_data_ptr());
  return std::accumulate(numbers, numbers + t.numel(), 0.0);
}

// The sum over the first dimension, in the dtype of the parts.
inline void add_parts(const Tensor& parts, Tensor total) {
  if (total.numel() == 1 && !total.is_cuda()) {
    // torch would divide the parts among its threads, so the sum would depend on their number.
    const bool is_double = dtype_of(parts) == ScalarType::Double;
    torch::stable::fill_(total,
                         is_double ? sum_in_order<double>(parts) : sum_in_order<float>(parts));
    return;
  }
  const int64_t first[] = {0};
  const torch::headeronly::IntHeaderOnlyArrayRef over(first, 1);
  if (dtype_of(parts) == dtype_of(total)) {
    torch::stable::sum_out(total, parts, over);
    return;
  }
  Tensor sum = empty_tensor(sizes_of(total), dtype_of(parts), total);
  torch::stable::sum_out(sum, parts, over);
  copy_to(sum, total);
}

// A view with the dimensions in the given order, as in at::Tensor::permute.
inline Tensor permuted(Tensor t, Sizes order) {
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
  Parts(const Tensor& total, int64_t parts, ScalarType dtype) : total_(total) {
    if (parts == 1 && dtype_of(total) == dtype) return;
    auto sizes = sizes_of(total);
    sizes.insert(sizes.begin(), parts);
    parts_ = empty_tensor(sizes, dtype, total);
  }

  void* data() const {
    return parts_ ? parts_->mutable_data_ptr() : total_ ? total_->mutable_data_ptr() : nullptr;
  }
  int64_t stride() const { return parts_ ? parts_->stride(0) : 0; }
  Tensor first() const { return parts_ ? torch::stable::select(*parts_, 0, 0) : *total_; }

  void add_up() const {
    if (!parts_) return;
    if (parts_->size(0) == 1)
      copy_to(first(), *total_);
    else
      add_parts(*parts_, *total_);
  }

 private:
  OptionalTensor total_, parts_;
};

}  // namespace mmadaptor
