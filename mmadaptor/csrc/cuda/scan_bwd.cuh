// SPDX-License-Identifier: Apache-2.0
// CUDA kernel of the backward pass of a scan.
#pragma once

#include "scan_walk.cuh"

namespace mmadaptor::cuda {

// Exchanges half of the numbers with another lane: each lane keeps the sums of one half.
template <int kept, typename W, int count>
__device__ __forceinline__ void halve(W (&x)[count], int lane) {
  const bool upper = lane & kept;
#pragma unroll
  for (int i = 0; i < kept; ++i) {
    const W given = upper ? x[i] : x[i + kept];
    x[i] = (upper ? x[i + kept] : x[i]) + __shfl_xor_sync(kAllLanes, given, kept);
  }
}

// Sums each of 8 or 4 numbers over each group of `lanes` (16 or 32) lanes of a warp. At
// every level a lane gives away half of its numbers and keeps the sums of the other half,
// so 8 sums cost 8 or 9 shuffles. A lane returns the sum with index lane % count.
template <typename W, int count>
__device__ __forceinline__ W lane_sum(W (&x)[count], int lane, int lanes) {
  if constexpr (count == 8) halve<4>(x, lane);
  halve<2>(x, lane);
  halve<1>(x, lane);
  W sum = x[0];
  for (int mask = count; mask < lanes; mask *= 2) sum += __shfl_xor_sync(kAllLanes, sum, mask);
  return sum;
}

// The backward walk of a thread over one path, from the last tile to the first. In each
// tile, the threads exchange how their pieces change a state (recomputation) and a
// gradient (differentiation). The forward pass has saved a checkpoint before every 64
// steps.
template <typename T, bool gated>
struct BackwardWalk : Walk<T> {
  using Base = Walk<T>;
  using W = Wide<T>;
  using Base::drive, Base::extra, Base::group, Base::place, Base::shared, Base::step, Base::v;
  static constexpr int kCount = kSteps<W>;
  const ScanGradients& grads;
  W kept_A = 0;  // the gradient of A, if there is only one state

  // Of the current tile.
  W grad_y[kCount], grad_drive[kCount], grad_step[kCount];
  W y[gated ? kCount : 1], gate_slope[gated ? kCount : 1];
  int tile, count, parity = 0;

  static __device__ __forceinline__ int last_tile(const Place& place, const ScanPlan& plan) {
    return place.start + (place.end - place.start - 1) / plan.tile() * plan.tile();
  }

  __device__ BackwardWalk(const ScanView& v, const ScanGradients& grads, const ScanExtra& extra,
                          const Place& place, const Shared<W>& shared, int group)
      : Base(v, extra, place, shared, group, last_tile(place, extra.plan)),
        grads(grads),
        tile(last_tile(place, extra.plan)) {}

  // PreparedPlan refuses calls with more parts than an int counts.
  __device__ __forceinline__ int part() const {
    return (place.batch * extra.plan.segments + place.segment) * extra.plan.pieces + place.piece;
  }

  __device__ void run(bool first, bool last) {
    const ScanPlan& plan = extra.plan;
    this->find_maps([&](int which) { return offset(which); });
    for (int n = place.piece; n < v.states; n += plan.pieces) *this->carried(0, n) = entering(n);
    W grad_D = 0, grad_bias = 0, all_steps = 0;
    for (;; parity ^= 1) {
      this->fetch_coefficient(0);
      count = place.active ? place.steps(tile, kCount) : 0;
      prepare();
      all_steps += this->total;
      for (int n = 0; n < v.states; ++n) state(n);
      if (!extra.finds_segments) {
        finish_inputs(grad_D, grad_bias);
        this->template map<T>(kGradDelta, grads.delta).write(grad_step, this->pixels(0), count);
        Sum<T>{*this, grads.u, first, last}.add(grad_drive, this->pixels(0), count);
        if constexpr (gated) close_gate();
      }
      if (tile == place.start) break;
      tile -= plan.tile();
      this->route.tile_before();
      this->enter_tile(tile, 0);
    }
    __syncthreads();
    finish(grad_D, grad_bias, all_steps);
  }

  __device__ __forceinline__ int64_t offset(int which) const {
    switch (which) {
      case kResult:
        return Base::offset(grads.u);
      case kGradY:
        return Base::offset(grads.y);
      case kGradDelta:
        return Base::offset(grads.delta);
      case kGradZ:
        return Base::offset(grads.z);
      case kGradB:
        return Base::offset(grads.B) + place.block * grads.B_part;
      case kGradC:
        return Base::offset(grads.C) + place.block * grads.C_part;
      default:
        return this->offset_of_input(which);
    }
  }

  __device__ __forceinline__ void read(W (&to)[kCount], int which, const Strided& t) const {
    this->template map<const T>(which, t).read(to, this->pixels(0));
  }

