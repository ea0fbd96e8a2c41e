// SPDX-License-Identifier: Apache-2.0
// Runs the tasks of a scan on the threads, for both scans.
#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>

#include "../scan_tensors.h"
#include "scan_kernel.h"

namespace mmadaptor {

// The kernels for the current processor.
const ScanKernels& scan_kernels();

template <typename Kernel, typename Tensors>
void run(Kernel kernel, const Scan& scan, const Tensors& tensors) {
  std::atomic<int64_t> next_task{0};
  const int64_t threads = std::min<int64_t>(scan.tasks(), at::get_num_threads());
  at::parallel_for(0, threads, 1, [&](int64_t, int64_t) { kernel(scan, tensors, next_task); });
}

}  // namespace mmadaptor
