// SPDX-License-Identifier: Apache-2.0
// Parameters and launch functions of the CUDA kernels of dilated_depthwise.
#pragma once

#include <algorithm>

#include "../dilated_depthwise_limits.h"
#include "../scan_view.h"
#include "target.h"

namespace mmadaptor::cuda {

// All tensors are contiguous: maps (batch, height, width, channels), kernels (dilations, 3,
// 3, channels), the gradient of the kernels (parts, dilations, 3, 3, channels). Kernels
// and their gradient are float or double; maps have the type of the launch.
struct DilatedDepthwise {
  int64_t batch;
  int channels, height, width, count, parts;
  int dilations[kMostDilations];
  const void *y, *kernels, *grad;
  void *out, *grad_kernels;

  int farthest() const { return *std::max_element(dilations, dilations + count); }
};

// How maps are divided: a block takes a tile of a map for 32 channels, and copies it with the
// pixels around it to shared memory. Half a warp sums a run: some pixels of a row, two
// channels a thread. It takes one run after the other, in different rows.
struct DepthwiseTiles {
  static constexpr int kPixels = 7;  // per run; the maps of images of 224 are multiples
  static constexpr int kChannels = 32;
  static constexpr int kThreads = kChannels / 2;  // per run
  static constexpr int kRows = 2;                 // per thread
  static constexpr int kMostRows = 28, kMostRuns = 2;

  static constexpr int kNear = 3;  // the kernels share loads for dilations up to this

  // Most rows of a tile: half as many where a thread takes more registers, for double,
  // pixels that are not copied, and sums `of_kernels`, their gradient.
  static constexpr int most_rows(size_t element, bool copied, bool of_kernels) {
    return element == sizeof(double) || !copied || of_kernels ? kMostRows / 2 : kMostRows;
  }
  static constexpr int most_threads(size_t element, bool copied, bool of_kernels) {
    return most_rows(element, copied, of_kernels) / kRows * kMostRuns * kThreads;
  }

  int rows, runs;    // per tile: rows, and runs per row
  int down, across;  // tiles per map
  bool copied;       // false if not even a small tile fits into shared memory

  MMADAPTOR_EVERYWHERE int columns() const { return runs * kPixels; }
  // Pixels of a row of the copy, with those around the tile. The number is odd, so that the
  // two halves of a warp, in two rows, read different banks.
  MMADAPTOR_EVERYWHERE int pitch(int around) const { return (columns() + 2 * around) | 1; }
  MMADAPTOR_EVERYWHERE int rows_at_once() const { return (rows + kRows - 1) / kRows; }
  int warps() const { return (rows_at_once() * runs + 1) / 2; }
  int64_t in_all(const DilatedDepthwise& op) const { return op.batch * down * across; }

  // Shared memory: the copy, and the kernels or their gradients from each warp, which take
  // the place of the copy.
  size_t shared_bytes(const DilatedDepthwise& op, size_t element, bool of_kernels) const {
    const int around = op.farthest();
    const size_t copy = copied ? element * kChannels * pitch(around) * (rows + 2 * around) : 0;
    const size_t taps = 9 * kChannels * std::max(element, sizeof(float));
    const int sums = warps() * (around <= kNear ? kNear : 1);
    return of_kernels ? std::max(taps * sums, copy) : taps * op.count + copy;
  }
};

// Depends only on the shapes and the device, so results are reproducible bit for bit.
inline DepthwiseTiles plan_tiles(const DilatedDepthwise& op, size_t element, bool of_kernels,
                                 const Target& target) {
  constexpr int kLeastRows = 4;
  // Two blocks share a multiprocessor, which keeps a little for each.
  const size_t room = target.shared_bytes / 2 - 1024;
  const int most_runs = op.width > DepthwiseTiles::kPixels ? DepthwiseTiles::kMostRuns : 1;
  const auto with_rows = [&](bool copied) {
    const int rows = std::min(op.height, DepthwiseTiles::most_rows(element, copied, of_kernels));
    return DepthwiseTiles{rows, most_runs, 0, 0, copied};
  };
  DepthwiseTiles tiles = with_rows(true);
  const auto fits = [&] { return tiles.shared_bytes(op, element, of_kernels) <= room; };
  while (!fits() && tiles.rows > std::min(op.height, kLeastRows)) --tiles.rows;
  if (!fits()) tiles = with_rows(false);
  tiles.down = static_cast<int>(divide_up(op.height, tiles.rows));
  tiles.rows = static_cast<int>(divide_up(op.height, tiles.down));
  tiles.across = static_cast<int>(divide_up(op.width, tiles.columns()));
  return tiles;
}

// Computes out = y plus the sum over all taps. If y is the gradient of out, the result with
// `turned` kernels (rotated by 180 degrees) is the gradient of y. The first argument is a
// (possibly null) pointer to float, double, __half or __nv_bfloat16.
template <typename T>
void launch_dilated_depthwise(const T*, const DilatedDepthwise& op, const DepthwiseTiles& tiles,
                              bool turned, const Target& target);
// Computes the gradient of the kernels from y and grad. Each part sums over a part of the
// tiles.
template <typename T>
void launch_dilated_depthwise_kernels(const T*, const DilatedDepthwise& op,
                                      const DepthwiseTiles& tiles, const Target& target);

}  // namespace mmadaptor::cuda
