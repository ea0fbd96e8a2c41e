// SPDX-License-Identifier: Apache-2.0
// CUDA kernel of the backward pass of a scan.
#pragma once

#include "scan_parts.cuh"

namespace mmadaptor::cuda {

// Exchanges half of the numbers with another lane: each lane keeps the sums of one half.
template <int kept, typename W, int count>
__device__ __forceinline__ void halve(W (&x)[count], int lane, int mask) {
  const bool upper = lane & mask;
#pragma unroll
  for (int i = 0; i < kept; ++i) {
    const W given = upper ? x[i] : x[i + kept];
    x[i] = (upper ? x[i + kept] : x[i]) + __shfl_xor_sync(kAllLanes, given, mask);
  }
}

// Sums each of 8 or 4 numbers over each group of `lanes` (16 or 32) lanes of a warp. At
// every level a lane gives away half of its numbers and keeps the sums of the other half,
// so 8 sums cost 8 or 9 shuffles. A lane returns the sum with index sum_of(lane, ...).
template <typename W, int count>
__device__ __forceinline__ W lane_sum(W (&x)[count], int lane, int lanes) {
  int mask = lanes / 2;
  if constexpr (count == 8) halve<4>(x, lane, mask), mask /= 2;
  halve<2>(x, lane, mask);
  halve<1>(x, lane, mask / 2);
  W sum = x[0];
  for (mask /= 4; mask > 0; mask /= 2) sum += __shfl_xor_sync(kAllLanes, sum, mask);
  return sum;
}

__device__ __forceinline__ int sum_of(int lane, int lanes, int count) {
  return lane / (lanes / count);
}

// The backward walk of a thread over one path, from the last tile to the first. In each
// tile, the threads exchange how their pieces change a state (recomputation) and a
// gradient (differentiation). The forward pass has saved a checkpoint before every 64
// steps.
template <typename T, bool gated>
struct BackwardWalk {
  using W = Wide<T>;
  const ScanView& v;
  const ScanGradients& grads;
  const ScanExtra& extra;
  const Place& place;
  const int group;
  W* const carry;      // [2][states][lanes]: the gradient after and before a tile
  W* const summaries;  // [2][pieces][3][lanes]
  int turn = 0;        // current buffer of `summaries` (0 or 1)
  W kept_A = 0;        // the gradient of A, if there is only one state

  // Of the current tile.
  W step[kSteps<W>], drive[kSteps<W>], grad_y[kSteps<W>], grad_drive[kSteps<W>],
      grad_step[kSteps<W>];
  W y[gated ? kSteps<W> : 1], gate_slope[gated ? kSteps<W> : 1];
  W all_steps = 0;  // sum over the segment, in the launch that finds segments
  int tile = 0, count = 0;

  __device__ __forceinline__ W rate(int n) const { return rate_of(A(n)); }
  __device__ __forceinline__ W A(int n) const {
    return static_cast<const W*>(v.A)[place.row(v, group) * v.states + n];
  }
  __device__ __forceinline__ W* carried(int parity, int n) const {
    return carry + (parity * v.states + n) * extra.plan.lanes + place.lane;
  }
  __device__ __forceinline__ int part() const {
    return (place.batch * extra.plan.segments + place.segment) * extra.plan.pieces + place.piece;
  }

  __device__ void run(bool first, bool last, W* sums) {
    const ScanPlan& plan = extra.plan;
    const int tiles = static_cast<int>(divide_up(place.end - place.start, plan.tile()));
    tile = place.start + (tiles - 1) * plan.tile();
    Route route(v, group, plan.tile(), tile + place.piece * kSteps<W>);
    for (int n = place.piece; n < v.states; n += plan.pieces) *carried(0, n) = entering(n);
    W grad_D = 0, grad_bias = 0;
    for (int parity = 0; tile >= place.start; tile -= plan.tile(), parity ^= 1) {
      count = place.active ? place.steps(tile, kSteps<W>) : 0;
      prepare(route.pixel());
      for (int n = 0; n < v.states; ++n) state(n, anew(route.pixel()), parity);
      const Pixel pixel = anew(route.pixel());
      route.tile_before();
      if (extra.finds_segments) continue;
      finish_inputs(pixel, grad_D, grad_bias);
      write<T>(place.of<T>(grads.delta, group), stride(grads.delta), grad_step, pixel, count);
      Sum<T>(place, extra, grads.u, group, sums).add(grad_drive, pixel, count, first, last);
      if constexpr (gated) close_gate(pixel);
    }
    __syncthreads();
    finish(grad_D, grad_bias, divide_up(place.end - place.start, plan.tile()) % 2);
  }

