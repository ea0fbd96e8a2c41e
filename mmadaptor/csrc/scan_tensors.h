// SPDX-License-Identifier: Apache-2.0
// Conversion of tensors to kernel parameters, and summation of partial gradients, on all
// devices.
#pragma once

#include <ATen/ATen.h>

#include "checks.h"
#include "scan_view.h"

namespace mmadaptor {

inline const void* data_or_null(const OptionalTensor& t) {
  return is_present(t) ? t->const_data_ptr() : nullptr;
}

inline void* data_or_null(const Tensor& t) { return t.defined() ? t.data_ptr() : nullptr; }

inline OptionalTensor contiguous(const OptionalTensor& t) {
  return is_present(t) ? OptionalTensor(t->contiguous()) : std::nullopt;
}

// Partial gradients, for tasks that contribute to the same gradient: each task writes a
// part, and the parts are summed in a fixed order. A single part with the dtype of the
// gradient is an alias of the gradient.
class Parts {
 public:
  Parts() = default;
  Parts(const Tensor& total, int64_t parts, c10::ScalarType dtype) : total_(total) {
    auto sizes = total.sizes().vec();
    sizes.insert(sizes.begin(), parts);
    parts_ = parts == 1 && total.scalar_type() == dtype
                 ? total.unsqueeze(0)
                 : at::empty(sizes, total.options().dtype(dtype));
  }

  void* data() const { return data_or_null(parts_); }
  int64_t stride() const { return parts_.defined() ? parts_.stride(0) : 0; }
  Tensor first() const { return parts_.select(0, 0); }

  void add_up() {
    if (!parts_.defined() || parts_.is_alias_of(total_)) return;
    if (parts_.size(0) == 1)
      total_.copy_(parts_.select(0, 0));
    else
      total_.copy_(parts_.sum(0));
  }

 private:
  Tensor total_, parts_;
};

}  // namespace mmadaptor