  __device__ __forceinline__ void prepare() {
    W u[kCount];
    read(u, kU, v.u);
    read(step, kDelta, v.delta);
    if (v.reads_out) read(grad_y, kGradY, grads.y);
    this->find_steps(u, count);
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      if (!v.reads_out) grad_y[i] = 0;
      grad_drive[i] = grad_step[i] = 0;
    }
    if (count < kCount) {
#pragma unroll
      for (int i = 0; i < kCount; ++i)
        if (i >= count) grad_y[i] = 0;
    }
    if constexpr (gated) {
      this->times_D(y, u);
      open_gate();
    }
  }

  // Propagates the incoming gradient through the gate y silu(z).
  __device__ __forceinline__ void open_gate() {
    read(gate_slope, kZ, v.z);
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const W z = gate_slope[i], on = precise_sigmoid(z);
      gate_slope[i] = grad_y[i] * on * (z * (W(1) - on) + W(1));
      grad_y[i] *= z * on;
    }
  }

  __device__ __forceinline__ void close_gate() {
#pragma unroll
    for (int i = 0; i < kCount; ++i) y[i] *= gate_slope[i];
    this->template map<T>(kGradZ, grads.z).write(y, this->pixels(0), count);
  }

  __device__ __forceinline__ void state(int n) {
    this->share_coefficients();
    if (n + 1 < v.states) this->fetch_coefficient(n + 1);
    const W rate = this->rate(n);
    W decay[kCount], h = 0, grad = 0;
    this->find_decays_of_state(decay, n, rate, count);
    {
      W B[kCount];
      this->read_coefficients(B, 0, n);
#pragma unroll
      for (int i = 0; i < kCount; ++i) h = multiply_add(decay[i], h, drive[i] * B[i]);
    }
    {
      W incoming[kCount];
      read_incoming(incoming, n);
#pragma unroll
      for (int i = kCount - 1; i >= 0; --i) grad = decay[i] * (incoming[i] + grad);
    }
    exchange(n, Decay<W>(this->total * rate), h, grad);
    if (extra.finds_segments) return;
    W B[kCount], before[kCount], sums[kCount];
    this->read_coefficients(B, 0, n);
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      before[i] = h;
      h = multiply_add(decay[i], h, drive[i] * B[i]);
      sums[i] = grad_y[i] * h;
    }
    if (v.reads_out) add_coefficient(kGradC, grads.C, v.C_varies, n, sums);
    if constexpr (gated) add_readout(n, before, h);
    W incoming[kCount], grad_A = 0;
    read_incoming(incoming, n);  // again: there are too few registers to keep it
    const W A = this->A(n);
