// SPDX-License-Identifier: Apache-2.0
// The parts of torch that the CUDA ops need: device, stream and launch errors.
#pragma once

#include "../checks.h"
#include "target.h"

#ifdef MMADAPTOR_EMULATION
#include "emulation_torch_device.h"
#else
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/macros.h>

#define MMADAPTOR_DEVICE CUDA
#define MMADAPTOR_LAUNCHED() STD_CUDA_KERNEL_LAUNCH_CHECK()

namespace mmadaptor::cuda {

// The current device and stream.
inline Target current_target() {
  int device = 0, shared = 0;
  void* stream = nullptr;
  STD_CUDA_CHECK(cudaGetDevice(&device));
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(device, &stream));
  Target target{static_cast<cudaStream_t>(stream), 0, 0};
  STD_CUDA_CHECK(
      cudaDeviceGetAttribute(&target.processors, cudaDevAttrMultiProcessorCount, device));
  STD_CUDA_CHECK(cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
  target.shared_bytes = shared;
  return target;
}

// Makes a tensor's device the current one during its lifetime.
class DeviceGuard {
 public:
  explicit DeviceGuard(const Tensor& t) : guard_(t.get_device_index()) {}

 private:
  torch::stable::accelerator::DeviceGuard guard_;
};

}  // namespace mmadaptor::cuda
#endif

namespace mmadaptor::cuda {

// A grid has fewer than 2^31 blocks, and the kernels number tiles and parts by 32 bits.
inline void check_count(const char* op, const char* what, int64_t count) {
  require(count < int64_t{1} << 31, op, " on CUDA: ", what, " must be less than 2^31, got ", count);
}

// Calls `visit` with a null pointer whose type is the CUDA type of a dtype.
template <typename Visit>
void for_element(ScalarType dtype, const Visit& visit) {
  switch (dtype) {
    case ScalarType::Float:
      return visit(static_cast<float*>(nullptr));
    case ScalarType::Double:
      return visit(static_cast<double*>(nullptr));
    case ScalarType::Half:
      return visit(static_cast<__half*>(nullptr));
    case ScalarType::BFloat16:
      return visit(static_cast<__nv_bfloat16*>(nullptr));
    default:
      require(false, "mmadaptor has no kernel for ", dtype);
  }
}

}  // namespace mmadaptor::cuda
