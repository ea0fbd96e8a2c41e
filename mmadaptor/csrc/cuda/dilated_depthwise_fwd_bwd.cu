// SPDX-License-Identifier: Apache-2.0
// CUDA kernels of dilated_depthwise. A block has a tile of a map and 32 channels. A thread
// has two channels of a run of pixels, which share the loads of kernels.
#include "dilated_depthwise_pixels.cuh"

namespace mmadaptor::cuda {

constexpr int kTaps = 9;  // per dilation
constexpr int kPixels = DepthwiseTiles::kPixels, kChannels = DepthwiseTiles::kChannels;
template <typename T, Reads reads>
constexpr int kMostThreads = DepthwiseTiles::most_threads(sizeof(T), reads != Reads::kMap, false);
constexpr int kMostThreadsOfKernels = DepthwiseTiles::most_threads(sizeof(float), true, true);
// Blocks per multiprocessor for which there are registers.
template <typename T, Reads reads>
constexpr int kBlocksAtOnce = sizeof(T) < sizeof(double) && reads == Reads::kNear ? 2 : 1;
template <typename T>
constexpr int kBlocksAtOnceOfKernels = sizeof(T) < sizeof(double) ? 2 : 1;

template <typename T, Reads reads>
__global__ void __launch_bounds__((kMostThreads<T, reads>), (kBlocksAtOnce<T, reads>))
    dilated_depthwise_kernel(const DilatedDepthwise op, const DepthwiseTiles tiles,
                             const Access access, int around, bool turned) {
  using W = Wide<T>;
  W* const kernels = shared_memory<W>();
  T* const copy = reinterpret_cast<T*>(kernels + op.count * kTaps * kChannels);
  const Tile tile(tiles, blockIdx.x);
  copy_kernels<reads>(op, access, turned, kernels);
  if constexpr (reads != Reads::kMap) copy_tile<reads>(op, tiles, access, tile, around, copy);
  wait_for_copies();

  Run<T, reads> run(op, tiles, access);
#pragma unroll 1
  for (; run.row < tiles.rows; run.row += tiles.rows_at_once()) {
    const int count = run.pixels(op, tile);
    if (count <= 0) return;
    const auto pixels = pixels_of<reads>(op, tiles, tile, run, copy, around);
    Two<W> sum[kPixels];
#pragma unroll
    for (int p = 0; p < kPixels; ++p) {
      const Two<W> y = pixels(0, p);
      sum[p] = {W(0) + y.at[0], W(0) + y.at[1]};  // turns -0 into 0
    }
#pragma unroll 1
    for (int r = 0; r < op.count; ++r)
      visit_taps_of<reads>(pixels, op.dilations[r], [&](int i, int j, const Two<W>* seen) {
        const auto kernel = *reinterpret_cast<const Two<W>*>(
            kernels + (r * kTaps + 3 * i + j) * kChannels + run.channel);
#pragma unroll
        for (int p = 0; p < kPixels; ++p) {
          sum[p].at[0] += kernel.at[0] * seen[p].at[0];
          sum[p].at[1] += kernel.at[1] * seen[p].at[1];
        }
      });
    T* out = static_cast<T*>(op.out) + run.offset(op, tile);
#pragma unroll
    for (int p = 0; p < kPixels; ++p, out += op.channels)
      if (p < count) run.store(out, sum[p]);
  }
}

// Moves each row of sums to the place of the one before; three times move nothing.
template <typename Sum>
__device__ __forceinline__ void rotate_rows(Sum (&sum)[kTaps]) {
#pragma unroll
  for (int j = 0; j < 3; ++j) {
    const Sum first = sum[j];
    sum[j] = sum[3 + j];
    sum[3 + j] = sum[6 + j];
    sum[6 + j] = first;
  }
}

// Adds the products of the gradients of a run and the pixels that each tap sees.
template <int fixed, Reads reads, typename Pixels, typename W>
__device__ __forceinline__ void add_taps(const Pixels& pixels, int dilation,
                                         const Two<W> (&grad)[kPixels], Two<W> (&sum)[kTaps]) {
  visit_taps<fixed, reads>(pixels, dilation, [&](int i, int j, const Two<W>* seen) {
    // A loop over rows that is not unrolled has the sums of its row in front.
    Two<W>& to = sum[reads == Reads::kMap ? j : 3 * i + j];
#pragma unroll
    for (int p = 0; p < kPixels; ++p) {
      to.at[0] += grad[p].at[0] * seen[p].at[0];
      to.at[1] += grad[p].at[1] * seen[p].at[1];
    }
    if (reads == Reads::kMap && j == 2) rotate_rows(sum);
  });
}

// A block sums over a part of the tiles: one dilation, or if none is more than 3 all of
// them, which share the copy of the tile and the gradients of a run. `present` then has
// bit d set for each dilation d.
template <typename T, Reads reads>
__global__ void __launch_bounds__(kMostThreadsOfKernels, kBlocksAtOnceOfKernels<T>)
    dilated_depthwise_kernels_kernel(const DilatedDepthwise op, const DepthwiseTiles tiles,
                                     const Access access, int farthest, unsigned present,
                                     int64_t all) {
  using W = Wide<T>;
  constexpr int kSums = reads == Reads::kNear ? DepthwiseTiles::kNear : 1;
  T* const copy = shared_memory<T>();
  const int dilation = op.dilations[blockIdx.z];
  const int around = reads == Reads::kNear ? farthest : dilation;
  Run<T, reads> run(op, tiles, access);
  const int first_row = run.row;
  Two<W> sum[kSums][kTaps] = {};
  const int64_t first = all * blockIdx.x / op.parts, last = all * (blockIdx.x + 1) / op.parts;
  for (int64_t number = first; number < last; ++number) {
    const Tile tile(tiles, static_cast<unsigned>(number));
    if constexpr (reads != Reads::kMap) {
      if (number > first) __syncthreads();
      copy_tile<reads>(op, tiles, access, tile, around, copy);
      wait_for_copies();
    }
#pragma unroll 1
    for (run.row = first_row; run.row < tiles.rows; run.row += tiles.rows_at_once()) {
      const int count = run.pixels(op, tile);
      if (count <= 0) break;
      const T* from = static_cast<const T*>(op.grad) + run.offset(op, tile);
      Two<W> grad[kPixels];
#pragma unroll
      for (int p = 0; p < kPixels; ++p, from += op.channels)
        grad[p] = p < count ? widen(run.load(from)) : Two<W>{};
      const auto pixels = pixels_of<reads>(op, tiles, tile, run, copy, around);
      if constexpr (reads == Reads::kNear) {
        if (present & 2) add_taps<1, reads>(pixels, 1, grad, sum[0]);
        if (present & 4) add_taps<2, reads>(pixels, 2, grad, sum[1]);
        if (present & 8) add_taps<3, reads>(pixels, 3, grad, sum[2]);
      } else {
        add_taps<0, reads>(pixels, dilation, grad, sum[0]);
      }
    }
  }

  // The two runs of each warp, then the warps in their order.
  W* const sums = shared_memory<W>();  // (warps, dilations, 9, 32)
  __syncthreads();
#pragma unroll
  for (int at = 0; at < kSums * kTaps; ++at) {
    Two<W>& x = sum[at / kTaps][at % kTaps];
    for (W& of : x.at) of += __shfl_xor_sync(kAllLanes, of, kWarp / 2);
    if (threadIdx.x % kWarp < kWarp / 2)
      *reinterpret_cast<Two<W>*>(sums + (threadIdx.x / kWarp * kSums * kTaps + at) * kChannels +
                                 run.channel) = x;
  }
  __syncthreads();
  const int first_r = blockIdx.z, last_r = reads == Reads::kNear ? op.count : first_r + 1;
  for (int r = first_r; r < last_r; ++r) {
    const W* const of = sums + (kSums > 1 ? op.dilations[r] - 1 : 0) * kTaps * kChannels;
    W* const result = static_cast<W*>(op.grad_kernels) +
                      (static_cast<int64_t>(blockIdx.x) * op.count + r) * kTaps * op.channels;
    for (int at = threadIdx.x; at < kTaps * kChannels; at += blockDim.x) {
      const int channel = static_cast<int>(blockIdx.y) * kChannels + at % kChannels;
      if (channel >= op.channels) continue;
      W total = 0;
      for (int warp = 0; warp < static_cast<int>(blockDim.x) / kWarp; ++warp)
        total += of[warp * kSums * kTaps * kChannels + at];
      result[at / kChannels * static_cast<int64_t>(op.channels) + channel] = total;
    }
  }
}

Reads reads_of(const DilatedDepthwise& op, const DepthwiseTiles& tiles, const Access& access) {
  if (!tiles.copied) return Reads::kMap;
  const bool near = op.farthest() <= DepthwiseTiles::kNear;
  return near && access.pieces && access.pairs ? Reads::kNear : Reads::kCopy;
}

template <typename T>
void launch_dilated_depthwise(const T* type, const DilatedDepthwise& op,
                              const DepthwiseTiles& tiles, bool turned, const Target& target) {
  const auto access = Access::of(op, type);
  const Reads reads = reads_of(op, tiles, access);
  launch(reads == Reads::kMap    ? dilated_depthwise_kernel<T, Reads::kMap>
         : reads == Reads::kCopy ? dilated_depthwise_kernel<T, Reads::kCopy>
                                 : dilated_depthwise_kernel<T, Reads::kNear>,
         dim3(tiles.in_all(op), divide_up(op.channels, kChannels)), dim3(tiles.warps() * kWarp),
         tiles.shared_bytes(op, sizeof(T), false), target.stream, op, tiles, access, op.farthest(),
         turned);
}

template <typename T>
void launch_dilated_depthwise_kernels(const T* type, const DilatedDepthwise& op,
                                      const DepthwiseTiles& tiles, const Target& target) {
  const auto access = Access::of(op, type);
  const Reads reads = reads_of(op, tiles, access);
  unsigned present = 0;
  for (int r = 0; reads == Reads::kNear && r < op.count; ++r) present |= 1u << op.dilations[r];
  launch(reads == Reads::kMap    ? dilated_depthwise_kernels_kernel<T, Reads::kMap>
         : reads == Reads::kCopy ? dilated_depthwise_kernels_kernel<T, Reads::kCopy>
                                 : dilated_depthwise_kernels_kernel<T, Reads::kNear>,
         dim3(op.parts, divide_up(op.channels, kChannels), present ? 1 : op.count),
         dim3(tiles.warps() * kWarp), tiles.shared_bytes(op, sizeof(T), true), target.stream, op,
         tiles, access, op.farthest(), present, tiles.in_all(op));
}

#define MMADAPTOR_DILATED_DEPTHWISE(T)                                                             \
  template void launch_dilated_depthwise(const T*, const DilatedDepthwise&, const DepthwiseTiles&, \
                                         bool, const Target&);                                     \
  template void launch_dilated_depthwise_kernels(const T*, const DilatedDepthwise&,                \
                                                 const DepthwiseTiles&, const Target&);
MMADAPTOR_DILATED_DEPTHWISE(float)
MMADAPTOR_DILATED_DEPTHWISE(double)
MMADAPTOR_DILATED_DEPTHWISE(__half)
MMADAPTOR_DILATED_DEPTHWISE(__nv_bfloat16)

}  // namespace mmadaptor::cuda
