// SPDX-License-Identifier: Apache-2.0
// What the walks of the forward and backward passes of a scan share.
#pragma once

#include "scan_decay.cuh"
#include "scan_parts.cuh"

namespace mmadaptor::cuda {

// How a piece changes a state and a gradient: the decay over it, and what it adds to each.
template <typename W>
struct alignas(16) Summary {
  Decay<W> decay;
  W state, gradient;
};

// The shared memory of a block; ScanPlan::exchange_bytes() is its size without the sums.
template <typename W>
struct Shared {
  W* carry;  // [2][states][lanes]: the state (or gradient) before this tile and the next
  Summary<W>* summaries;  // [2][pieces][lanes]
  W* coefficients;        // [2][pieces][2][steps]: B and C
  int* pixels;            // [2][pieces][steps]
  int64_t* maps;          // [kMaps]: offsets of the maps of a walk
  W* sums;                // [pixels][lanes], if the sum over groups is on the chip

  __device__ Shared(const ScanView& v, const ScanPlan& plan) {
    carry = shared_memory<W>();
    summaries = reinterpret_cast<Summary<W>*>(carry + 2 * static_cast<int>(v.states) * plan.lanes);
    coefficients = reinterpret_cast<W*>(summaries + 2 * plan.threads());
    pixels = reinterpret_cast<int*>(coefficients + 4 * plan.tile());
    maps = reinterpret_cast<int64_t*>(pixels + 2 * plan.tile());
    sums = reinterpret_cast<W*>(maps + kMaps);
  }
};

// What the walks of both passes share: a walk takes a thread along one path.
//
// The lanes of a piece divide the work that is the same for all channels: each keeps the
// pixel of one step, and fetches a coefficient of that step, B or C, one state ahead.
template <typename T>
struct Walk {
  using W = Wide<T>;
  static constexpr int kCount = kSteps<W>;
  const ScanView& v;
  const ScanExtra& extra;
  const Place& place;
  const Shared<W>& shared;
  const int group;
  int turn = 0;  // current buffer of the summaries and the coefficients

  // Of this lane.
  Route route;
  int at;                          // the pixel of its step in the tile; -1 beyond the path
  const char* coefficient_source;  // null if it fetches none
  int coefficient_pitch, coefficient_state;  // in bytes
  W coefficient = 0;

  // Of the current tile.
  W step[kCount], drive[kCount], least, most, total;

  __device__ Walk(const ScanView& v, const ScanExtra& extra, const Place& place,
                  const Shared<W>& shared, int group, int first_tile)
      : v(v),
        extra(extra),
        place(place),
        shared(shared),
        group(group),
        route(v, group, extra.plan.tile(),
              first_tile + place.piece * kCount + place.lane % kCount) {
    const bool of_B = place.lane < kCount, of_C = !of_B && place.lane < 2 * kCount;
    const T* source = nullptr;
    if (of_B && v.B_varies) source = place.of<const T>(v.B, group);
    if (of_C && v.C_varies && v.reads_out) source = place.of<const T>(v.C, group);
    coefficient_source = reinterpret_cast<const char*>(source);
    coefficient_pitch = static_cast<int>((of_B ? v.B.column : v.C.column) * sizeof(T));
    coefficient_state = static_cast<int>((of_B ? v.B.state : v.C.state) * sizeof(T));
    enter_tile(first_tile, 0);
  }

  __device__ __forceinline__ int row() const { return place.row(v, group); }
  __device__ __forceinline__ W A(int n) const {
    return static_cast<const W*>(v.A)[row() * static_cast<int>(v.states) + n];
  }
  __device__ __forceinline__ W rate(int n) const { return rate_of(A(n)); }
  __device__ __forceinline__ W bias() const { return parameter<W>(v.delta_bias, row()); }
  __device__ __forceinline__ W* carried(int parity, int n) const {
    return shared.carry + (parity * static_cast<int>(v.states) + n) * extra.plan.lanes + place.lane;
  }

  // Finds the offsets of the maps once a walk, in elements; each by another warp.
  template <typename Find>
  __device__ __forceinline__ void find_maps(const Find& offset) const {
    if (place.lane == 0)
      for (int which = place.piece; which < kMaps; which += extra.plan.pieces)
        shared.maps[which] = offset(which);
    __syncthreads();
  }
  __device__ __forceinline__ int64_t offset(const Strided& t) const {
    return place.batch * t.batch + group * t.group;
  }
  // Of the maps that both passes read.
  __device__ __forceinline__ int64_t offset_of_input(int which) const {
    switch (which) {
      case kU:
        return offset(v.u);
      case kDelta:
        return offset(v.delta);
      case kZ:
        return offset(v.z);
      case kSum:
        return offset(extra.sum);
      case kSaved:
        return offset_of_checkpoints();
      default:
        return 0;
    }
  }
  template <typename S>
  __device__ __forceinline__ Map<S> map(int which, const Strided& t) const {
    return {static_cast<S*>(t.data) + shared.maps[which] + place.channel, t.column};
  }

