// SPDX-License-Identifier: Apache-2.0
// What the host code of the CUDA kernels knows of the device. Neither this nor any
// .cu or .cuh file here knows torch: nvcc compiles them in seconds, and the tests
// compile them for the host (tests/ops/emulation).
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

// Where a call runs.
struct Target {
  cudaStream_t stream;
  int processors;       // multiprocessors of the device
  size_t shared_bytes;  // that a block may have at most
};

}  // namespace mmadaptor::cuda