  __device__ __forceinline__ void prepare(Pixel pixel) {
    const W bias = parameter<W>(v.delta_bias, place.row(v, group));
    const W D = parameter<W>(v.D, place.row(v, group));
    read_wide<T>(drive, place.of<T>(v.u, group), stride(v.u), pixel, count);
    read_wide<T>(step, place.of<T>(v.delta, group), stride(v.delta), pixel, count);
    if (v.reads_out)
      read_wide<T>(grad_y, place.of<T>(grads.y, group), stride(grads.y), pixel, count);
#pragma unroll
    for (int i = 0; i < kSteps<W>; ++i) {
      if (!v.reads_out) grad_y[i] = 0;
      const W before = step[i] + bias;
      step[i] = i < count ? (v.delta_softplus ? softplus(before) : before) : W(0);
      if constexpr (gated) y[i] = D * drive[i];
      drive[i] *= step[i];
      grad_drive[i] = grad_step[i] = 0;
      if (extra.finds_segments) all_steps += step[i];
    }
    if constexpr (gated) open_gate(pixel);
  }

  // Propagates the incoming gradient through the gate y silu(z).
  __device__ __forceinline__ void open_gate(const Pixel& pixel) {
    read_wide<T>(gate_slope, place.of<T>(v.z, group), stride(v.z), pixel, count);
#pragma unroll
    for (int i = 0; i < kSteps<W>; ++i) {
      const W z = gate_slope[i], on = sigmoid(z);
      gate_slope[i] = grad_y[i] * on * (z * (W(1) - on) + W(1));
      grad_y[i] *= z * on;
    }
  }

  __device__ __forceinline__ void close_gate(const Pixel& pixel) {
#pragma unroll
    for (int i = 0; i < kSteps<W>; ++i) y[i] *= gate_slope[i];
    write<T>(place.of<T>(grads.z, group), stride(grads.z), y, pixel, count);
  }

  __device__ __forceinline__ void state(int n, const Pixel& pixel, int parity) {
    const W rate = this->rate(n);
    W decay[kSteps<W>], input[kSteps<W>], B[kSteps<W>], incoming[kSteps<W>];
    read_wide<T>(B, place.of<T>(v.B, group) + n * v.B.state, stride(v.B), pixel, count);
    read_incoming(incoming, n, anew(pixel));
    W h = 0, grad = 0, through = 1;
#pragma unroll
    for (int i = 0; i < kSteps<W>; ++i) {
      decay[i] = exp2_of(step[i] * rate);
      through *= decay[i];
      h = decay[i] * h + drive[i] * B[i];
    }
#pragma unroll
    for (int i = kSteps<W> - 1; i >= 0; --i) grad = decay[i] * (incoming[i] + grad);
    exchange(n, through, h, grad, parity);
    if (extra.finds_segments) {
      if (place.piece == 0) *carried(parity ^ 1, n) = decay_through(decay, incoming, grad);
      return;
    }
    W before[kSteps<W>], sums[kSteps<W>];
#pragma unroll
    for (int i = 0; i < kSteps<W>; ++i) {
      before[i] = h;
      h = decay[i] * h + drive[i] * B[i];
      sums[i] = grad_y[i] * h;
    }
    if (v.reads_out) add_coefficient(grads.C, grads.C_part, v.C_varies, n, pixel, sums);
    if constexpr (gated) add_readout(n, pixel, before, h);
    W grad_A = 0;
    const W A = this->A(n);
#pragma unroll
    for (int i = kSteps<W> - 1; i >= 0; --i) {
      const W here = incoming[i] + grad;
      grad = decay[i] * here;
      grad_drive[i] += here * B[i];
      sums[i] = here * drive[i];
      const W exponent = grad * before[i];
      grad_A += exponent * step[i];
      grad_step[i] += exponent * A;
    }
    if (place.piece == 0) *carried(parity ^ 1, n) = grad;
    if (v.states == 1)
      kept_A += grad_A;
    else
      accumulate(grads.A, n, grad_A);
    add_coefficient(grads.B, grads.B_part, v.B_varies, n, pixel, sums);
  }