  // The offset of the checkpoints, and the place of one among them.
  __device__ __forceinline__ int64_t offset_of_checkpoints() const {
    return place.entry(v, group, place.batch * v.chunks(), 0) - place.channel;
  }
  __device__ __forceinline__ W* checkpoint(const void* checkpoints, int chunk, int n) const {
    const int channels = static_cast<int>(v.all_channels()), states = static_cast<int>(v.states);
    return static_cast<W*>(const_cast<void*>(checkpoints)) + shared.maps[kSaved] + place.channel +
           static_cast<int64_t>(chunk) * (channels * states) + static_cast<int64_t>(n) * channels;
  }

  // Shares the pixels of the piece in the tile that `route` has come to.
  __device__ __forceinline__ void enter_tile(int tile, int buffer) {
    const int step = place.lane % kCount;
    at = step < place.steps(tile, kCount) ? route.pixel() : -1;
    __syncwarp();  // the buffer was read
    if (place.lane < kCount) pixel_row(buffer)[step] = at < 0 ? 0 : at;
    __syncwarp();
  }
  __device__ __forceinline__ int* pixel_row(int buffer) const {
    return shared.pixels + (buffer * extra.plan.pieces + place.piece) * kCount;
  }
  __device__ __forceinline__ Pixels<kCount> pixels(int buffer) const {
    return Pixels<kCount>(pixel_row(buffer));
  }

  __device__ __forceinline__ W* coefficient_row(int which) const {
    return shared.coefficients + ((turn * extra.plan.pieces + place.piece) * 2 + which) * kCount;
  }
  __device__ __forceinline__ void fetch_coefficient(int n) {
    coefficient = 0;
    if (coefficient_source && at >= 0)
      coefficient = widen(*reinterpret_cast<const T*>(coefficient_source +
                                                      static_cast<int64_t>(at) * coefficient_pitch +
                                                      static_cast<int64_t>(n) * coefficient_state));
  }
  // Shares the coefficients that were fetched. The buffer was last read two states ago,
  // and every state has a barrier.
  __device__ __forceinline__ void share_coefficients() {
    turn ^= 1;
    if (place.lane < 2 * kCount) coefficient_row(0)[place.lane] = coefficient;
    __syncwarp();
  }
  __device__ __forceinline__ void read_coefficients(W (&to)[kCount], int which, int n) const {
    if (which == 0 ? v.B_varies : v.C_varies) return read_row(to, coefficient_row(which));
    const Strided& t = which == 0 ? v.B : v.C;
    const W fixed = widen(place.of<const T>(t, group)[n * t.state]);
#pragma unroll
    for (int i = 0; i < kCount; ++i) to[i] = fixed;
  }

  // D `from`. Without D it is 0, also where `from` is infinite.
  __device__ __forceinline__ void times_D(W (&to)[kCount], const W (&from)[kCount]) const {
    if (v.D) {
      const W D = static_cast<const W*>(v.D)[row()];
#pragma unroll
      for (int i = 0; i < kCount; ++i) to[i] = D * from[i];
    } else {
#pragma unroll
      for (int i = 0; i < kCount; ++i) to[i] = 0;
    }
  }

  // Turns deltas into steps, and u into drives. Beyond the path both are 0.
  __device__ __forceinline__ void find_steps(W (&u)[kCount], int count) {
    const W bias = this->bias();
#pragma unroll
    for (int i = 0; i < kCount; ++i) step[i] += bias;
    if (v.delta_softplus) {
#pragma unroll
      for (int i = 0; i < kCount; ++i) step[i] = softplus(step[i]);
    }
    if (count < kCount) {
#pragma unroll
      for (int i = 0; i < kCount; ++i)
        if (i >= count) step[i] = u[i] = 0;
    }
    least = most = total = 0;
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      drive[i] = step[i] * u[i];
      most = larger(step[i], most);
      total += step[i];
    }
    if (!v.delta_softplus) {
#pragma unroll
      for (int i = 0; i < kCount; ++i) least = -larger(-step[i], -least);
    }
  }

