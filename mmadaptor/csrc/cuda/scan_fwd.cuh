// SPDX-License-Identifier: Apache-2.0
// CUDA kernel of the forward pass of a scan.
#pragma once

#include "scan_walk.cuh"

namespace mmadaptor::cuda {

// The walk of a thread over one path. In each tile, every thread first scans its piece
// starting from a state of 0 and publishes a summary. It then applies the summaries of
// the preceding pieces to the state at the start of the tile, and scans its piece again
// from the actual state.
template <typename T>
struct ForwardWalk : Walk<T> {
  using Base = Walk<T>;
  using W = Wide<T>;
  using Base::extra, Base::group, Base::place, Base::shared, Base::v;
  static constexpr int kCount = kSteps<W>;
  const ScanResults& out;

  // Of the current tile.
  W y[kCount];
  int tile, count, next_at, parity = 0;

  __device__ ForwardWalk(const ScanView& v, const ScanResults& out, const ScanExtra& extra,
                         const Place& place, const Shared<W>& shared, int group)
      : Base(v, extra, place, shared, group, place.start), out(out), tile(place.start) {}

  __device__ void run(bool first, bool last) {
    const ScanPlan& plan = extra.plan;
    this->find_maps([&](int which) { return offset(which); });
    for (int n = place.piece; n < v.states; n += plan.pieces) *this->carried(0, n) = entering(n);
    T next_u[kCount], next_delta[kCount];
    W all_steps = 0;
    read_inputs(next_u, next_delta, 0);
    this->fetch_coefficient(0);
    for (; tile < place.end; tile += plan.tile(), parity ^= 1) {
      count = place.active ? place.steps(tile, kCount) : 0;
      prepare(next_u, next_delta);
      all_steps += this->total;
      const int now_at = this->at, next_tile = tile + plan.tile();
      next_at = -1;
      if (next_tile < place.end) {
        this->route.next_tile();
        this->enter_tile(next_tile, parity ^ 1);
        next_at = this->at;
        this->at = now_at;
        read_inputs(next_u, next_delta, parity ^ 1);
      }
      for (int n = 0; n < v.states; ++n) state(n);
      if (v.reads_out && !extra.finds_segments) {
        gate();
        Sum<T>{*this, out.y, first, last}.add(y, this->pixels(parity), count);
      }
    }
    __syncthreads();
    finish(all_steps);
  }

  __device__ __forceinline__ int64_t offset(int which) const {
    return which == kResult ? Base::offset(out.y) : this->offset_of_input(which);
  }

  __device__ __forceinline__ void read_inputs(T (&u)[kCount], T (&delta)[kCount],
                                              int buffer) const {
    const Pixels<kCount> pixels = this->pixels(buffer);
    this->template map<const T>(kU, v.u).read(u, pixels);
    this->template map<const T>(kDelta, v.delta).read(delta, pixels);
  }

  __device__ __forceinline__ void prepare(const T (&raw_u)[kCount], const T (&raw_delta)[kCount]) {
    W u[kCount];
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      u[i] = widen(raw_u[i]);
      this->step[i] = widen(raw_delta[i]);
    }
    this->find_steps(u, count);
    this->times_D(y, u);
  }

  // Fetches the coefficients of the state that follows n, and shares those of n.
  __device__ __forceinline__ void next_coefficients(int n) {
    this->share_coefficients();
    if (++n == v.states) {
      n = 0;
      this->at = next_at;
    }
    this->fetch_coefficient(n);
  }

  __device__ __forceinline__ void state(int n) {
    next_coefficients(n);
    const W rate = this->rate(n);
    W decay[kCount], input[kCount], h = 0;
    this->read_coefficients(input, 0, n);
    this->find_decays_of_state(decay, n, rate, count);
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      input[i] *= this->drive[i];
      h = multiply_add(decay[i], h, input[i]);
    }
    const int piece = place.piece, pieces = extra.plan.pieces;
    const Summary<W> mine{Decay<W>(this->total * rate), h, W(0)};
    this->publish(mine);
    h = this->through_pieces(0, piece, *this->carried(parity, n));
    if (piece == pieces - 1) *this->carried(parity ^ 1, n) = mine.decay.times(h) + mine.state;
    if (extra.finds_segments) return;
    const int at_step = tile + place.piece * kCount;
    if (count > 0 && at_step % kChunk == 0)
      *this->checkpoint(out.checkpoints, at_step / kChunk, n) = h;
#pragma unroll
    for (int i = 0; i < kCount; ++i) input[i] = h = multiply_add(decay[i], h, input[i]);
    if (v.gives_states)
      Map<W>(place.template of<W>(out.h, group) + n * out.h.state, out.h.column)
          .write(input, this->pixels(parity), count);
    if (v.reads_out) {
      W C[kCount];
      this->read_coefficients(C, 1, n);
#pragma unroll
      for (int i = 0; i < kCount; ++i) y[i] = multiply_add(C[i], input[i], y[i]);
    }
  }

  __device__ __forceinline__ void gate() {
    if (!v.z.data) return;
    W z[kCount];
    this->template map<const T>(kZ, v.z).read(z, this->pixels(parity));
#pragma unroll
    for (int i = 0; i < kCount; ++i) y[i] *= z[i] * precise_sigmoid(z[i]);
  }

  // The state before the segment, from the summaries of all preceding segments.
  __device__ __forceinline__ W entering(int n) const {
    W h = 0;
    for (int s = 0; s < place.segment && !extra.finds_segments; ++s)
      h = this->through_segment(s, n, h);
    return h;
  }

  // Writes the result after the last tile: the summary of the segment or the last state.
  __device__ __forceinline__ void finish(W all_steps) {
    if (extra.finds_segments) {
      this->leave_segment(this->carried(parity, 0), all_steps);
    } else if (out.last_state && place.end == v.length() && place.active) {
      const int64_t row = place.batch * v.all_channels() + place.row(v, group);
      for (int n = place.piece; n < v.states; n += extra.plan.pieces)
        static_cast<W*>(out.last_state)[row * v.states + n] = *this->carried(parity, n);
    }
  }
};

template <typename T>
__global__ void __launch_bounds__(most_threads(sizeof(Wide<T>), false))
    scan_kernel(const ScanView v, const ScanResults out, const ScanExtra extra) {
  const ScanPlan& plan = extra.plan;
  const Place place(v, plan);
  const Shared<Wide<T>> shared(v, plan);
  for (int walk = 0; walk < plan.sharing; ++walk) {
    ForwardWalk<T>(v, out, extra, place, shared, place.set * plan.sharing + walk)
        .run(walk == 0, walk == plan.sharing - 1);
    __syncthreads();
  }
}

template <typename T>
void launch_scan(const T*, const ScanView& v, const ScanResults& out, const ScanExtra& extra,
                 const Target& target) {
  launch_segments(scan_kernel<T>, sizeof(Wide<T>), v, out, extra, target);
}

}  // namespace mmadaptor::cuda