  // The direct contributions to the gradient of a state: from its readout, and from the
  // incoming gradient of the states if the op returns them.
  __device__ __forceinline__ void read_incoming(W (&incoming)[kSteps<W>], int n,
                                                const Pixel& pixel) {
    if (v.gives_states)
      read_wide<W>(incoming, place.of<W>(grads.h, group) + n * grads.h.state, stride(grads.h),
                   pixel, count);
    if (v.reads_out) {
      W C[kSteps<W>];
      read_wide<T>(C, place.of<T>(v.C, group) + n * v.C.state, stride(v.C), pixel, count);
#pragma unroll
      for (int i = 0; i < kSteps<W>; ++i)
        incoming[i] = C[i] * grad_y[i] + (v.gives_states ? incoming[i] : W(0));
    }
  }

  // Exchanges summaries between pieces. On entry, `h` and `grad` are the summaries of
  // this piece (from 0 at its start and end); on return, the actual values that enter it.
  __device__ __forceinline__ void exchange(int n, W decay, W& h, W& grad, int parity) {
    const int lanes = extra.plan.lanes, pieces = extra.plan.pieces;
    W* const summary = summaries + turn * pieces * 3 * lanes + place.lane;
    turn ^= 1;
    W* const mine = summary + 3 * place.piece * lanes;
    mine[0] = decay;
    mine[lanes] = h;
    mine[2 * lanes] = grad;
    __syncthreads();
    grad = *carried(parity, n);
    for (int c = pieces - 1; c > place.piece; --c)
      grad = summary[3 * c * lanes] * grad + summary[(3 * c + 2) * lanes];
    constexpr int kPieces = kChunk / kSteps<W>;
    const int kept = (tile + place.piece * kSteps<W>) / kChunk;
    h = count > 0
            ? static_cast<const W*>(
                  grads.checkpoints)[place.entry(v, group, place.batch * v.chunks() + kept, n)]
            : W(0);
    for (int c = place.piece / kPieces * kPieces; c < place.piece; ++c)
      h = summary[3 * c * lanes] * h + summary[(3 * c + 1) * lanes];
  }

  __device__ __forceinline__ W decay_through(const W (&decay)[kSteps<W>],
                                             const W (&incoming)[kSteps<W>], W grad) const {
#pragma unroll
    for (int i = kSteps<W> - 1; i >= 0; --i) grad = decay[i] * (incoming[i] + grad);
    return grad;
  }

  __device__ __forceinline__ void add_readout(int n, const Pixel& pixel,
                                              const W (&before)[kSteps<W>], W last) {
    W C[kSteps<W>];
    read_wide<T>(C, place.of<T>(v.C, group) + n * v.C.state, stride(v.C), pixel, count);
#pragma unroll
    for (int i = 0; i < kSteps<W>; ++i) y[i] += C[i] * (i + 1 < kSteps<W> ? before[i + 1] : last);
  }

