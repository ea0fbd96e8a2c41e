// SPDX-License-Identifier: Apache-2.0
// The position of a thread in the work of a scan, and access to the maps along its path.
#pragma once

#include <type_traits>

#include "device.cuh"
#include "scan_launch.h"

namespace mmadaptor::cuda {

// The position of a thread in the work.
struct Place {
  int lane, piece;
  int batch, set, block, segment;  // set: the groups that share u and y
  int channel;                     // index within the group
  int start, end;                  // first step of the segment; one past its last
  bool active;                     // false for lanes beyond the last channel

  __device__ Place(const ScanView& v, const ScanPlan& plan) {
    lane = threadIdx.x % plan.lanes;
    piece = threadIdx.x / plan.lanes;
    const unsigned sets = v.groups / plan.sharing;
    unsigned index = blockIdx.x;
    segment = index % plan.segments;
    index /= plan.segments;
    block = index % plan.blocks;
    index /= plan.blocks;
    set = index % sets;
    batch = index / sets;
    channel = block * plan.lanes + lane;
    active = channel < v.channels;
    if (!active) channel = static_cast<int>(v.channels) - 1;
    start = segment * plan.segment;
    const int length = static_cast<int>(v.length());
    end = length - start < plan.segment ? length : start + plan.segment;
  }

  template <typename T>
  __device__ __forceinline__ T* of(const Strided& t, int group) const {
    return static_cast<T*>(t.data) + batch * t.batch + group * t.group + channel * t.channel;
  }

  // row(): index over all channels, for (all channels, states) tensors. entry(): offset in
  // a (leading, states, all channels) tensor.
  __device__ __forceinline__ int row(const ScanView& v, int group) const {
    return group * static_cast<int>(v.channels) + channel;
  }
  __device__ __forceinline__ int64_t entry(const ScanView& v, int group, int64_t leading,
                                           int state) const {
    return (leading * v.states + state) * v.all_channels() + row(v, group);
  }

  // Number of valid steps of the piece in the tile that starts at step `tile`.
  __device__ __forceinline__ int steps(int tile, int most) const {
    const int left = end - tile - piece * most;
    return left < 0 ? 0 : left < most ? left : most;
  }
};

// Iterates over the tiles and gives the pixel of one step of each. A path consists of runs
// of pixels: a single run if it goes by rows (consecutive in memory), otherwise one run per
// column.
class Route {
 public:
  __device__ Route(const ScanView& v, int group, int tile, int first) {
    const Path path = v.path(group);
    run_ = static_cast<int>(path.by_columns ? v.height : v.length());
    inner_stride_ = static_cast<int>(path.by_columns ? v.width : 1);
    outer_stride_ = 1;
    origin_ = 0;
    if (path.reversed) {
      inner_stride_ = -inner_stride_;
      outer_stride_ = -1;
      origin_ = static_cast<int>(v.length() - 1);
    }
    inner_ = first % run_;
    outer_ = first / run_;
    tile_inner_ = tile % run_;
    tile_outer_ = tile / run_;
  }

  __device__ __forceinline__ int pixel() const {
    return inner_ * inner_stride_ + outer_ * outer_stride_ + origin_;
  }

  __device__ __forceinline__ void next_tile() {
    inner_ += tile_inner_;
    outer_ += tile_outer_;
    if (inner_ >= run_) {
      inner_ -= run_;
      ++outer_;
    }
  }

  __device__ __forceinline__ void tile_before() {
    inner_ -= tile_inner_;
    outer_ -= tile_outer_;
    if (inner_ < 0) {
      inner_ += run_;
      --outer_;
    }
  }

 private:
  int run_, inner_stride_, outer_stride_, origin_, inner_, outer_, tile_inner_, tile_outer_;
};

// Four numbers that are loaded 16 bytes at a time.
template <typename W>
struct alignas(16) Four {
  W of[4];
};

template <typename W, int count>
__device__ __forceinline__ void read_row(W (&to)[count], const W* from) {
  static_assert(count % 4 == 0);
#pragma unroll
  for (int i = 0; i < count; i += 4) {
    const Four<W> four = *reinterpret_cast<const Four<W>*>(from + i);
#pragma unroll
    for (int j = 0; j < 4; ++j) to[i + j] = four.of[j];
  }
}

// Visits the steps of a piece: whole pieces without a test at each step.
template <int steps, typename Visit>
__device__ __forceinline__ void each_step(int count, const Visit& visit) {
  if (count == steps) {
#pragma unroll
    for (int i = 0; i < steps; ++i) visit(i);
  } else {
#pragma unroll
    for (int i = 0; i < steps; ++i)
      if (i < count) visit(i);
  }
}

// The pixels of a piece's steps.
template <int steps>
struct Pixels {
  int at[steps];

  __device__ __forceinline__ explicit Pixels(const int* row) { read_row(at, row); }
};

// A map from pixel 0 on, for one channel. An address takes one multiply-add, of 32 into 64
// bits.
template <typename T>
struct Map {
  using Bytes = std::conditional_t<std::is_const_v<T>, const char, char>;
  Bytes* data;
  int pitch;

  __device__ __forceinline__ Map(T* first, int64_t stride)
      : data(reinterpret_cast<Bytes*>(first)), pitch(static_cast<int>(stride * sizeof(T))) {}
  __device__ __forceinline__ T& operator[](int pixel) const {
    return *reinterpret_cast<T*>(data + static_cast<int64_t>(pixel) * pitch);
  }

  template <typename R, int steps>
  __device__ __forceinline__ void read(R (&to)[steps], const Pixels<steps>& pixels) const {
#pragma unroll
    for (int i = 0; i < steps; ++i) {
      if constexpr (std::is_same_v<R, std::remove_const_t<T>>)
        to[i] = (*this)[pixels.at[i]];
      else
        to[i] = widen((*this)[pixels.at[i]]);
    }
  }
  template <int steps>
  __device__ __forceinline__ void add_to(T (&values)[steps], const Pixels<steps>& pixels,
                                         int count) const {
    each_step<steps>(count, [&](int i) { values[i] += (*this)[pixels.at[i]]; });
  }
  template <int steps>
  __device__ __forceinline__ void write(const Wide<T> (&from)[steps], const Pixels<steps>& pixels,
                                        int count) const {
    each_step<steps>(count, [&](int i) { (*this)[pixels.at[i]] = narrow<T>(from[i]); });
  }
};

// Element of a parameter of shape (all channels); 0 if it is absent.
template <typename W>
__device__ __forceinline__ W parameter(const void* tensor, int row) {
  return tensor ? static_cast<const W*>(tensor)[row] : W(0);
}

}  // namespace mmadaptor::cuda