  // The decays of the steps of a piece. Those of steps that are NaN, or 0 if A is infinite,
  // are NaN.
  __device__ __forceinline__ void find_decays_of_state(W (&decay)[kCount], int n, W rate,
                                                       int count) const {
    find_decays(decay, step, rate, least, most);
    if (magnitude(rate) < kMost<W> && total == total) return;
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const W exponent = step[i] * A(n);
      if (i < count && exponent != exponent) decay[i] = exponent;
    }
  }

  // The summaries of this lane, of all pieces: `lanes` apart.
  __device__ __forceinline__ Summary<W>* summaries() const {
    return shared.summaries + turn * extra.plan.threads() + place.lane;
  }
  // Publishes the summary of the piece, and waits for the others.
  __device__ __forceinline__ void publish(const Summary<W>& summary) const {
    summaries()[place.piece * extra.plan.lanes] = summary;
    __syncthreads();
  }
  // Take a state through the pieces from `first` to `last`, and a gradient from `last` back.
  __device__ __forceinline__ W through_pieces(int first, int last, W h) const {
    const Summary<W>* of = summaries() + first * extra.plan.lanes;
#pragma unroll 4
    for (int c = first; c < last; ++c, of += extra.plan.lanes) {
      const Summary<W> s = *of;
      h = s.decay.times(h) + s.state;
    }
    return h;
  }
  __device__ __forceinline__ W back_through_pieces(int first, int last, W grad) const {
    const Summary<W>* of = summaries() + last * extra.plan.lanes;
#pragma unroll 4
    for (int c = last; c > first; --c) {
      const Summary<W> s = *(of -= extra.plan.lanes);
      grad = s.decay.times(grad) + s.gradient;
    }
    return grad;
  }

  // Takes a state (or gradient) through a segment, by its summary.
  __device__ __forceinline__ W through_segment(int segment, int n, W h) const {
    const int64_t leading = segment * v.batch + place.batch;
    const int64_t row = leading * v.all_channels() + place.row(v, group);
    const Decay<W> decay(static_cast<const W*>(extra.segment_steps)[row] * rate(n));
    return decay.times(h) +
           static_cast<const W*>(extra.segment_states)[place.entry(v, group, leading, n)];
  }

  // Writes the summary of the segment. `left` points to the final states of this lane,
  // `lanes` elements apart; `all_steps` is the sum of the step sizes of this thread.
  __device__ __forceinline__ void leave_segment(const W* left, W all_steps) const {
    const int lanes = extra.plan.lanes, pieces = extra.plan.pieces;
    const int64_t leading = place.segment * v.batch + place.batch;
    W* const scratch = reinterpret_cast<W*>(shared.summaries);
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
};

// Accumulates a map over the groups that share it. The walks of a block add to it in
// order, and the last one writes the result to `total`.
template <typename T>
struct Sum {
  using W = Wide<T>;
  const Walk<T>& walk;
  const Strided& result;
  const bool first, last;

  __device__ __forceinline__ void add(W (&values)[kSteps<W>], const Pixels<kSteps<W>>& pixels,
                                      int count) const {
    const bool on_chip = walk.extra.plan.sums_in_shared;
    const Map<W> chip(walk.shared.sums + walk.place.lane, walk.extra.plan.lanes);
    const auto memory = [&] { return walk.template map<W>(kSum, walk.extra.sum); };
    if (!first && on_chip)
      chip.add_to(values, pixels, count);
    else if (!first)
      memory().add_to(values, pixels, count);
    if (last && result.data)
      walk.template map<T>(kResult, result).write(values, pixels, count);
    else if (on_chip)
      chip.write(values, pixels, count);
    else
      memory().write(values, pixels, count);
  }
};

// Launches the kernel of either pass: once, or twice if there are several segments (the
// first launch computes their summaries).
template <typename Kernel, typename Tensors>
void launch_segments(Kernel kernel, size_t wide, const ScanView& v, const Tensors& tensors,
                     ScanExtra extra, const Target& target) {
  const ScanPlan& plan = extra.plan;
  for (const bool finds_segments : {true, false}) {
    if (finds_segments && plan.segments == 1) continue;
    extra.finds_segments = finds_segments;
    launch(kernel, dim3(plan.all_blocks(v)), dim3(plan.threads()), plan.shared_bytes(v, wide),
           target.stream, v, tensors, extra);
  }
}

}  // namespace mmadaptor::cuda
