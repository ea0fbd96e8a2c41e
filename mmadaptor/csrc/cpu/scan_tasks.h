// SPDX-License-Identifier: Apache-2.0
// Runs the tasks of a scan on the threads, for both scans.
#pragma once

#include <algorithm>
#include <atomic>

#include "../tensor.h"
#include "scan_kernel.h"

namespace mmadaptor {

template <typename Kernel, typename Tensors>
void run(Kernel kernel, const Scan& scan, const Tensors& tensors) {
  std::atomic<int64_t> next_task{0};
  const int64_t threads = std::min<int64_t>(scan.tasks(), torch::stable::get_num_threads());
  torch::stable::parallel_for(0, threads, 1,
                              [&](int64_t, int64_t) { kernel(scan, tensors, next_task); });
}

}  // namespace mmadaptor