  // The gradient of B or C for one state: a sum over channels if the coefficient varies,
  // otherwise over time.
  __device__ __forceinline__ void add_coefficient(const Strided& to, int64_t block_part,
                                                  bool varies, int n, const Pixel& pixel,
                                                  W (&terms)[kSteps<W>]) const {
    if (varies) {
      const int lanes = extra.plan.lanes, step = sum_of(place.lane, lanes, kSteps<W>);
      const W sum = lane_sum(terms, place.lane, lanes);
      if (place.lane % (lanes / kSteps<W>) == 0 && step < place.steps(tile, kSteps<W>))
        static_cast<W*>(
            to.data)[place.block * block_part + place.batch * to.batch + group * to.group +
                     n * to.state + static_cast<int64_t>(pixel.after(step)) * to.column] = sum;
    } else {
      W sum = 0;
#pragma unroll
      for (int i = 0; i < kSteps<W>; ++i) sum += terms[i];
      accumulate(to.data, n, sum);
    }
  }

  // Adds to the part of this thread in a (parts, states, all channels) tensor.
  __device__ __forceinline__ void accumulate(void* tensor, int n, W x) const {
    if (!place.active) return;
    W* const at = static_cast<W*>(tensor) + place.entry(v, group, part(), n);
    *at = at_last_tile() ? x : *at + x;
  }
  __device__ __forceinline__ bool at_last_tile() const {
    return tile + extra.plan.tile() >= place.end;
  }

  // Turns the gradients of drive and step into those of u and delta, in place. Reading
  // u and delta again is cheaper than keeping them in registers during the loop over
  // the states.
  __device__ __forceinline__ void finish_inputs(const Pixel& pixel, W& grad_D, W& grad_bias) {
    const W bias = parameter<W>(v.delta_bias, place.row(v, group));
    const W D = parameter<W>(v.D, place.row(v, group));
    W u[kSteps<W>], before[kSteps<W>];
    read_wide<T>(u, place.of<T>(v.u, group), stride(v.u), pixel, count);
    read_wide<T>(before, place.of<T>(v.delta, group), stride(v.delta), pixel, count);
#pragma unroll
    for (int i = 0; i < kSteps<W>; ++i) {
      grad_step[i] += u[i] * grad_drive[i];
      if (v.delta_softplus) grad_step[i] *= sigmoid(before[i] + bias);
      grad_drive[i] = step[i] * grad_drive[i] + D * grad_y[i];
      grad_D += u[i] * grad_y[i];
      if (i < count) grad_bias += grad_step[i];
    }
  }

  // The gradient of the state at the end of the segment.
  __device__ __forceinline__ W entering(int n) const {
    const int last = extra.plan.segments - 1;
    W grad = 0;
    if (grads.last_state && place.segment == last)
      grad = static_cast<const W*>(
          grads.last_state)[(place.batch * v.all_channels() + place.row(v, group)) * v.states + n];
    if (extra.finds_segments) return grad;
    for (int s = last; s > place.segment; --s)
      grad = through_segment(v, extra, place, group, s, n, rate(n), grad);
    return grad;
  }

  __device__ __forceinline__ void finish(W grad_D, W grad_bias, int parity) {
    if (extra.finds_segments)
      return leave_segment(v, extra, place, group, carried(parity, 0), summaries, all_steps);
    if (!place.active) return;
    const int64_t at = static_cast<int64_t>(part()) * v.all_channels() + place.row(v, group);
    if (v.D) static_cast<W*>(grads.D)[at] = grad_D;
    if (v.delta_bias) static_cast<W*>(grads.delta_bias)[at] = grad_bias;
    if (v.states == 1) static_cast<W*>(grads.A)[place.entry(v, group, part(), 0)] = kept_A;
  }
};

// Blocks per multiprocessor that fit without register spills. On sm_80 a second block
// is 3 registers short.
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
  using W = Wide<T>;
  const ScanPlan& plan = extra.plan;
  const Place place(v, plan);
  W* const carry = shared_memory<W>();
  W* const summaries = carry + 2 * v.states * plan.lanes;
  W* const sums = summaries + 6 * plan.threads();
  for (int walk = 0; walk < plan.sharing; ++walk) {
    const int group = place.set * plan.sharing + walk;
    BackwardWalk<T, gated>{v, grads, extra, place, group, carry, summaries}.run(
        walk == 0, walk == plan.sharing - 1, sums);
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
