// SPDX-License-Identifier: Apache-2.0
// Where the kernels of dilated_depthwise read pixels: from a copy of a tile, or from the map.
#pragma once

#include <cstdint>
#include <cstring>

#include "device.cuh"
#include "dilated_depthwise_launch.h"

namespace mmadaptor::cuda {

// Neighboring channels of a pixel, loaded or stored by one instruction.
template <typename T, int count>
struct alignas(count * sizeof(T)) Channels {
  T at[count];
};
// A thread has two channels.
template <typename T>
using Two = Channels<T, 2>;

template <typename T>
__device__ __forceinline__ Two<Wide<T>> widen(Two<T> x) {
  return {widen(x.at[0]), widen(x.at[1])};
}
// A bfloat16 is the upper half of a float; two conversions would be three instructions.
__device__ __forceinline__ Two<float> widen(Two<__nv_bfloat16> x) {
  uint32_t both;
  memcpy(&both, &x, sizeof(both));
  const uint32_t bits[] = {both << 16, both & 0xffff0000u};
  Two<float> wide;
  memcpy(&wide, bits, sizeof(wide));
  return wide;
}

// The two channels of a pixel as floats or doubles, rounded to T.
template <typename T>
__device__ __forceinline__ Two<T> narrow_two(Two<Wide<T>> x) {
  return {narrow<T>(x.at[0]), narrow<T>(x.at[1])};
}
#ifndef MMADAPTOR_EMULATION
template <>
__device__ __forceinline__ Two<__nv_bfloat16> narrow_two<__nv_bfloat16>(Two<float> x) {
  const __nv_bfloat162 both = __floats2bfloat162_rn(x.at[0], x.at[1]);  // one instruction
  return {both.x, both.y};
}
#endif

// How pixels are read and written.
enum class Reads {
  kMap,   // y from the map, asking whether pixels are inside
  kCopy,  // y from the copy of the tile
  kNear,  // the same, where all dilations are at most 3 and accesses are aligned
};

// Which accesses are aligned: several channels by one instruction need a number of channels
// that they divide.
struct Access {
  bool pieces;  // 16 bytes of y and of the kernels
  bool pairs;   // two channels of all maps

  template <typename T>
  static Access of(const DilatedDepthwise& op, const T*) {
    const auto every = [&](int64_t count, size_t size, const void* tensor) {
      return op.channels % count == 0 && reinterpret_cast<uintptr_t>(tensor) % (count * size) == 0;
    };
    constexpr size_t kSize = sizeof(T), kWide = sizeof(Wide<T>);
    return {every(16 / kSize, kSize, op.y) && every(16 / kWide, kWide, op.kernels),
            every(2, kSize, op.y) && every(2, kSize, op.out) && every(2, kSize, op.grad)};
  }
};

// A tile: its map, and its first pixel.
struct Tile {
  int64_t map;
  int row, column;

  __device__ Tile(const DepthwiseTiles& tiles, unsigned number) {
    const unsigned across = tiles.across, down = tiles.down;
    column = static_cast<int>(number % across) * tiles.columns();
    number /= across;
    row = static_cast<int>(number % down) * tiles.rows;
    map = number / down;
  }
};

// The two channels of a thread and its run, of which it has one in each of some rows.
template <typename T, Reads reads>
struct Run {
  int row, column;  // of the first pixel, in the tile
  int channel;      // in the block
  int channels;     // from there to the last one
  bool pairs;

  __device__ Run(const DilatedDepthwise& op, const DepthwiseTiles& tiles, const Access& access)
      : pairs(reads == Reads::kNear || access.pairs) {
    constexpr int kThreads = DepthwiseTiles::kThreads;
    const int number = threadIdx.x / kThreads;
    const bool two = tiles.runs == 2;
    static_assert(DepthwiseTiles::kMostRuns == 2);
    row = two ? number / 2 : number;
    column = two ? number % 2 * DepthwiseTiles::kPixels : 0;
    channel = threadIdx.x % kThreads * 2;
    channels = op.channels - static_cast<int>(blockIdx.y) * DepthwiseTiles::kChannels - channel;
    if (row >= tiles.rows_at_once()) row = tiles.rows;
  }

  // Number of its pixels that are inside the map; 0 or less if none is, or no channel.
  __device__ __forceinline__ int pixels(const DilatedDepthwise& op, const Tile& tile) const {
    if (channels <= 0 || tile.row + row >= op.height) return 0;
    const int left = op.width - tile.column - column;
    return left < DepthwiseTiles::kPixels ? left : DepthwiseTiles::kPixels;
  }

