// SPDX-License-Identifier: Apache-2.0
// CUDA kernels of dilated_depthwise. Lanes are neighboring channels, so that all loads and
// stores of a warp are coalesced.
#include "device.cuh"
#include "dilated_depthwise_launch.h"

namespace mmadaptor::cuda {

constexpr int kRuns = 8;    // runs of pixels per block, one per warp
constexpr int kPixels = 4;  // pixels per run, along a row; they share the loads of kernels
constexpr int kTaps = 9;    // taps per dilation
// Minimum resident blocks per multiprocessor. Without this bound, ptxas spills registers to
// fit more blocks.
constexpr int kBlocks = 4;

// The row and first pixel of a run.
struct Run {
  int64_t row;  // index over the rows of all images
  int i, j;     // row and column within the image

  __device__ Run(const DilatedDepthwise& op, int64_t number) {
    const int64_t runs = divide_up(op.width, kPixels);
    row = number / runs;
    i = static_cast<int>(row % op.height);
    j = static_cast<int>(number - row * runs) * kPixels;
  }
};

template <typename T>
__global__ void __launch_bounds__(kRuns* kWarp, kBlocks)
    dilated_depthwise_kernel(const DilatedDepthwise op, bool turned) {
  using W = Wide<T>;
  const int64_t runs = op.rows() * divide_up(op.width, kPixels);
  const int64_t number = static_cast<int64_t>(blockIdx.x) * kRuns + threadIdx.y;
  if (number >= runs) return;
  const Run run(op, number);
  const T* y = static_cast<const T*>(op.y);
  T* out = static_cast<T*>(op.out);
  const W* kernels = static_cast<const W*>(op.kernels);
  const auto at = [&](int64_t row, int j) { return (row * op.width + j) * op.channels; };
  for (int64_t d = threadIdx.x; d < op.channels; d += kWarp) {
    W sum[kPixels] = {};  // adding to 0 turns -0 into 0
#pragma unroll
    for (int p = 0; p < kPixels; ++p)
      if (run.j + p < op.width) sum[p] += widen(y[at(run.row, run.j + p) + d]);
    for (int r = 0; r < op.count; ++r) {
      const int dilation = op.dilations[r];
      for (int tap = 0; tap < kTaps; ++tap) {
        const int down = (tap / 3 - 1) * dilation, from = run.j + (tap % 3 - 1) * dilation;
        if (run.i + down < 0 || run.i + down >= op.height) continue;
        const W kernel = kernels[(r * kTaps + (turned ? kTaps - 1 - tap : tap)) * op.channels + d];
        const int64_t seen = at(run.row + down, from) + d;
#pragma unroll
        for (int p = 0; p < kPixels; ++p)
          if (from + p >= 0 && from + p < op.width)
            sum[p] += kernel * widen(y[seen + p * op.channels]);
      }
    }
#pragma unroll
    for (int p = 0; p < kPixels; ++p)
      if (run.j + p < op.width) out[at(run.row, run.j + p) + d] = narrow<T>(sum[p]);
  }
}

// A block takes a warp's width of channels, one dilation and a part of the rows; its warps
// take every kRuns-th row of this part.
template <typename T>
__global__ void __launch_bounds__(kRuns* kWarp)
    dilated_depthwise_kernels_kernel(const DilatedDepthwise op) {
  using W = Wide<T>;
  W* sums = shared_memory<W>();  // (kRuns, kTaps, kWarp)
  const int64_t blocks = divide_up(op.channels, kWarp);
  const int64_t d = blockIdx.x % blocks * kWarp + threadIdx.x;
  const int r = static_cast<int>(blockIdx.x / blocks % op.count);
  const int part = static_cast<int>(blockIdx.x / blocks / op.count);
  const int64_t first = op.rows() * part / op.parts, last = op.rows() * (part + 1) / op.parts;
  const T* grad = static_cast<const T*>(op.grad);
  const T* y = static_cast<const T*>(op.y);
  const int dilation = op.dilations[r];
  W sum[kTaps] = {};
  if (d < op.channels)
    for (int64_t row = first + threadIdx.y; row < last; row += kRuns) {
      const int i = static_cast<int>(row % op.height);
      for (int j = 0; j < op.width; ++j) {
        const int64_t here = (row * op.width + j) * op.channels + d;
        const W g = widen(grad[here]);
#pragma unroll
        for (int tap = 0; tap < kTaps; ++tap) {
          const int down = (tap / 3 - 1) * dilation, right = (tap % 3 - 1) * dilation;
          const bool inside =
              i + down >= 0 && i + down < op.height && j + right >= 0 && j + right < op.width;
          const int64_t there =
              here + (static_cast<int64_t>(down) * op.width + right) * op.channels;
          if (inside) sum[tap] += g * widen(y[there]);
        }
      }
    }
#pragma unroll
  for (int tap = 0; tap < kTaps; ++tap)
    sums[(threadIdx.y * kTaps + tap) * kWarp + threadIdx.x] = sum[tap];
  __syncthreads();
  if (d >= op.channels) return;
  W* result = static_cast<W*>(op.grad_kernels) +
              (static_cast<int64_t>(part) * op.count + r) * kTaps * op.channels;
  for (int tap = threadIdx.y; tap < kTaps; tap += kRuns) {
    W total = 0;
    for (int warp = 0; warp < kRuns; ++warp)
      total += sums[(warp * kTaps + tap) * kWarp + threadIdx.x];
    result[tap * op.channels + d] = total;
  }
}

template <typename T>
void launch_dilated_depthwise(const T*, const DilatedDepthwise& op, bool turned,
                              const Target& target) {
  const int64_t runs = op.rows() * divide_up(op.width, kPixels);
  launch(dilated_depthwise_kernel<T>, dim3(divide_up(runs, kRuns)), dim3(kWarp, kRuns), 0,
         target.stream, op, turned);
}

template <typename T>
void launch_dilated_depthwise_kernels(const T*, const DilatedDepthwise& op, const Target& target) {
  launch(dilated_depthwise_kernels_kernel<T>,
         dim3(divide_up(op.channels, kWarp) * op.count * op.parts), dim3(kWarp, kRuns),
         sizeof(Wide<T>) * kRuns * kTaps * kWarp, target.stream, op);
}

#define MMADAPTOR_DILATED_DEPTHWISE(T)                                                            \
  template void launch_dilated_depthwise(const T*, const DilatedDepthwise&, bool, const Target&); \
  template void launch_dilated_depthwise_kernels(const T*, const DilatedDepthwise&, const Target&);
MMADAPTOR_DILATED_DEPTHWISE(float)
MMADAPTOR_DILATED_DEPTHWISE(double)
MMADAPTOR_DILATED_DEPTHWISE(__half)
MMADAPTOR_DILATED_DEPTHWISE(__nv_bfloat16)

}  // namespace mmadaptor::cuda
