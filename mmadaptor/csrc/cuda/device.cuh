// SPDX-License-Identifier: Apache-2.0
// Helpers for all kernels: conversion to float, warp sums, shared memory and launches.
#pragma once

#include "../scan_view.h"
#include "target.h"

#ifndef MMADAPTOR_EMULATION
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

namespace mmadaptor::cuda {

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

template <typename T>
struct WideOf {
  using type = float;
};
template <>
struct WideOf<double> {
  using type = double;
};
// The type in which arithmetic on T is done.
template <typename T>
using Wide = typename WideOf<T>::type;

__device__ __forceinline__ float widen(float x) { return x; }
__device__ __forceinline__ double widen(double x) { return x; }
__device__ __forceinline__ float widen(__half x) { return __half2float(x); }
__device__ __forceinline__ float widen(__nv_bfloat16 x) { return __bfloat162float(x); }

template <typename T>
__device__ __forceinline__ T narrow(Wide<T> x) {
  return x;
}
template <>
__device__ __forceinline__ __half narrow<__half>(float x) {
  return __float2half(x);
}
template <>
__device__ __forceinline__ __nv_bfloat16 narrow<__nv_bfloat16>(float x) {
  return __float2bfloat16(x);
}

// The sum over all lanes of a warp, returned in every lane.
template <typename W>
__device__ __forceinline__ W warp_sum(W x) {
  for (int other = kWarp / 2; other > 0; other /= 2) x += __shfl_xor_sync(kAllLanes, x, other);
  return x;
}

#ifndef MMADAPTOR_EMULATION
// The dynamic shared memory of the block.
template <typename T>
__device__ __forceinline__ T* shared_memory() {
  extern __shared__ __align__(16) unsigned char bytes[];
  return reinterpret_cast<T*>(bytes);
}
#endif

// Launches a kernel; the caller checks for errors afterwards. A kernel must request more
// than 48 KiB of shared memory before its launch. It requests all that the device has, not
// what this call needs: another host thread may be about to launch the same kernel with more.
template <typename Kernel, typename... Arguments>
void launch(Kernel kernel, dim3 grid, dim3 block, size_t shared, cudaStream_t stream,
            const Arguments&... arguments) {
  constexpr size_t kAlwaysThere = 48 * 1024;
  if (shared > kAlwaysThere) {
    int device = 0, most = 0;
    if (cudaGetDevice(&device) != cudaSuccess ||
        cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device) !=
            cudaSuccess ||
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, most) !=
            cudaSuccess)
      return;
  }
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared;
  config.stream = stream;
  cudaLaunchKernelEx(&config, kernel, arguments...);
}

}  // namespace mmadaptor::cuda