  // The first pixel in a map.
  __device__ __forceinline__ int64_t offset(const DilatedDepthwise& op, const Tile& tile) const {
    const int64_t line = tile.map * op.height + tile.row + row;
    return (line * op.width + tile.column + column + 1) * op.channels - channels;
  }

  __device__ __forceinline__ Two<T> load(const T* from) const {
    if (pairs) return *reinterpret_cast<const Two<T>*>(from);
    return {from[0], channels > 1 ? from[1] : T{}};
  }
  __device__ __forceinline__ void store(T* to, Two<Wide<T>> x) const {
    const Two<T> y = narrow_two<T>(x);
    if (pairs) {
      *reinterpret_cast<Two<T>*>(to) = y;
    } else {
      to[0] = y.at[0];
      if (channels > 1) to[1] = y.at[1];
    }
  }
};

// Asynchronous copies need compute capability 8.0.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
#define MMADAPTOR_ASYNC_COPIES
#endif

// Copies channels to shared memory, or zeros: one, or 16 bytes of them, for which a thread
// does not wait before wait_for_copies(), if the device has asynchronous copies.
template <int count, typename T>
__device__ __forceinline__ void copy_channels(T* to, const T* from, bool there) {
  using Piece = Channels<T, count>;
#ifdef MMADAPTOR_ASYNC_COPIES
  if constexpr (sizeof(Piece) == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(
                     static_cast<unsigned>(__cvta_generic_to_shared(to))),
                 "l"(from), "r"(there ? 16 : 0)
                 : "memory");
    return;
  }
#endif
  *reinterpret_cast<Piece*>(to) = there ? *reinterpret_cast<const Piece*>(from) : Piece{};
}

__device__ __forceinline__ void wait_for_copies() {
#ifdef MMADAPTOR_ASYNC_COPIES
  asm volatile("cp.async.wait_all;" ::: "memory");
#endif
  __syncthreads();
}

// Copies a tile of y and `around` pixels on each side to shared memory: (rows, pitch, 32
// channels), with zeros outside the map and beyond the last channel.
template <int count, typename T>
__device__ __forceinline__ void copy_tile(const DilatedDepthwise& op, const DepthwiseTiles& tiles,
                                          const Tile& tile, int around, T* copy) {
  constexpr int kChannels = DepthwiseTiles::kChannels, kPieces = kChannels / count;
  const int rows = tiles.rows + 2 * around;
  const unsigned row_pieces = (tiles.columns() + 2 * around) * kPieces;
  const int at_once = blockDim.x < row_pieces ? 1 : blockDim.x / row_pieces;
  const int first = threadIdx.x / row_pieces;
  if (first >= at_once) return;
  for (unsigned at = threadIdx.x - first * row_pieces; at < row_pieces; at += blockDim.x) {
    const int column = static_cast<int>(at / kPieces);
    const int piece = static_cast<int>(at % kPieces) * count;
    const int channel = static_cast<int>(blockIdx.y) * kChannels + piece;
    const int row = tile.row - around, left = tile.column - around + column;
    const bool there = left >= 0 && left < op.width && channel < op.channels;
    const int64_t stride = static_cast<int64_t>(op.width) * op.channels;
    const T* from = static_cast<const T*>(op.y) + (tile.map * op.height + row + first) * stride +
                    static_cast<int64_t>(left) * op.channels + channel;
    T* to = copy + (first * tiles.pitch(around) + column) * kChannels + piece;
#pragma unroll 2
    for (int i = first; i < rows; i += at_once) {
      const bool inside = static_cast<unsigned>(row + i) < static_cast<unsigned>(op.height);
      copy_channels<count>(to, from, there && inside);
      from += at_once * stride;
      to += at_once * tiles.pitch(around) * kChannels;
    }
  }
}

template <Reads reads, typename T>
__device__ __forceinline__ void copy_tile(const DilatedDepthwise& op, const DepthwiseTiles& tiles,
                                          const Access& access, const Tile& tile, int around,
                                          T* copy) {
  if (reads == Reads::kNear || access.pieces)
    copy_tile<16 / sizeof(T)>(op, tiles, tile, around, copy);
  else
    copy_tile<1>(op, tiles, tile, around, copy);
}

// Copies the kernels of the block's channels to shared memory: (dilations, 9, 32).
template <int count, typename W>
__device__ __forceinline__ void copy_kernels(const DilatedDepthwise& op, bool turned, W* copy) {
  constexpr int kChannels = DepthwiseTiles::kChannels, kPieces = kChannels / count;
#pragma unroll 1
  for (unsigned at = threadIdx.x; at < static_cast<unsigned>(op.count) * 9 * kPieces;
       at += blockDim.x) {
    const int channel = static_cast<int>(blockIdx.y * kChannels + at % kPieces * count);
    const unsigned row = at / kPieces, from = turned ? row + 8 - row % 9 * 2 : row;
    copy_channels<count>(
        copy + at * count,
        static_cast<const W*>(op.kernels) + static_cast<int64_t>(from) * op.channels + channel,
        channel < op.channels);
  }
}

