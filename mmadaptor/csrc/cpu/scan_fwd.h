// SPDX-License-Identifier: Apache-2.0
// The forward pass of a scan over the channels of one task.
#pragma once

#include "scan_parts.h"

namespace mmadaptor::MMADAPTOR_ISA {

template <typename T>
struct ForwardScratch {
  ForwardScratch(int64_t states, int vectors)
      : rate(vectors * states), h(vectors * states), B(states), C(states) {}
  Vectors<T> rate, h;  // rate = A log2(e)
  Coefficients<T> B, C;
  Input<T> in;
  Tile<T> y, z;
  Tile<T> states[kTogether];
  Tile<T> B_tile[kTogether], C_tile[kTogether];
  Tile<T> zeros{};
};

// Scans `count` states of one vector of channels over a chunk. The sum y is initialized
// to base * weight.
template <typename T, int count, Decay decay, bool shared, bool reads_out, bool gives_states>
MMADAPTOR_INLINE void walk_states(int vector, int64_t n, int64_t states, int steps,
                                  const Tile<T>& base, Vec<T> weight, ForwardScratch<T>& s) {
  const auto B = rows<count, shared>(s.B, s.B_tile, vector, n);
  decltype(rows<count, shared>(s.C, s.C_tile, vector, n)) C{};
  if constexpr (reads_out) C = rows<count, shared>(s.C, s.C_tile, vector, n);
  Vec<T> rate[count], h[count];
  for (int k = 0; k < count; ++k) {
    rate[k] = s.rate[vector * states + n + k];
    h[k] = s.h[vector * states + n + k];
  }
  for (int64_t t = 0; t < steps; ++t) {
    const Vec<T> step = s.in.step[t], drive = s.in.drive[t];
    Vec<T> y = {};
    if constexpr (reads_out) y = base[t] * weight;
#pragma GCC unroll 4
    for (int k = 0; k < count; ++k) {
      h[k] = multiply_add<T>(drive, B.of[k][t], Factor<T, decay>(step * rate[k]).times(h[k]));
      if constexpr (reads_out) y = multiply_add<T>(C.of[k][t], h[k], y);
      if constexpr (gives_states) s.states[k].set(t, h[k]);
    }
    if constexpr (reads_out) s.y.set(t, y);
  }
  for (int k = 0; k < count; ++k) s.h.set(vector * states + n + k, h[k]);
}

template <typename T, bool shared, bool reads_out, bool gives_states>
struct ForwardWalk {
  enum { kU, kDelta, kZ, kB, kC, kY, kH, kTensors };
  const Scan& scan;
  const ScanResults& out;
  const Block& block;
  const bool first;  // whether this is the first of the walks that share y
  ForwardScratch<T>& s;
  static constexpr auto wide = torch::headeronly::CppTypeToScalarType<T>::value;

  void run() {
    const Strided* const tensors[kTensors] = {&scan.u, &scan.delta, &scan.z, &scan.B,
                                              &scan.C, &out.y,      &out.h};
    Route<kTensors> route(scan, block.group, tensors, false);
    for (int v = 0; v < block.vectors<T>(); ++v) {
      read_states(s.rate, v, scan.A, lanes_of<T>(scan, block, v), scan.states);
      for (int64_t n = v * scan.states; n < (v + 1) * scan.states; ++n)
        s.rate.set(n, rate_of<T>(s.rate[n]));
      set_states(s.h, v, scan.states, Vec<T>{});
    }
    for (int64_t chunk = 0; chunk < scan.chunks(); ++chunk) {
      route.enter(chunk);
      if (scan.B_varies || chunk == 0)
        s.B.read(scan.B, scan.B_varies, block, route.now(kB), route.steps());
      if (reads_out && (scan.C_varies || chunk == 0))
        s.C.read(scan.C, scan.C_varies, block, route.now(kC), route.steps());
      for (int v = 0; v < block.vectors<T>(); ++v)
        tile(lanes_of<T>(scan, block, v), v, chunk, route);
    }
    if (out.last_state)
      for (int v = 0; v < block.vectors<T>(); ++v)
        write_states(
            s.h, v,
            static_cast<T*>(out.last_state) + block.batch * scan.all_channels() * scan.states,
            lanes_of<T>(scan, block, v), scan.states);
  }

