// SPDX-License-Identifier: Apache-2.0
// The backward pass of a scan over the channels of one task. Chunks are processed from
// last to first: each is recomputed from its checkpoint, then differentiated.
#pragma once

#include "scan_parts.h"

namespace mmadaptor::MMADAPTOR_ISA {

template <typename T>
struct BackwardScratch {
  BackwardScratch(int64_t states, int vectors)
      : A(vectors * states),
        rate(vectors * states),
        carry(vectors * states),
        grad_A(vectors * states),
        grad_B(vectors * states),
        grad_C(vectors * states),
        grad_D(vectors),
        grad_bias(vectors),
        B(states),
        C(states),
        B_sums(kSums * states),
        C_sums(kSums * states) {}
  static constexpr int kSums = kChunk / Simd<T>::width;
  Vectors<T> A, rate, carry;  // rate = A log2(e)
  LongSums<T> grad_A, grad_B, grad_C, grad_D, grad_bias;
  Coefficients<T> B, C;
  Vectors<T> B_sums, C_sums;  // gradients of the rows of B and C, if these vary
  Input<T> in;
  // Of the current states. `decay`: the part of Factor during recomputation, then the
  // gradient of the state. `h`: the states; index 0 is the state before the chunk.
  Tile<T> decay[kTogether], h[kTogether];
  Tile<T> grad_states[kTogether];
  Tile<T> grad_y, grad_drive, grad_step;
  Tile<T> y, z, gate_slope;
  Tile<T> B_tile[kTogether], C_tile[kTogether];
  Tile<T> zeros{};
};

template <typename T, bool shared, bool reads_out, bool gives_states>
struct BackwardWalk {
  enum { kU, kDelta, kZ, kB, kC, kY, kH, kGradU, kGradDelta, kGradZ, kGradB, kGradC, kTensors };
  const Scan& scan;
  const ScanGradients& grads;
  const Block& block;
  const bool first;  // whether this is the first of the walks that share u and y
  BackwardScratch<T>& s;
  int steps = 0;  // of the current chunk
  static constexpr auto wide = torch::headeronly::CppTypeToScalarType<T>::value;

  void run() {
    const Strided* const tensors[kTensors] = {&scan.u,      &scan.delta, &scan.z,  &scan.B,
                                              &scan.C,      &grads.y,    &grads.h, &grads.u,
                                              &grads.delta, &grads.z,    &grads.B, &grads.C};
    Route<kTensors> route(scan, block.group, tensors, true);
    for (int v = 0; v < block.vectors<T>(); ++v) start(lanes_of<T>(scan, block, v), v);
    for (int64_t chunk = scan.chunks() - 1; chunk >= 0; --chunk) {
      route.enter(chunk);
      steps = route.steps();
      const bool at_first = chunk == scan.chunks() - 1;
      if (scan.B_varies || at_first) s.B.read(scan.B, scan.B_varies, block, route.now(kB), steps);
      if (reads_out && (scan.C_varies || at_first))
        s.C.read(scan.C, scan.C_varies, block, route.now(kC), steps);
      for (int64_t i = 0; i < BackwardScratch<T>::kSums * scan.states; ++i) {
        s.B_sums.set(i, Vec<T>{});
        s.C_sums.set(i, Vec<T>{});
      }
      for (int v = 0; v < block.vectors<T>(); ++v)
        tile(lanes_of<T>(scan, block, v), v, chunk, route);
      if (scan.B_varies) write_sums(s.B_sums, grads.B, grads.B_part, route.now(kGradB));
      if (reads_out && scan.C_varies)
        write_sums(s.C_sums, grads.C, grads.C_part, route.now(kGradC));
    }
    for (int v = 0; v < block.vectors<T>(); ++v) finish(lanes_of<T>(scan, block, v), v);
  }

  void start(const Lanes& lanes, int v) {
    read_states(s.A, v, scan.A, lanes, scan.states);
    for (int64_t n = v * scan.states; n < (v + 1) * scan.states; ++n) {
      s.rate.set(n, rate_of<T>(s.A[n]));
      for (auto* sums : {&s.grad_A, &s.grad_B, &s.grad_C}) sums->clear(n);
    }
    s.grad_D.clear(v);
    s.grad_bias.clear(v);
    if (grads.last_state)
      read_states(
          s.carry, v,
          static_cast<const T*>(grads.last_state) + block.batch * scan.all_channels() * scan.states,
          lanes, scan.states);
    else
      set_states(s.carry, v, scan.states, Vec<T>{});
  }