#pragma unroll
    for (int i = kCount - 1; i >= 0; --i) {
      const W here = incoming[i] + grad;
      grad = decay[i] * here;
      grad_drive[i] = multiply_add(here, B[i], grad_drive[i]);
      sums[i] = here * drive[i];
      const W exponent = grad * before[i];
      grad_A = multiply_add(exponent, step[i], grad_A);
      grad_step[i] = multiply_add(exponent, A, grad_step[i]);
    }
    if (v.states == 1)
      kept_A += grad_A;
    else
      accumulate(grads.A, n, grad_A);
    add_coefficient(kGradB, grads.B, v.B_varies, n, sums);
  }

  // The direct contributions to the gradient of a state: from its readout, and from the
  // incoming gradient of the states if the op returns them.
  __device__ __forceinline__ void read_incoming(W (&incoming)[kCount], int n) const {
#pragma unroll
    for (int i = 0; i < kCount; ++i) incoming[i] = 0;
    if (v.gives_states) {
      Map<const W>(place.template of<const W>(grads.h, group) + n * grads.h.state, grads.h.column)
          .read(incoming, this->pixels(0));
#pragma unroll
      for (int i = 0; i < kCount; ++i)
        if (i >= count) incoming[i] = 0;
    }
    if (v.reads_out) {
      W C[kCount];
      this->read_coefficients(C, 1, n);
#pragma unroll
      for (int i = 0; i < kCount; ++i) incoming[i] = multiply_add(C[i], grad_y[i], incoming[i]);
    }
  }

  // Exchanges summaries between pieces. On entry, `h` and `grad` are the summaries of
  // this piece (from 0 at its start and end); on return, the actual values that enter it.
  __device__ __forceinline__ void exchange(int n, const Decay<W>& decay, W& h, W& grad) {
    const int piece = place.piece;
    const Summary<W> mine{decay, h, grad};
    this->publish(mine);
    grad = this->back_through_pieces(piece + 1, extra.plan.pieces, *this->carried(parity, n));
    if (piece == 0) *this->carried(parity ^ 1, n) = decay.times(grad) + mine.gradient;
    if (extra.finds_segments) return;
    constexpr int kPieces = kChunk / kCount;
    h = count > 0 ? *this->checkpoint(grads.checkpoints, (tile + piece * kCount) / kChunk, n)
                  : W(0);
    h = this->through_pieces(piece / kPieces * kPieces, piece, h);
  }

  __device__ __forceinline__ void add_readout(int n, const W (&before)[kCount], W last) {
    W C[kCount];
    this->read_coefficients(C, 1, n);
#pragma unroll
    for (int i = 0; i < kCount; ++i)
      y[i] = multiply_add(C[i], i + 1 < kCount ? before[i + 1] : last, y[i]);
  }

  // The gradient of B or C for one state: a sum over channels if the coefficient varies,
  // otherwise over time.
  __device__ __forceinline__ void add_coefficient(int which, const Strided& to, bool varies, int n,
                                                  W (&terms)[kCount]) const {
    if (varies) {
      const W sum = lane_sum(terms, place.lane, extra.plan.lanes);
      if (place.lane < kCount && this->at >= 0)
        static_cast<W*>(to.data)[shared.maps[which] + n * to.state +
                                 static_cast<int64_t>(this->at) * to.column] = sum;
    } else {
      W sum = 0;
#pragma unroll
      for (int i = 0; i < kCount; ++i) sum += terms[i];
      accumulate(to.data, n, sum);
    }
  }

  // Adds to the part of this thread in a (parts, states, all channels) tensor.
  __device__ __forceinline__ void accumulate(void* tensor, int n, W x) const {
    if (!place.active) return;
    W* const at = static_cast<W*>(tensor) + place.entry(v, group, part(), n);
    *at = tile + extra.plan.tile() >= place.end ? x : *at + x;
  }

  // Turns the gradients of drive and step into those of u and delta, in place. Reading
  // u and delta again is cheaper than keeping them in registers during the loop over
  // the states.
  __device__ __forceinline__ void finish_inputs(W& grad_D, W& grad_bias) {
    W u[kCount], before[kCount], skipped[kCount];
    read(u, kU, v.u);
#pragma unroll
    for (int i = 0; i < kCount; ++i) grad_step[i] = multiply_add(u[i], grad_drive[i], grad_step[i]);
    if (v.delta_softplus) {
      const W bias = this->bias();
      read(before, kDelta, v.delta);
#pragma unroll
      for (int i = 0; i < kCount; ++i) grad_step[i] *= fast_sigmoid(before[i] + bias);
    }
    this->times_D(skipped, grad_y);
#pragma unroll
    for (int i = 0; i < kCount; ++i)
      grad_drive[i] = multiply_add(step[i], grad_drive[i], skipped[i]);
    // Summed over a tile first, as long sums lose digits.
    W sum_D = 0, sum_bias = 0;
    each_step<kCount>(count, [&](int i) {
      sum_D = multiply_add(u[i], grad_y[i], sum_D);
      sum_bias += grad_step[i];
    });
    grad_D += sum_D;
    grad_bias += sum_bias;
  }

  // The gradient of the state at the end of the segment.
  __device__ __forceinline__ W entering(int n) const {
    const int last = extra.plan.segments - 1;
    W grad = 0;
    if (grads.last_state && place.segment == last)
      grad = static_cast<const W*>(
          grads.last_state)[(place.batch * v.all_channels() + place.row(v, group)) * v.states + n];
    if (extra.finds_segments) return grad;
    for (int s = last; s > place.segment; --s) grad = this->through_segment(s, n, grad);
    return grad;
  }

  __device__ __forceinline__ void finish(W grad_D, W grad_bias, W all_steps) {
    if (extra.finds_segments) return this->leave_segment(this->carried(parity ^ 1, 0), all_steps);
    if (!place.active) return;
    const int64_t at = static_cast<int64_t>(part()) * v.all_channels() + place.row(v, group);
    if (v.D) static_cast<W*>(grads.D)[at] = grad_D;
    if (v.delta_bias) static_cast<W*>(grads.delta_bias)[at] = grad_bias;
    if (v.states == 1) static_cast<W*>(grads.A)[place.entry(v, group, part(), 0)] = kept_A;
  }
};

// Blocks per multiprocessor that fit without register spills. On sm_80 a second block
// would spill 20 bytes.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
template <typename T, bool gated>
constexpr int kBlocksAtOnce = gated || sizeof(T) == sizeof(double) ? 1 : 2;
#else
template <typename T, bool gated>
constexpr int kBlocksAtOnce = 1;
#endif

template <typename T, bool gated>
__global__ void __launch_bounds__(most_threads(sizeof(Wide<T>), true), (kBlocksAtOnce<T, gated>))
    scan_backward_kernel(const ScanView v, const ScanGradients grads, const ScanExtra extra) {
  const ScanPlan& plan = extra.plan;
  const Place place(v, plan);
  const Shared<Wide<T>> shared(v, plan);
  for (int walk = 0; walk < plan.sharing; ++walk) {
    BackwardWalk<T, gated>(v, grads, extra, place, shared, place.set * plan.sharing + walk)
        .run(walk == 0, walk == plan.sharing - 1);
    __syncthreads();
  }
}

template <typename T>
void launch_scan_backward(const T*, const ScanView& v, const ScanGradients& grads,
                          const ScanExtra& extra, const Target& target) {
  launch_segments(v.z.data ? scan_backward_kernel<T, true> : scan_backward_kernel<T, false>,
                  sizeof(Wide<T>), v, grads, extra, target);
}

}  // namespace mmadaptor::cuda
