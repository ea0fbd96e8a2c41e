// SPDX-License-Identifier: Apache-2.0
// CUDA kernel of the forward pass of a scan.
#pragma once

#include "scan_parts.cuh"

namespace mmadaptor::cuda {

// The walk of a thread over one path. In each tile, every thread first scans its piece
// starting from a state of 0 and publishes a summary. It then applies the summaries of
// the preceding pieces to the state at the start of the tile, and scans its piece again
// from the actual state.
template <typename T>
struct ForwardWalk {
  using W = Wide<T>;
  const ScanView& v;
  const ScanResults& out;
  const ScanExtra& extra;
  const Place& place;
  const int group;
  W* const carry;      // [2][states][lanes]: the state before this tile and the next
  W* const summaries;  // [2][pieces][2][lanes]
  int turn = 0;        // current buffer of `summaries` (0 or 1)

  // Of the current tile.
  W step[kSteps<W>], drive[kSteps<W>], y[kSteps<W>], steps_sum = 0;
  int count = 0;

  __device__ __forceinline__ W rate(int n) const {
    return rate_of(static_cast<const W*>(v.A)[place.row(v, group) * v.states + n]);
  }
  __device__ __forceinline__ W* carried(int parity, int n) const {
    return carry + (parity * v.states + n) * extra.plan.lanes + place.lane;
  }

  __device__ void run(bool first, bool last, W* sums) {
    const ScanPlan& plan = extra.plan;
    Route route(v, group, plan.tile(), place.start + place.piece * kSteps<W>);
    const T *u = place.of<T>(v.u, group), *delta = place.of<T>(v.delta, group);
    const Sum<T> sum(place, extra, out.y, group, sums);
    const W bias = parameter<W>(v.delta_bias, place.row(v, group));
    const W D = parameter<W>(v.D, place.row(v, group));
    for (int n = place.piece; n < v.states; n += plan.pieces) *carried(0, n) = entering(n);
    T next_u[kSteps<W>], next_delta[kSteps<W>];
    W all_steps = 0;
    int next_count = place.active ? place.steps(place.start, kSteps<W>) : 0, parity = 0;
    read(next_u, u, stride(v.u), route.pixel(), next_count);
    read(next_delta, delta, stride(v.delta), route.pixel(), next_count);
    for (int tile = place.start; tile < place.end; tile += plan.tile()) {
      count = next_count;
      prepare(next_u, next_delta, bias, D);
      all_steps += steps_sum;
      const Pixel pixel = route.pixel();
      route.next_tile();
      next_count = place.active ? place.steps(tile + plan.tile(), kSteps<W>) : 0;
      read(next_u, u, stride(v.u), route.pixel(), next_count);
      read(next_delta, delta, stride(v.delta), route.pixel(), next_count);
      for (int n = 0; n < v.states; ++n) state(n, tile, anew(pixel), parity);
      parity ^= 1;
      if (v.reads_out && !extra.finds_segments) {
        gate(pixel);
        sum.add(y, pixel, count, first, last);
      }
    }
    __syncthreads();
    finish(parity, all_steps);
  }

  __device__ __forceinline__ void prepare(const T (&raw_u)[kSteps<W>],
                                          const T (&raw_delta)[kSteps<W>], W bias, W D) {
    steps_sum = 0;
#pragma unroll
    for (int i = 0; i < kSteps<W>; ++i) {
      const W x = widen(raw_u[i]), before = widen(raw_delta[i]) + bias;
      step[i] = i < count ? (v.delta_softplus ? softplus(before) : before) : W(0);
      drive[i] = step[i] * x;
      y[i] = D * x;
      steps_sum += step[i];
    }
  }