  void finish(const Lanes& lanes, int v) {
    const int64_t row = block.batch * scan.all_channels(), states = scan.states;
    const auto write_totals = [&](LongSums<T>& sums, void* to) {
      write_states(sums.totals(v * states, states), v, static_cast<T*>(to) + row * states, lanes,
                   states);
    };
    write_totals(s.grad_A, grads.A);
    if (!scan.B_varies) write_totals(s.grad_B, grads.B.data);
    if (reads_out && !scan.C_varies) write_totals(s.grad_C, grads.C.data);
    const auto write_total = [&](LongSums<T>& sums, void* to) {
      store_as<T>(static_cast<T*>(to) + row + lanes.row, sums.total(v), lanes.count);
    };
    if (scan.D) write_total(s.grad_D, grads.D);
    if (scan.delta_bias) write_total(s.grad_bias, grads.delta_bias);
  }

  void write_sums(Vectors<T>& sums, const Strided& to, int64_t part, const Offsets& places) {
    T* data = static_cast<T*>(to.data) + block.index * part + block.batch * to.batch +
              block.group * to.group;
    const T* rows = sums.at(0);
    if (places.consecutive) {
      for (int64_t n = 0; n < scan.states; ++n)
        std::copy_n(rows + n * kChunk, steps, data + n * to.state + places.at[0]);
    } else {
      for (int64_t t = 0; t < steps; ++t)
        for (int64_t n = 0; n < scan.states; ++n)
          data[places.at[t] + n * to.state] = rows[n * kChunk + t];
    }
  }

  void tile(const Lanes& lanes, int v, int64_t chunk, const Route<kTensors>& route) {
    const auto now = [&](const Strided& tensor, int which, ScalarType dtype) {
      return window(tensor, dtype, lanes, route.now(which), steps);
    };
    const auto next = [&](const Strided& tensor, int which) {
      return window(tensor, scan.dtype, lanes, route.next(which), 0);
    };
    read(s.in.u, scan.dtype, now(scan.u, kU, scan.dtype));
    read(s.in.step, scan.dtype, now(scan.delta, kDelta, scan.dtype));
    if constexpr (reads_out) read(s.grad_y, scan.dtype, now(grads.y, kY, scan.dtype));
    const Window grad_u = now(grads.u, kGradU, scan.sum_dtype);
    const Window grad_delta = now(grads.delta, kGradDelta, scan.dtype);
    const Window next_u = next(scan.u, kU), next_delta = next(scan.delta, kDelta);
    Window next_y{};
    if constexpr (reads_out) next_y = next(grads.y, kY);
    prepare_input<T, true>(scan, lanes, steps, s.in, [&](int64_t t) MMADAPTOR_INLINED {
      next_u.template fetch<0>(t);
      next_delta.template fetch<0>(t);
      if constexpr (reads_out) next_y.template fetch<0>(t);
      grad_u.template fetch<1>(t);
      grad_delta.template fetch<1>(t);
    });
    const Vec<T> D = parameter<T>(scan.D, lanes);
    if (scan.z.data) open_gate(now(scan.z, kZ, scan.dtype), D);
    // A NaN may be an inf - inf of ours: then all states are done carefully. What the first
    // `done` of them have added to the sums over time and over channels stays.
    bool careful = false;
    for (int64_t n = 0, done = 0; n < scan.states;) {
      const bool pair = n + kTogether <= scan.states;
      if (pair ? states<kTogether>(lanes, v, chunk, n, route, careful, n >= done)
               : states<1>(lanes, v, chunk, n, route, careful, n >= done)) {
        n += pair ? kTogether : 1;
      } else {
        done = n;
        n = 0;
        careful = true;
        if (scan.z.data) start_readout(D);
      }
    }
    finish_inputs(v, D);
    write(s.grad_step, scan.dtype, grad_delta);
    if (first)
      write(s.grad_drive, scan.sum_dtype, grad_u);
    else
      add(s.grad_drive, grad_u);
    if (scan.z.data) close_gate(now(grads.z, kGradZ, scan.dtype));
  }