template <Reads reads, typename W>
__device__ __forceinline__ void copy_kernels(const DilatedDepthwise& op, const Access& access,
                                             bool turned, W* copy) {
  if (reads == Reads::kNear || access.pieces)
    copy_kernels<16 / sizeof(W)>(op, turned, copy);
  else
    copy_kernels<1>(op, turned, copy);
}

// Pixels around the first pixel of a run, `down` rows and `right` columns away.
template <typename T>
struct CopiedPixels {
  const T* here;
  int row_stride;

  template <Reads reads>
  __device__ CopiedPixels(const T* copy, const DepthwiseTiles& tiles, const Run<T, reads>& run,
                          int around)
      : row_stride(tiles.pitch(around) * DepthwiseTiles::kChannels) {
    here = copy + (run.row + around) * row_stride +
           (run.column + around) * DepthwiseTiles::kChannels + run.channel;
  }
  __device__ __forceinline__ Two<Wide<T>> operator()(int down, int right) const {
    return widen(*reinterpret_cast<const Two<T>*>(here + down * row_stride +
                                                  right * DepthwiseTiles::kChannels));
  }
};

template <typename T, Reads reads>
struct MapPixels {
  const T* here;
  int row, column, height, width, stride;
  const Run<T, reads>& run;

  __device__ MapPixels(const DilatedDepthwise& op, const Tile& tile, const Run<T, reads>& run)
      : here(static_cast<const T*>(op.y) + run.offset(op, tile)),
        row(tile.row + run.row),
        column(tile.column + run.column),
        height(op.height),
        width(op.width),
        stride(op.channels),
        run(run) {}
  __device__ __forceinline__ Two<Wide<T>> operator()(int down, int right) const {
    const int i = row + down, j = column + right;
    if (i < 0 || i >= height || j < 0 || j >= width) return {};
    return widen(run.load(here + (static_cast<int64_t>(down) * width + right) * stride));
  }
};

template <Reads reads, typename T>
__device__ __forceinline__ auto pixels_of(const DilatedDepthwise& op, const DepthwiseTiles& tiles,
                                          const Tile& tile, const Run<T, reads>& run, const T* copy,
                                          int around) {
  if constexpr (reads == Reads::kMap)
    return MapPixels<T, reads>(op, tile, run);
  else
    return CopiedPixels<T>(copy, tiles, run, around);
}

// Calls visit(i, j, seen) for the nine taps of a dilation, row i and column j of its kernel:
// the tap of pixel p of the run sees pixel seen[p]. If the dilation is known to the compiler
// (`fixed`), the taps of a row share loads.
template <int fixed, Reads reads, typename Pixels, typename Visit>
__device__ __forceinline__ void visit_taps(const Pixels& pixels, int dilation, const Visit& visit) {
  constexpr int kPixels = DepthwiseTiles::kPixels;
  // The addresses of all rows at once would not fit into registers.
  constexpr int kRowsAtOnce = reads == Reads::kMap ? 1 : 3;
  using Seen = decltype(pixels(0, 0));
#pragma unroll kRowsAtOnce
  for (int i = 0; i < 3; ++i) {
    if constexpr (fixed > 0) {
      Seen line[kPixels + 2 * fixed];
#pragma unroll
      for (int k = 0; k < kPixels + 2 * fixed; ++k) line[k] = pixels((i - 1) * fixed, k - fixed);
#pragma unroll
      for (int j = 0; j < 3; ++j) visit(i, j, line + j * fixed);
    } else {
#pragma unroll
      for (int j = 0; j < 3; ++j) {
        Seen line[kPixels];
#pragma unroll
        for (int p = 0; p < kPixels; ++p)
          line[p] = pixels((i - 1) * dilation, p + (j - 1) * dilation);
        visit(i, j, line);
      }
    }
  }
}

template <Reads reads, typename Pixels, typename Visit>
__device__ __forceinline__ void visit_taps_of(const Pixels& pixels, int dilation,
                                              const Visit& visit) {
  if constexpr (reads != Reads::kNear)
    visit_taps<0, reads>(pixels, dilation, visit);
  else if (dilation == 1)
    visit_taps<1, reads>(pixels, dilation, visit);
  else if (dilation == 2)
    visit_taps<2, reads>(pixels, dilation, visit);
  else
    visit_taps<3, reads>(pixels, dilation, visit);
}

}  // namespace mmadaptor::cuda
