// SPDX-License-Identifier: Apache-2.0
// Emulates the subset of CUDA that the kernels use on the host: their unmodified source is
// compiled by a C++ compiler and runs as on a device, except for the order of execution.
// Blocks run one after another, in random order. The threads of a block are fibers, in
// random order too; each runs until it waits at a barrier or a shuffle. A deadlocked block
// raises an error, and so does a launch that a device refuses. Shared memory is an
// allocation of exactly the requested size, so that out-of-bounds accesses are detected,
// and is initialized to NaN. races.cpp detects data races.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
// There is no __shared__: kernels get their shared memory by shared_memory(), the bounds of
// which are known.

using cudaStream_t = void*;
enum cudaError_t { cudaSuccess, cudaErrorInvalidValue, cudaErrorInvalidConfiguration };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };
enum cudaDeviceAttr { cudaDevAttrMaxSharedMemoryPerBlockOptin };

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes;
  cudaStream_t stream;
};

// Indices of the running thread.
extern dim3 threadIdx, blockIdx, blockDim, gridDim;

struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) double2 {
  double x, y;
};

struct __half {
  _Float16 value;
};
struct __nv_bfloat16 {
  uint16_t bits;
};

inline float __half2float(__half x) { return static_cast<float>(x.value); }
inline __half __float2half(float x) { return {static_cast<_Float16>(x)}; }

inline float __bfloat162float(__nv_bfloat16 x) {
  const uint32_t bits = static_cast<uint32_t>(x.bits) << 16;
  float result;
  std::memcpy(&result, &bits, sizeof(result));
  return result;
}

inline __nv_bfloat16 __float2bfloat16(float x) {
  if (std::isnan(x)) return {0x7fff};
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  return {static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16)};
}

inline int __float_as_int(float x) {
  int bits;
  std::memcpy(&bits, &x, sizeof(bits));
  return bits;
}
inline unsigned __float_as_uint(float x) { return static_cast<unsigned>(__float_as_int(x)); }
inline float __int_as_float(int bits) {
  float x;
  std::memcpy(&x, &bits, sizeof(x));
  return x;
}

// Rounds up. As on a device, all bits of a NaN but its sign are set.
inline float __fadd_ru(float a, float b) {
  const float sum = a + b, rest = sum - a;
  if (std::isnan(sum)) return __int_as_float(0x7fffffff);
  const float error = (a - (sum - rest)) + (b - rest);  // exact
  return error > 0 ? std::nextafter(sum, INFINITY) : sum;
}

inline float __fdividef(float a, float b) { return a / b; }
inline float __expf(float x) { return std::exp(x); }

namespace emulation {

// ex2.approx.ftz.f32, with the largest relative error that PTX allows, 2^-22.5, always to
// the same side.
inline float ex2_approx(float x) {
  if (x == 0) return 1.0f;
  const double error = std::exp2(-22.5) - std::exp2(-24.0);  // the second is for rounding
  const float result = static_cast<float>(std::exp2(static_cast<double>(x)) * (1 + error));
  return result < 0x1p-126f ? 0.0f : result;
}

// Wait for all threads of the block or warp, and order the accesses to memory before and
// after it.
void wait_for_block();
void wait_for_warp(unsigned mask);

// Publishes a value to the warp, waits for the warp, and returns the value of lane `source`.
// As on a device, this orders no accesses to memory.
uint64_t exchange(unsigned mask, uint64_t value, unsigned source);
// The lanes that publish the same value.
unsigned lanes_with(unsigned mask, uint64_t value);
unsigned lane();

void* shared_memory();

// The host's side. As on a device, the first error is kept until it is asked for;
// throw_error() throws it.
int most_shared_bytes();
cudaError_t allow_shared_bytes(const void* kernel, int bytes);
// Runs `thread_body` for every thread of the grid.
cudaError_t launch(const cudaLaunchConfig_t& config, const void* kernel,
                   void (*thread_body)(const void*), const void* arguments);
void throw_error();

template <typename T>
T from_lane(unsigned mask, T value, unsigned source) {
  static_assert(sizeof(T) <= sizeof(uint64_t));
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = exchange(mask, bits, source);
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

}  // namespace emulation

inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline unsigned __match_any_sync(unsigned mask, unsigned value) {
  return emulation::lanes_with(mask, value);
}
inline void __syncthreads() { emulation::wait_for_block(); }
inline void __syncwarp(unsigned mask = ~0u) { emulation::wait_for_warp(mask); }

// If the source is outside the lane's group of `width` lanes, a lane gets its own value.
template <typename T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
  const unsigned lane = emulation::lane();
  return emulation::from_lane(mask, value, lane / width * width + source % width);
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32) {
  const unsigned lane = emulation::lane(), source = lane ^ lanes;
  return emulation::from_lane(mask, value, source / width == lane / width ? source : lane);
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  const unsigned lane = emulation::lane();
  return emulation::from_lane(mask, value, lane % width >= delta ? lane - delta : lane);
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  const unsigned lane = emulation::lane();
  return emulation::from_lane(mask, value,
                              lane % width + delta < unsigned(width) ? lane + delta : lane);
}

inline cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) {
  *value = emulation::most_shared_bytes();
  return cudaSuccess;
}
template <typename... Parameters>
cudaError_t cudaFuncSetAttribute(void (*kernel)(Parameters...), cudaFuncAttribute, int value) {
  return emulation::allow_shared_bytes(reinterpret_cast<const void*>(kernel), value);
}
template <typename... Parameters, typename... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               const Arguments&... arguments) {
  const auto body = [&] { kernel(arguments...); };
  return emulation::launch(
      *config, reinterpret_cast<const void*>(kernel),
      [](const void* f) { (*static_cast<decltype(&body)>(f))(); }, &body);
}

inline int __all_sync(unsigned mask, int value) {
  for (int other = 16; other > 0; other /= 2) value &= __shfl_xor_sync(mask, value, other);
  return value;
}

namespace mmadaptor::cuda {

template <typename T>
T* shared_memory() {
  return static_cast<T*>(emulation::shared_memory());
}

}  // namespace mmadaptor::cuda
