// SPDX-License-Identifier: Apache-2.0
// Parts shared by the forward and backward passes of a scan: the position of a thread in
// the work, its steps on the path, and the math of one step.
#pragma once

#include <cmath>
#include <limits>

#include "device.cuh"
#include "scan_launch.h"

namespace mmadaptor::cuda {

constexpr double kLog2E = 1.44269504088896340736;

__device__ __forceinline__ double exp2_of(double x) { return exp2(x); }
__device__ __forceinline__ float exp2_of(float x) {
#ifdef __CUDA_ARCH__
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
#else
  return exp2f(x);
#endif
}

template <typename W>
__device__ __forceinline__ W sigmoid(W x) {
  return W(1) / (W(1) + exp2_of(x * W(-kLog2E)));
}

// log(1 + e) for e in [0, 1]. float: the polynomial of the CPU, error below 2.6 ulp.
__device__ __forceinline__ double log1p_unit(double e) { return log1p(e); }
__device__ __forceinline__ float log1p_unit(float e) {
  float q = 5.232690027e-3f;
  q = q * e - 2.950521992e-2f;
  q = q * e + 7.822591751e-2f;
  q = q * e - 1.366324250e-1f;
  q = q * e + 1.910600499e-1f;
  q = q * e - 2.484298169e-1f;
  q = q * e + 3.331909673e-1f;
  q = q * e - 4.999949314e-1f;
  q = q * e + 9.999999699e-1f;
  return q * e;
}

// log(1 + e^x).
template <typename W>
__device__ __forceinline__ W softplus(W x) {
  const W small = exp2_of((x < W(0) ? x : -x) * W(kLog2E));  // e^-|x|
  return (x > W(0) ? x : W(0)) + log1p_unit(small);
}

template <typename W>
constexpr W kLeast = std::numeric_limits<W>::lowest();

// A log2(e). It is finite even if A is -inf: the steps beyond the end of a path are 0, and
// must decay nothing.
template <typename W>
__device__ __forceinline__ W rate_of(W A) {
  const W rate = A * W(kLog2E);
  return rate < kLeast<W> ? kLeast<W> : rate;
}

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
  __device__ __forceinline__ int64_t row(const ScanView& v, int group) const {
    return group * v.channels + channel;
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

// A pixel of a path: its index in the map, and how to advance to the next pixel.
struct Pixel {
  int at;
  int inner, run, step, turn;

  __device__ __forceinline__ void next() {
    at += step;
    if (++inner == run) {
      inner = 0;
      at += turn;
    }
  }

  __device__ __forceinline__ int after(int steps) const {
    int later = at + steps * step;
    for (int past = inner + steps - run; past >= 0; past -= run) later += turn;
    return later;
  }
};

// Stride between pixels; the stride between rows is `width` times this.
__device__ __forceinline__ int stride(const Strided& t) { return static_cast<int>(t.column); }

__device__ __forceinline__ int64_t offset(const Pixel& pixel, int stride) {
  return static_cast<int64_t>(pixel.at) * stride;
}

// Returns the same pixel, opaque to the compiler. Otherwise the compiler would keep the
// offset of each step of B and C in registers across all states, and spill others.
__device__ __forceinline__ Pixel anew(Pixel pixel) {
#ifdef __CUDA_ARCH__
  asm volatile("" : "+r"(pixel.at), "+r"(pixel.inner));
#endif
  return pixel;
}

// Iterates over the tiles and gives the first pixel of a thread's piece. A path consists
// of runs of pixels: a single run if it goes by rows (consecutive in memory), otherwise
// one run per column.
class Route {
 public:
  __device__ Route(const ScanView& v, int group, int tile, int first) {
    const Path path = v.path(group);
    last_ = static_cast<int>(v.length() - 1);
    reversed_ = path.reversed;
    run_ = static_cast<int>(path.by_columns ? v.height : v.length());
    inner_stride_ = static_cast<int>(path.by_columns ? v.width : 1);
    inner_ = first % run_;
    outer_ = first / run_;
    tile_inner_ = tile % run_;
    tile_outer_ = tile / run_;
  }

  __device__ __forceinline__ Pixel pixel() const {
    const int forth = inner_ * inner_stride_ + outer_;
    const int turn = 1 - run_ * inner_stride_;
    if (reversed_) return {last_ - forth, inner_, run_, -inner_stride_, -turn};
    return {forth, inner_, run_, inner_stride_, turn};
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
  int last_, run_, inner_stride_, inner_, outer_, tile_inner_, tile_outer_;
  bool reversed_;
};

// Reads `count` steps of a map; the remaining steps are zero.
template <typename T, int steps>
__device__ __forceinline__ void read(T (&to)[steps], const T* from, int stride, Pixel pixel,
                                     int count) {
#pragma unroll
  for (int i = 0; i < steps; ++i) {
    to[i] = i < count ? from[offset(pixel, stride)] : T{};
    pixel.next();
  }
}

template <typename T, typename W, int steps>
__device__ __forceinline__ void read_wide(W (&to)[steps], const T* from, int stride, Pixel pixel,
                                          int count) {
#pragma unroll
  for (int i = 0; i < steps; ++i) {
    to[i] = i < count ? widen(from[offset(pixel, stride)]) : W(0);
    pixel.next();
  }
}

template <typename T, typename W, int steps>
__device__ __forceinline__ void write(T* to, int stride, const W (&from)[steps], Pixel pixel,
                                      int count) {
#pragma unroll
  for (int i = 0; i < steps; ++i) {
    if (i < count) to[offset(pixel, stride)] = narrow<T>(from[i]);
    pixel.next();
  }
}

// Element of a parameter of shape (all channels); 0 if it is absent.
template <typename W>
__device__ __forceinline__ W parameter(const void* tensor, int64_t row) {
  return tensor ? static_cast<const W*>(tensor)[row] : W(0);
}

// Accumulates a map over the groups that share it. The walks of a block add to it in
// order, and the last one writes the result to `total`.
template <typename T>
struct Sum {
  using W = Wide<T>;
  W* sum;
  int sum_stride;
  T* total;
  int total_stride;

  __device__ Sum(const Place& place, const ScanExtra& extra, const Strided& result, int group,
                 W* shared)
      : sum(nullptr), sum_stride(0), total(nullptr), total_stride(stride(result)) {
    if (extra.plan.sums_in_shared) {
      sum = shared + place.lane;
      sum_stride = extra.plan.lanes;
    } else if (extra.sum.data) {
      sum = place.of<W>(extra.sum, group);
      sum_stride = stride(extra.sum);
    }
    if (result.data) total = place.of<T>(result, group);
  }

  __device__ __forceinline__ void add(const W (&values)[kSteps<W>], Pixel pixel, int count,
                                      bool first, bool last) const {
#pragma unroll
    for (int i = 0; i < kSteps<W>; ++i) {
      if (i < count) {
        W value = values[i];
        if (!first) value += sum[offset(pixel, sum_stride)];
        if (last && total)
          total[offset(pixel, total_stride)] = narrow<T>(value);
        else
          sum[offset(pixel, sum_stride)] = value;
      }
      pixel.next();
    }
  }
};

// Applies the summary of a segment: returns the state (or gradient) that leaves it if h
// enters it.
template <typename W>
__device__ __forceinline__ W through_segment(const ScanView& v, const ScanExtra& extra,
                                             const Place& place, int group, int segment, int n,
                                             W rate, W h) {
  const int64_t leading = segment * v.batch + place.batch;
  const int64_t row = leading * v.all_channels() + place.row(v, group);
  return exp2_of(static_cast<const W*>(extra.segment_steps)[row] * rate) * h +
         static_cast<const W*>(extra.segment_states)[place.entry(v, group, leading, n)];
}

// Writes the summary of a segment, which through_segment reads. `left` points to the final
// states of this lane, `lanes` elements apart; `all_steps` is the sum of the step sizes
// of this thread.
template <typename W>
__device__ __forceinline__ void leave_segment(const ScanView& v, const ScanExtra& extra,
                                              const Place& place, int group, const W* left,
                                              W* scratch, W all_steps) {
  const int lanes = extra.plan.lanes, pieces = extra.plan.pieces;
  const int64_t leading = place.segment * v.batch + place.batch;
  scratch[place.piece * lanes + place.lane] = all_steps;
  for (int n = place.piece; n < v.states && place.active; n += pieces)
    static_cast<W*>(extra.segment_states)[place.entry(v, group, leading, n)] = left[n * lanes];
  __syncthreads();
  if (place.piece > 0 || !place.active) return;
  all_steps = 0;
  for (int c = 0; c < pieces; ++c) all_steps += scratch[c * lanes + place.lane];
  static_cast<W*>(extra.segment_steps)[leading * v.all_channels() + place.row(v, group)] =
      all_steps;
}

// Launches the kernel of either pass: once, or twice if there are several segments (the
// first launch computes their summaries).
template <typename Kernel, typename Tensors>
void launch_segments(Kernel kernel, size_t wide, const ScanView& v, const Tensors& tensors,
                     ScanExtra extra, const Target& target) {
  const ScanPlan& plan = extra.plan;
  const int64_t blocks = v.batch * (v.groups / plan.sharing) * plan.blocks * plan.segments;
  for (const bool finds_segments : {true, false}) {
    if (finds_segments && plan.segments == 1) continue;
    extra.finds_segments = finds_segments;
    launch(kernel, dim3(blocks), dim3(plan.threads()), plan.shared_bytes(v, wide), target.stream, v,
           tensors, extra);
  }
}

}  // namespace mmadaptor::cuda
