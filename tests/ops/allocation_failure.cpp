// SPDX-License-Identifier: Apache-2.0
// Prints the error of an allocation that failed on a GPU, for test_out_of_memory.py. The
// functions below stand for the CUDA runtime and for torch; the arguments are what they say.
#include "../../mmadaptor/csrc/allocation_failure.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace {

const char* message;  // of torch; null as before torch 2.13
cudaError_t last, of_stream;
cudaStreamCaptureStatus capture;
bool asked = false;

}  // namespace

extern "C" {

const char* torch_exception_get_what_without_backtrace() { return message; }
uint64_t aoti_torch_abi_version() { return 0; }
int32_t aoti_torch_device_type_cuda() { return 1; }
AOTITorchError aoti_torch_get_device_type(AtenTensorHandle, int32_t* type) {
  *type = 1;
  return TORCH_SUCCESS;
}
AOTITorchError aoti_torch_get_device_index(AtenTensorHandle, int32_t* index) {
  *index = 0;
  return TORCH_SUCCESS;
}
AOTITorchError aoti_torch_delete_tensor_object(AtenTensorHandle) { return TORCH_SUCCESS; }
AOTITorchError aoti_torch_get_current_cuda_stream(int32_t, void** stream) {
  *stream = nullptr;
  return TORCH_SUCCESS;
}
AOTITorchError torch_c10_cuda_check_msg(int32_t error, const char*, const char*, uint32_t, bool,
                                        char** text) {
  const std::string found = "CUDA error " + std::to_string(error) + " of earlier work";
  *text = error == cudaSuccess ? nullptr : strdup(found.c_str());
  return TORCH_SUCCESS;
}
void torch_c10_cuda_free_error_msg(char* text) { free(text); }

cudaError_t cudaPeekAtLastError() { return last; }
cudaError_t cudaGetLastError() { return std::exchange(last, cudaSuccess); }
cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* status) {
  *status = capture;
  return cudaSuccess;
}
cudaError_t cudaStreamQuery(cudaStream_t) {
  asked = true;
  return of_stream;
}

}  // extern "C"

int main(int, char** arguments) {
  message = *arguments[1] ? arguments[1] : nullptr;
  last = static_cast<cudaError_t>(std::atoi(arguments[2]));
  of_stream = static_cast<cudaError_t>(std::atoi(arguments[3]));
  capture = static_cast<cudaStreamCaptureStatus>(std::atoi(arguments[4]));
  try {
    mmadaptor::throw_allocation_failure(8, torch::stable::Tensor(AtenTensorHandle{nullptr}));
  } catch (const std::runtime_error& error) {
    std::printf("%s\n%s\n%d\n", error.what(), asked ? "asked the stream" : "", last);
  }
}
