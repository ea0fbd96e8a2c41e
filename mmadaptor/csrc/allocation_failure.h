// SPDX-License-Identifier: Apache-2.0
// The error of an allocation that failed: out of memory, or what else torch or the device
// tells. The stable ABI itself tells only that there was an error.
#pragma once

#include <dlfcn.h>
#include <torch/csrc/stable/macros.h>
#include <torch/csrc/stable/tensor.h>

#include <stdexcept>
#include <string>

#ifdef USE_CUDA
#include <cuda_runtime_api.h>
#endif

namespace mmadaptor {

// The message of torch's last error in this thread; null before torch 2.13. The function is
// looked up by name, because one binary serves older versions too.
inline const char* last_error_of_torch() {
  using Function = const char*();
  void* const found = dlsym(RTLD_DEFAULT, "torch_exception_get_what_without_backtrace");
  return found ? reinterpret_cast<Function*>(found)() : nullptr;
}

#ifdef USE_CUDA
// Throws the error of earlier work on a device, if there was one. While a graph is captured,
// the stream must not be asked.
inline void check_earlier_work(int32_t device_index) {
  void* handle = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(device_index, &handle));
  const auto stream = static_cast<cudaStream_t>(handle);
  auto capture = cudaStreamCaptureStatusNone;
  cudaError_t error = cudaPeekAtLastError();
  if (error == cudaSuccess) error = cudaStreamIsCapturing(stream, &capture);
  if (error == cudaSuccess && capture == cudaStreamCaptureStatusNone)
    error = cudaStreamQuery(stream);
  cudaGetLastError();  // the next launch is not to find it
  const bool is_running = error == cudaErrorNotReady;
  const bool captures_elsewhere = error == cudaErrorStreamCaptureImplicit;
  if (is_running || captures_elsewhere || error == cudaErrorMemoryAllocation) return;
  STD_CUDA_CHECK(error);
}
#endif

// Python raises running out of memory on CUDA as torch.OutOfMemoryError, by this message.
[[noreturn]] inline void throw_allocation_failure(int64_t elements,
                                                  const torch::stable::Tensor& like) {
  const std::string tensor =
      "could not allocate a tensor of " + std::to_string(elements) + " elements";
  if (const char* const message = last_error_of_torch()) {
    const std::string text = message;
    const bool out_of_memory = text.find("out of memory") != std::string::npos ||
                               text.find("allocate memory") != std::string::npos;
    throw std::runtime_error((out_of_memory ? "mmadaptor: out of memory: " : "mmadaptor: ") +
                             tensor + ": " + text);
  }
#ifdef USE_CUDA
  if (like.is_cuda()) check_earlier_work(like.get_device_index());
#endif
  throw std::runtime_error("mmadaptor: out of memory: " + tensor);
}

}  // namespace mmadaptor
