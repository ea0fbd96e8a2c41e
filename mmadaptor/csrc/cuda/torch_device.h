// SPDX-License-Identifier: Apache-2.0
// The parts of torch that the CUDA ops need: device, stream and launch errors.
#pragma once

#include <ATen/ATen.h>

#include "target.h"

#ifdef MMADAPTOR_EMULATION
#include "emulation_torch_device.h"
#else
// Nothing from ATen/cuda: it needs headers that a toolkit may lack (cusparse.h).
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#define MMADAPTOR_DEVICE CUDA
#define MMADAPTOR_LAUNCHED() C10_CUDA_KERNEL_LAUNCH_CHECK()

namespace mmadaptor::cuda {

// Makes a tensor's device the current one during its lifetime.
using DeviceGuard = c10::cuda::CUDAGuard;

// The current device and stream.
inline Target current_target() {
  Target target{c10::cuda::getCurrentCUDAStream(), 0, 0};
  const int device = c10::cuda::current_device();
  int shared = 0;
  C10_CUDA_CHECK(
      cudaDeviceGetAttribute(&target.processors, cudaDevAttrMultiProcessorCount, device));
  C10_CUDA_CHECK(cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
  target.shared_bytes = shared;
  return target;
}

}  // namespace mmadaptor::cuda
#endif

namespace mmadaptor::cuda {

// Calls `visit` with a null pointer whose type is the CUDA type of a dtype.
template <typename Visit>
void for_element(c10::ScalarType dtype, const Visit& visit) {
  switch (dtype) {
    case at::kFloat:
      return visit(static_cast<float*>(nullptr));
    case at::kDouble:
      return visit(static_cast<double*>(nullptr));
    case at::kHalf:
      return visit(static_cast<__half*>(nullptr));
    case at::kBFloat16:
      return visit(static_cast<__nv_bfloat16*>(nullptr));
    default:
      TORCH_INTERNAL_ASSERT(false, "no kernel for ", dtype);
  }
}

}  // namespace mmadaptor::cuda
