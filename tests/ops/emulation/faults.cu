// SPDX-License-Identifier: Apache-2.0
// Kernels and launches with planted faults, and their correct counterparts, as a program:
// its argument names the case. test_cuda_emulation.py says what the emulation must find.
#include <cstdio>
#include <exception>
#include <string>

#include "../../../mmadaptor/csrc/cuda/device.cuh"

namespace mmadaptor::cuda {

enum class Sync { none, shuffle, warp, block };

__device__ void wait(Sync sync) {
  if (sync == Sync::shuffle) __shfl_xor_sync(kAllLanes, 0, 1);
  if (sync == Sync::warp) __syncwarp();
  if (sync == Sync::block) __syncthreads();
}

// Each thread reads what another has written.
__global__ void read_after_write(int* out, Sync sync, int distance) {
  int* const numbers = shared_memory<int>();
  const int thread = threadIdx.x, threads = blockDim.x;
  numbers[thread] = thread;
  wait(sync);
  out[blockIdx.x * threads + thread] = numbers[(thread + distance) % threads];
}

// Each thread overwrites what another has read.
__global__ void write_after_read(int* out, Sync sync) {
  int* const numbers = shared_memory<int>();
  const int thread = threadIdx.x, threads = blockDim.x;
  out[blockIdx.x * threads + thread] = numbers[(thread + 1) % threads];
  wait(sync);
  numbers[thread] = thread;
}

// Two threads read a number; one of them then writes it.
__global__ void write_after_two_reads(int* out) {
  int* const numbers = shared_memory<int>();
  if (threadIdx.x < 2) out[threadIdx.x] = numbers[0];
  if (threadIdx.x == 0) numbers[0] = 1;
}

// The threads write two bytes each; neighbors share a word.
__global__ void neighbors(__half* out) {
  __half* const numbers = shared_memory<__half>();
  numbers[threadIdx.x] = __float2half(1.0f);
  out[blockIdx.x * blockDim.x + threadIdx.x] = numbers[threadIdx.x];
}

// The first thread of each block writes the number of that block, or of all blocks.
__global__ void write_by_blocks(int* out, bool same) {
  if (threadIdx.x == 0) out[same ? 0 : blockIdx.x] = 1;
}

// The blocks read what one of them writes.
__global__ void read_by_blocks(int* out, bool writes) {
  const int number = out[0];
  if (threadIdx.x == 0) out[blockIdx.x + 1] = number;
  if (writes && threadIdx.x == 0 && blockIdx.x == 1) out[0] = number + 1;
}

__global__ void beyond_shared(int* out, int by) {
  out[threadIdx.x] = shared_memory<int>()[threadIdx.x + by];
}

__global__ void some_wait() {
  if (threadIdx.x < 40) __syncthreads();
}

__global__ void half_a_warp_waits() {
  if (threadIdx.x < 16) __syncwarp(0xffff);
}

__global__ void nothing() {}

void run(const std::string& name) {
  static int numbers[4096];
  int* const out = numbers;
  const auto with_shared = [&](auto kernel, auto... arguments) {
    launch(kernel, dim3(3), dim3(64), 64 * sizeof(int), nullptr, arguments...);
  };
  const auto empty = [&](dim3 grid, dim3 block, size_t shared) {
    launch(nothing, grid, block, shared, nullptr);
  };
  const auto is = [&](const char* other) { return name == other; };
  if (is("no barrier")) with_shared(read_after_write, out, Sync::none, 1);
  if (is("warp barrier, own warp")) {
    launch(read_after_write, dim3(3), dim3(32), 32 * sizeof(int), nullptr, out, Sync::warp, 1);
  }
  if (is("shuffle instead of a warp barrier"))
    launch(read_after_write, dim3(3), dim3(32), 32 * sizeof(int), nullptr, out, Sync::shuffle, 1);
  if (is("warp barrier, other warp")) with_shared(read_after_write, out, Sync::warp, 32);
  if (is("block barrier")) with_shared(read_after_write, out, Sync::block, 32);
  if (is("no barrier, own number")) with_shared(read_after_write, out, Sync::none, 0);
  if (is("write after read")) with_shared(write_after_read, out, Sync::none);
  if (is("write after read, barrier")) with_shared(write_after_read, out, Sync::block);
  if (is("write after two reads")) with_shared(write_after_two_reads, out);
  if (is("neighbors")) with_shared(neighbors, reinterpret_cast<__half*>(out));
  if (is("blocks write one number")) with_shared(write_by_blocks, out, true);
  if (is("blocks write their numbers")) with_shared(write_by_blocks, out, false);
  if (is("blocks read and one writes")) with_shared(read_by_blocks, out, true);
  if (is("blocks read")) with_shared(read_by_blocks, out, false);
  if (is("launch after launch")) {
    with_shared(read_by_blocks, out, false);
    with_shared(write_by_blocks, out, false);
  }
  if (is("out of bounds")) with_shared(beyond_shared, out, 1);
  if (is("deadlock")) with_shared(some_wait);
  if (is("part of a warp")) with_shared(half_a_warp_waits);
  if (is("no blocks")) empty(dim3(0), dim3(32), 0);
  if (is("many rows of blocks")) empty(dim3(1, 65536), dim3(32), 0);
  if (is("large block")) empty(dim3(1), dim3(1056), 0);
  if (is("deep block")) empty(dim3(1), dim3(1, 1, 96), 0);
  if (is("all shared memory")) empty(dim3(1), dim3(32), 100 * 1024);
  if (is("more shared memory than there is")) empty(dim3(1), dim3(32), 100 * 1024 + 1);
  if (is("less shared memory after more")) {
    empty(dim3(1), dim3(32), 90 * 1024);
    empty(dim3(1), dim3(32), 60 * 1024);
  }
  if (is("shared memory without asking")) {
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(1);
    config.blockDim = dim3(32);
    config.dynamicSmemBytes = 60 * 1024;
    cudaLaunchKernelEx(&config, nothing);
  }
}

}  // namespace mmadaptor::cuda

int main(int, char** arguments) {
  try {
    mmadaptor::cuda::run(arguments[1]);
    emulation::throw_error();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  std::puts("no fault");
}