  __device__ __forceinline__ void state(int n, int tile, const Pixel& pixel, int parity) {
    const int lanes = extra.plan.lanes, pieces = extra.plan.pieces;
    const W rate = this->rate(n);
    W decay[kSteps<W>], input[kSteps<W>], h = 0;
    read_wide<T>(input, place.of<T>(v.B, group) + n * v.B.state, stride(v.B), pixel, count);
#pragma unroll
    for (int i = 0; i < kSteps<W>; ++i) {
      decay[i] = exp2_of(step[i] * rate);
      input[i] *= drive[i];
      h = decay[i] * h + input[i];
    }
    W* const summary = summaries + turn * pieces * 2 * lanes + place.lane;
    turn ^= 1;
    summary[(2 * place.piece) * lanes] = exp2_of(steps_sum * rate);
    summary[(2 * place.piece + 1) * lanes] = h;
    __syncthreads();
    h = *carried(parity, n);
    for (int c = 0; c < place.piece; ++c)
      h = summary[2 * c * lanes] * h + summary[(2 * c + 1) * lanes];
    const int first = tile + place.piece * kSteps<W>;
    if (count > 0 && first % kChunk == 0 && !extra.finds_segments)
      static_cast<W*>(
          out.checkpoints)[place.entry(v, group, place.batch * v.chunks() + first / kChunk, n)] = h;
#pragma unroll
    for (int i = 0; i < kSteps<W>; ++i) input[i] = h = decay[i] * h + input[i];
    if (place.piece == pieces - 1) *carried(parity ^ 1, n) = h;
    if (extra.finds_segments) return;
    if (v.gives_states)
      write<W>(place.of<W>(out.h, group) + n * out.h.state, stride(out.h), input, pixel, count);
    if (v.reads_out) {
      W C[kSteps<W>];
      read_wide<T>(C, place.of<T>(v.C, group) + n * v.C.state, stride(v.C), pixel, count);
#pragma unroll
      for (int i = 0; i < kSteps<W>; ++i) y[i] += C[i] * input[i];
    }
  }

  __device__ __forceinline__ void gate(const Pixel& pixel) {
    if (!v.z.data) return;
    W z[kSteps<W>];
    read_wide<T>(z, place.of<T>(v.z, group), stride(v.z), pixel, count);
#pragma unroll
    for (int i = 0; i < kSteps<W>; ++i) y[i] *= z[i] * sigmoid(z[i]);
  }

  // The state before the segment, from the summaries of all preceding segments.
  __device__ __forceinline__ W entering(int n) const {
    W h = 0;
    for (int s = 0; s < place.segment && !extra.finds_segments; ++s)
      h = through_segment(v, extra, place, group, s, n, rate(n), h);
    return h;
  }

  // Writes the result after the last tile: the summary of the segment or the last state.
  __device__ __forceinline__ void finish(int parity, W all_steps) {
    if (extra.finds_segments) {
      leave_segment(v, extra, place, group, carried(parity, 0), summaries, all_steps);
    } else if (out.last_state && place.end == v.length() && place.active) {
      const int64_t row = place.batch * v.all_channels() + place.row(v, group);
      for (int n = place.piece; n < v.states; n += extra.plan.pieces)
        static_cast<W*>(out.last_state)[row * v.states + n] = *carried(parity, n);
    }
  }
};

template <typename T>
__global__ void __launch_bounds__(most_threads(sizeof(Wide<T>), false))
    scan_kernel(const ScanView v, const ScanResults out, const ScanExtra extra) {
  using W = Wide<T>;
  const ScanPlan& plan = extra.plan;
  const Place place(v, plan);
  W* const carry = shared_memory<W>();
  W* const summaries = carry + 2 * v.states * plan.lanes;
  W* const sums = summaries + 6 * plan.threads();
  for (int walk = 0; walk < plan.sharing; ++walk) {
    ForwardWalk<T>{v, out, extra, place, place.set * plan.sharing + walk, carry, summaries}.run(
        walk == 0, walk == plan.sharing - 1, sums);
    __syncthreads();
  }
}

template <typename T>
void launch_scan(const T*, const ScanView& v, const ScanResults& out, const ScanExtra& extra,
                 const Target& target) {
  launch_segments(scan_kernel<T>, sizeof(Wide<T>), v, out, extra, target);
}

}  // namespace mmadaptor::cuda
