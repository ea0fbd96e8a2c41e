// SPDX-License-Identifier: Apache-2.0
// The device as the host code of the CUDA kernels sees it. Neither this header nor any
// .cu or .cuh file here includes torch, so nvcc compiles them in seconds and the tests
// can compile them for the host (tests/ops/emulation).
#pragma once

#include <cstddef>
#include <cstdint>

#ifdef MMADAPTOR_EMULATION
#include "emulation.h"
#else
#include <cuda_runtime_api.h>
#endif

struct __half;
struct __nv_bfloat16;

namespace mmadaptor::cuda {

// The device and stream of a call.
struct Target {
  cudaStream_t stream;
  int processors;       // number of multiprocessors
  size_t shared_bytes;  // maximum shared memory per block
};

}  // namespace mmadaptor::cuda