  // Propagates the incoming gradient through the gate y silu(z).
  void open_gate(const Window& z_window, Vec<T> D) {
    read(s.z, scan.dtype, z_window);
    for (int64_t t = 0; t < steps; ++t) {
      const Vec<T> z = s.z[t], on = sigmoid<T>(z);
      s.gate_slope.set(t, s.grad_y[t] * on * (z * (T(1) - on) + T(1)));
      s.grad_y.set(t, s.grad_y[t] * (z * on));
    }
    start_readout(D);
  }

  void start_readout(Vec<T> D) {
    // Without D: not 0 u, which is NaN for an infinite u.
    for (int64_t t = 0; t < steps; ++t) s.y.set(t, scan.D ? D * s.in.u[t] : Vec<T>{});
  }

  void close_gate(const Window& grad_z) {
    for (int64_t t = 0; t < steps; ++t) s.z.set(t, s.gate_slope[t] * s.y[t]);
    write(s.z, scan.dtype, grad_z);
  }

  // Adds to the sums over time and over channels if `adds`. Returns false, and adds
  // nothing, if a state or its gradient becomes NaN, unless the decays were computed
  // carefully.
  template <int count>
  MMADAPTOR_INLINE bool states(const Lanes& lanes, int v, int64_t chunk, int64_t n,
                               const Route<kTensors>& route, bool careful, bool adds) {
    if constexpr (gives_states)
      for (int k = 0; k < count; ++k)
        read(s.grad_states[k], wide, window(grads.h, wide, lanes, route.now(kH), steps, n + k));
    for (int k = 0; k < count; ++k)
      s.h[k].set(
          0, load_as<T>(checkpoint<T>(grads.checkpoints, scan, lanes, chunk, n + k), lanes.count));
    const int64_t i = v * scan.states + n;
    bool valid = true;
    with_decay<T>(decay_of<T, count>(s.rate, i, s.in, careful), [&](auto decay) MMADAPTOR_INLINED {
      forth<count, decay()>(v, n, i);
      valid = back<count, decay()>(v, n, i, adds);
    });
    if (!valid) return false;
    if (reads_out && scan.z.data) read_out<count>(v, n);
    if (adds)
      for (int k = 0; k < count; ++k) add_coefficients(n + k, i + k, s.decay[k], s.h[k]);
    return true;
  }

  template <int count, Decay decay>
  MMADAPTOR_INLINE void forth(int v, int64_t n, int64_t i) {
    // Local copies: the compiler must assume that a store to a tile may alias members.
    auto& s = this->s;
    const int64_t steps = this->steps;
    const auto B = rows<count, shared>(s.B, s.B_tile, v, n);
    Vec<T> rate[count], h[count];
    for (int k = 0; k < count; ++k) {
      rate[k] = s.rate[i + k];
      h[k] = s.h[k][0];
    }
    for (int64_t t = 0; t < steps; ++t) {
      const Vec<T> step = s.in.step[t], drive = s.in.drive[t];
#pragma GCC unroll 4
      for (int k = 0; k < count; ++k) {
        const Factor<T, decay> factor(step * rate[k]);
        h[k] = multiply_add<T>(drive, B.of[k][t], factor.times(h[k]));
        s.decay[k].set(t, factor.part);
        s.h[k].set(t + 1, h[k]);
      }
    }
  }

  template <int count>
  MMADAPTOR_INLINE void read_out(int v, int64_t n) {
    const auto C = rows<count, shared>(s.C, s.C_tile, v, n);
    for (int64_t t = 0; t < steps; ++t)
      for (int k = 0; k < count; ++k) s.y.set(t, s.y[t] + C.of[k][t] * s.h[k][t + 1]);
  }

