// SPDX-License-Identifier: Apache-2.0
// Emulates the subset of CUDA that the kernels use on the host: their unmodified source is
// compiled by a C++ compiler and runs as on a device, except for the order of execution.
// Blocks run one after another. The threads of a block are fibers; each runs until it waits
// at a barrier or a shuffle. A deadlocked block raises an error. Shared memory is an
// allocation of exactly the requested size, so that AddressSanitizer detects out-of-bounds
// accesses, and is initialized to NaN.
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
#define __shared__ static
#define __align__(bytes) alignas(bytes)

using cudaStream_t = void*;

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

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

// Rounds up.
inline float __fadd_ru(float a, float b) {
  const float sum = a + b, rest = sum - a;
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

// Indices of the running thread, as in CUDA.
extern dim3 thread, block, block_size, grid_size;

// Waits for all threads of the block.
void wait_for_block();

// Publishes a value to the warp, waits for the warp, and returns the value of lane `source`.
uint64_t exchange(uint64_t value, unsigned source);
unsigned lane();

void* shared_memory();

// Runs `thread_body` for every thread of the grid.
void run(dim3 grid, dim3 block, size_t shared_bytes, void (*thread_body)(const void*),
         const void* arguments);

template <typename T>
T from_lane(T value, unsigned source) {
  static_assert(sizeof(T) <= sizeof(uint64_t));
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = exchange(bits, source);
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

}  // namespace emulation

#define threadIdx emulation::thread
#define blockIdx emulation::block
#define blockDim emulation::block_size
#define gridDim emulation::grid_size

inline void __syncthreads() { emulation::wait_for_block(); }
inline void __syncwarp(unsigned = ~0u) { emulation::exchange(0, 0); }

// If the source is outside the lane's group of `width` lanes, a lane gets its own value.
template <typename T>
T __shfl_sync(unsigned, T value, int source, int width = 32) {
  const unsigned lane = emulation::lane();
  return emulation::from_lane(value, lane / width * width + source % width);
}
template <typename T>
T __shfl_xor_sync(unsigned, T value, int mask, int width = 32) {
  const unsigned lane = emulation::lane(), source = lane ^ mask;
  return emulation::from_lane(value, source / width == lane / width ? source : lane);
}
template <typename T>
T __shfl_up_sync(unsigned, T value, unsigned delta, int width = 32) {
  const unsigned lane = emulation::lane();
  return emulation::from_lane(value, lane % width >= delta ? lane - delta : lane);
}
template <typename T>
T __shfl_down_sync(unsigned, T value, unsigned delta, int width = 32) {
  const unsigned lane = emulation::lane();
  return emulation::from_lane(value, lane % width + delta < unsigned(width) ? lane + delta : lane);
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

template <typename Kernel, typename... Arguments>
void launch(Kernel kernel, dim3 grid, dim3 block, size_t shared, cudaStream_t,
            const Arguments&... arguments) {
  const auto body = [&] { kernel(arguments...); };
  emulation::run(
      grid, block, shared, [](const void* f) { (*static_cast<decltype(&body)>(f))(); }, &body);
}

}  // namespace mmadaptor::cuda
