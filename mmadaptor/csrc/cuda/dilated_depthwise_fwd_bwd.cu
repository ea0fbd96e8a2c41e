// SPDX-License-Identifier: Apache-2.0
// CUDA kernels of dilated_depthwise. A block has a tile of a map and 32 channels. A thread
// has two channels of a run of pixels, which share the loads of kernels.
#include "dilated_depthwise_pixels.cuh"

namespace mmadaptor::cuda {

constexpr int kTaps = 9;  // per dilation
constexpr int kPixels = DepthwiseTiles::kPixels, kChannels = DepthwiseTiles::kChannels;
template <typename T, Reads reads>
constexpr int kMostThreads = DepthwiseTiles::most_threads(sizeof(T), reads != Reads::kMap);
// Blocks per multiprocessor for which there are registers.
template <typename T, Reads reads>
constexpr int kBlocksAtOnce = sizeof(T) < sizeof(double) && reads == Reads::kNear ? 2 : 1;

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

// A block sums one dilation over a part of the tiles.
template <typename T, Reads reads>
__global__ void __launch_bounds__((kMostThreads<T, reads>), (kBlocksAtOnce<T, reads>))
    dilated_depthwise_kernels_kernel(const DilatedDepthwise op, const DepthwiseTiles tiles,
                                     const Access access, int64_t all) {
  using W = Wide<T>;
  T* const copy = shared_memory<T>();
  const int r = blockIdx.z, dilation = op.dilations[r];
  Run<T, reads> run(op, tiles, access);
  const int first_row = run.row;
  Two<W> sum[kTaps] = {};
  const int64_t first = all * blockIdx.x / op.parts, last = all * (blockIdx.x + 1) / op.parts;
  for (int64_t number = first; number < last; ++number) {
    const Tile tile(tiles, static_cast<unsigned>(number));
    if constexpr (reads != Reads::kMap) {
      if (number > first) __syncthreads();
      copy_tile<reads>(op, tiles, access, tile, dilation, copy);
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
      const auto pixels = pixels_of<reads>(op, tiles, tile, run, copy, dilation);
      visit_taps_of<reads>(pixels, dilation, [&](int i, int j, const Two<W>* seen) {
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
  }

  // The two runs of each warp, then the warps in their order.
#pragma unroll
  for (int tap = 0; tap < kTaps; ++tap)
    for (W& x : sum[tap].at) x += __shfl_xor_sync(kAllLanes, x, kWarp / 2);
  W* const sums = shared_memory<W>();  // (warps, 9, 32)
  __syncthreads();
  if (threadIdx.x % kWarp < kWarp / 2)
#pragma unroll
    for (int tap = 0; tap < kTaps; ++tap)
      *reinterpret_cast<Two<W>*>(sums + (threadIdx.x / kWarp * kTaps + tap) * kChannels +
                                 run.channel) = sum[tap];
  __syncthreads();
  W* const result = static_cast<W*>(op.grad_kernels) +
                    (static_cast<int64_t>(blockIdx.x) * op.count + r) * kTaps * op.channels;
  for (int at = threadIdx.x; at < kTaps * kChannels; at += blockDim.x) {
    const int channel = static_cast<int>(blockIdx.y) * kChannels + at % kChannels;
    if (channel >= op.channels) continue;
    W total = 0;
    for (int warp = 0; warp < static_cast<int>(blockDim.x) / kWarp; ++warp)
      total += sums[warp * kTaps * kChannels + at];
    result[at / kChannels * static_cast<int64_t>(op.channels) + channel] = total;
  }
}

Reads reads_of(const DilatedDepthwise& op, const DepthwiseTiles& tiles, const Access& access) {
  if (!tiles.copied) return Reads::kMap;
  return op.farthest() <= 3 && access.pieces && access.pairs ? Reads::kNear : Reads::kCopy;
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
         tiles.forward_bytes(op, sizeof(T)), target.stream, op, tiles, access, op.farthest(),
         turned);
}

template <typename T>
void launch_dilated_depthwise_kernels(const T* type, const DilatedDepthwise& op,
                                      const DepthwiseTiles& tiles, const Target& target) {
  const auto access = Access::of(op, type);
  const Reads reads = reads_of(op, tiles, access);
  launch(reads == Reads::kMap    ? dilated_depthwise_kernels_kernel<T, Reads::kMap>
         : reads == Reads::kCopy ? dilated_depthwise_kernels_kernel<T, Reads::kCopy>
                                 : dilated_depthwise_kernels_kernel<T, Reads::kNear>,
         dim3(op.parts, divide_up(op.channels, kChannels), op.count), dim3(tiles.warps() * kWarp),
         tiles.backward_bytes(op, sizeof(T)), target.stream, op, tiles, access, tiles.in_all(op));
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