  template <int count, Decay decay>
  MMADAPTOR_INLINE bool back(int v, int64_t n, int64_t i, bool adds) {
    auto& s = this->s;
    const int64_t steps = this->steps;
    const auto B = rows<count, shared>(s.B, s.B_tile, v, n);
    decltype(rows<count, shared>(s.C, s.C_tile, v, n)) C{};
    if constexpr (reads_out) C = rows<count, shared>(s.C, s.C_tile, v, n);
    const Tile<T>& drive_before = n == 0 ? s.zeros : s.grad_drive;
    const Tile<T>& step_before = n == 0 ? s.zeros : s.grad_step;
    // grad_before is the gradient of the state before step t, from step t and later ones.
    Vec<T> A[count], rate[count], grad_before[count], grad_A[count];
    for (int k = 0; k < count; ++k) {
      A[k] = s.A[i + k];
      rate[k] = s.rate[i + k];
      grad_before[k] = s.carry[i + k];
      grad_A[k] = Vec<T>{};
    }
    for (int64_t t = steps - 1; t >= 0; --t) {
      const Vec<T> step = s.in.step[t];
      Vec<T> grad_drive = drive_before[t], grad_step = step_before[t];
#pragma GCC unroll 4
      for (int k = 0; k < count; ++k) {
        Vec<T> grad_h = grad_before[k];
        if constexpr (gives_states) grad_h += s.grad_states[k][t];
        if constexpr (reads_out) grad_h = multiply_add<T>(C.of[k][t], s.grad_y[t], grad_h);
        const Factor<T, decay> factor(step * rate[k], s.decay[k][t]);
        grad_before[k] = factor.times(grad_h);
        s.decay[k].set(t, grad_h);
        grad_drive += grad_h * B.of[k][t];
        const Vec<T> grad_exponent = grad_before[k] * s.h[k][t];
        grad_A[k] += grad_exponent * step;
        grad_step += grad_exponent * A[k];
      }
      s.grad_drive.set(t, grad_drive);
      s.grad_step.set(t, grad_step);
    }
    bool valid = true;
    if constexpr (std::is_same_v<T, float> && decay != Decay::careful)
      for (int k = 0; k < count; ++k)
        valid &= !any_nan<T>(grad_before[k]) && !any_nan<T>(s.h[k][steps]);
    if (adds && valid)
      for (int k = 0; k < count; ++k) {
        s.carry.set(i + k, grad_before[k]);
        s.grad_A.add(i + k, grad_A[k]);
      }
    return valid;
  }

  // The gradients of B and C for one state: sums over channels if the coefficient
  // varies, otherwise over time.
  void add_coefficients(int64_t n, int64_t i, const Tile<T>& grad_h, const Tile<T>& h) {
    const Tile<T>& drive = s.in.drive;
    if (scan.B_varies)
      add_lane_sums(grad_h.values, drive.values, steps, s.B_sums.at(0) + n * kChunk);
    else
      add_time_sums(grad_h.values, drive.values, s.grad_B, i);
    if constexpr (reads_out) {
      const T* after = h.values + Tile<T>::width;
      if (scan.C_varies)
        add_lane_sums(after, s.grad_y.values, steps, s.C_sums.at(0) + n * kChunk);
      else
        add_time_sums(after, s.grad_y.values, s.grad_C, i);
    }
  }

  void add_time_sums(const T* a, const T* b, LongSums<T>& sums, int64_t i) {
    ChunkSum<T> sum;
    for (int64_t t = 0; t < steps; ++t)
      sum.add(t, load(a + t * Tile<T>::width) * load(b + t * Tile<T>::width));
    sums.add(i, sum.total());
  }

  // Turns the gradients of drive and step into those of u and delta, in place.
  void finish_inputs(int v, Vec<T> D) {
    auto& s = this->s;
    const int64_t steps = this->steps;
    const bool has_D = scan.D;
    ChunkSum<T> grad_D, grad_bias;
    for (int64_t t = 0; t < steps; ++t) {
      const Vec<T> u = s.in.u[t], grad_drive = s.grad_drive[t];
      Vec<T> grad_u = s.in.step[t] * grad_drive;
      if (reads_out && has_D) {
        grad_u += D * s.grad_y[t];
        grad_D.add(t, u * s.grad_y[t]);
      }
      const Vec<T> grad_delta = (s.grad_step[t] + u * grad_drive) * s.in.slope[t];
      grad_bias.add(t, grad_delta);
      s.grad_drive.set(t, grad_u);
      s.grad_step.set(t, grad_delta);
    }
    s.grad_D.add(v, grad_D.total());
    s.grad_bias.add(v, grad_bias.total());
  }
};

}  // namespace mmadaptor::MMADAPTOR_ISA