  void tile(const Lanes& lanes, int v, int64_t chunk, const Route<kTensors>& route) {
    const int steps = route.steps();
    const Window y = window(out.y, scan.sum_dtype, lanes, route.now(kY), steps);
    read(s.in.u, scan.dtype, window(scan.u, scan.dtype, lanes, route.now(kU), steps));
    read(s.in.step, scan.dtype, window(scan.delta, scan.dtype, lanes, route.now(kDelta), steps));
    const Window next_u = window(scan.u, scan.dtype, lanes, route.next(kU), 0);
    const Window next_delta = window(scan.delta, scan.dtype, lanes, route.next(kDelta), 0);
    prepare_input<T, false>(scan, lanes, steps, s.in, [&](int64_t t) MMADAPTOR_INLINED {
      next_u.template fetch<0>(t);
      next_delta.template fetch<0>(t);
      if constexpr (reads_out) y.template fetch<1>(t);
    });
    const Vec<T> D = parameter<T>(scan.D, lanes);
    for (int64_t n = 0; n < scan.states; ++n)
      store_as<T>(checkpoint<T>(out.checkpoints, scan, lanes, chunk, n), s.h[v * scan.states + n],
                  lanes.count);
    if (!all_states(lanes, v, route, D, false)) {
      for (int64_t n = 0; n < scan.states; ++n)
        s.h.set(v * scan.states + n,
                load_as<T>(checkpoint<T>(out.checkpoints, scan, lanes, chunk, n), lanes.count));
      all_states(lanes, v, route, D, true);
    }
    if constexpr (reads_out) {
      gate(lanes, route);
      if (first)
        write(s.y, scan.sum_dtype, y);
      else
        add(s.y, y);
    }
  }

  // Returns false if a state becomes NaN, which may be an inf - inf of ours unless the
  // decays were computed carefully.
  bool all_states(const Lanes& lanes, int v, const Route<kTensors>& route, Vec<T> D, bool careful) {
    int64_t n = 0;
    for (; n + kTogether <= scan.states; n += kTogether)
      if (!states<kTogether>(lanes, v, n, route, D, careful)) return false;
    for (; n < scan.states; ++n)
      if (!states<1>(lanes, v, n, route, D, careful)) return false;
    return true;
  }

  template <int count>
  MMADAPTOR_INLINE bool states(const Lanes& lanes, int v, int64_t n, const Route<kTensors>& route,
                               Vec<T> D, bool careful) {
    const int64_t i = v * scan.states + n;
    const Decay way = decay_of<T, count>(s.rate, i, s.in, careful);
    // Without D the sum starts at 0 and not at 0 u, which is NaN for an infinite u.
    const Tile<T>& base = n > 0 ? s.y : scan.D ? s.in.u : s.zeros;
    with_decay<T>(way, [&](auto decay) MMADAPTOR_INLINED {
      walk_states<T, count, decay(), shared, reads_out, gives_states>(
          v, n, scan.states, route.steps(), base, n == 0 ? D : splat(T(1)), s);
    });
    if constexpr (gives_states)
      for (int k = 0; k < count; ++k)
        write(s.states[k], wide, window(out.h, wide, lanes, route.now(kH), route.steps(), n + k));
    bool valid = true;
    if constexpr (std::is_same_v<T, float>)
      for (int k = 0; k < count; ++k) valid &= !any_nan<T>(s.h[i + k]);
    return valid || way == Decay::careful;
  }

  void gate(const Lanes& lanes, const Route<kTensors>& route) {
    if (!scan.z.data) return;
    const int steps = route.steps();
    read(s.z, scan.dtype, window(scan.z, scan.dtype, lanes, route.now(kZ), steps));
    for (int64_t t = 0; t < steps; ++t) s.y.set(t, s.y[t] * (s.z[t] * sigmoid<T>(s.z[t])));
  }
};

}  // namespace mmadaptor::MMADAPTOR_ISA
