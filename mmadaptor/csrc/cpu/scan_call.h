// From the tensors of a call to the kernels' view of them, for both scans.
#pragma once

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>

#include "../checks.h"
#include "scan_kernel.h"

namespace mmadaptor {

// The kernels of this processor.
const ScanKernels& scan_kernels();

template <typename Kernel, typename Tensors>
void run(Kernel kernel, const Scan& scan, const Tensors& tensors) {
  std::atomic<int64_t> next_task{0};
  const int64_t threads = std::min<int64_t>(scan.tasks(), at::get_num_threads());
  at::parallel_for(0, threads, 1, [&](int64_t, int64_t) { kernel(scan, tensors, next_task); });
}

inline const void* data_or_null(const OptionalTensor& t) {
  return is_present(t) ? t->const_data_ptr() : nullptr;
}

inline void* data_or_null(const Tensor& t) { return t.defined() ? t.data_ptr() : nullptr; }

inline OptionalTensor contiguous(const OptionalTensor& t) {
  return is_present(t) ? OptionalTensor(t->contiguous()) : std::nullopt;
}

// Where the tasks add to one gradient: a part for each, summed in their order.
// One part of the gradient's own dtype is the gradient itself.
class Parts {
 public:
  Parts() = default;
  Parts(const Tensor& total, int64_t parts, c10::ScalarType dtype) : total_(total) {
    auto sizes = total.sizes().vec();
    sizes.insert(sizes.begin(), parts);
    parts_ = parts == 1 && total.scalar_type() == dtype
        ? total.unsqueeze(0) : at::empty(sizes, total.options().dtype(dtype));
  }

  void* data() const { return data_or_null(parts_); }
  int64_t stride() const { return parts_.defined() ? parts_.stride(0) : 0; }
  Tensor first() const { return parts_.select(0, 0); }

  void add_up() {
    if (!parts_.defined() || parts_.is_alias_of(total_)) return;
    if (parts_.size(0) == 1) total_.copy_(parts_.select(0, 0));
    else total_.copy_(parts_.sum(0));
  }

 private:
  Tensor total_, parts_;
};

}  // namespace mmadaptor
