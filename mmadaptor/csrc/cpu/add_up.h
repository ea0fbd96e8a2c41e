// SPDX-License-Identifier: Apache-2.0
// The sum of a few maps, in a fixed order.
#pragma once

#include "../tensor.h"

namespace mmadaptor {

template <typename T>
void add_to_first(T* parts, int64_t count, int64_t size) {
  constexpr int64_t kGrain = 1 << 15;
  torch::stable::parallel_for(0, size, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t part = 1; part < count; ++part) {
      const T* from = parts + part * size;
      for (int64_t i = begin; i < end; ++i) parts[i] += from[i];
    }
  });
}

// Adds the parts[1], parts[2], ... of a contiguous float or double tensor to parts[0].
inline void add_to_first(const Tensor& parts) {
  const int64_t count = parts.size(0), size = parts.numel() / count;
  if (dtype_of(parts) == ScalarType::Double)
    add_to_first(static_cast<double*>(parts.mutable_data_ptr()), count, size);
  else
    add_to_first(static_cast<float*>(parts.mutable_data_ptr()), count, size);
}

}  // namespace mmadaptor
