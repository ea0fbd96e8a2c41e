// SPDX-License-Identifier: Apache-2.0
// Argument checks and result allocation of the selective scan, for all devices.
#pragma once

#include <tuple>

#include "checks.h"
#include "scan_view.h"

namespace mmadaptor {

// The arguments of selective_scan. selective_scan_states has only u, delta, A, B and
// delta_bias.
struct ScanArguments {
  const Tensor &u, &delta, &A, &B;
  const OptionalTensor &C, &D, &z, &delta_bias;

  bool B_varies() const { return B.dim() > 2; }
  bool C_varies() const { return is_present(C) && C->dim() > 2; }
  int64_t batch() const { return u.size(0); }
  int64_t channels() const { return u.size(1); }
  int64_t length() const { return u.size(2); }
  int64_t states() const { return A.size(1); }
  ScalarType wide() const { return accumulate_type(dtype_of(u)); }

  // (batch, chunks, states, channels), flattened to two dimensions: with a separate
  // dimension of chunks, torch.compile would check whether it is 1, and specialize.
  Sizes checkpoints() const {
    return {batch(), divide_up(length(), kChunk) * states() * channels()};
  }

  int64_t groups() const {
    if (B.dim() == 4) return B.size(1);
    if (is_present(C) && C->dim() == 4) return C->size(1);
    return 1;
  }
};

inline void check_coefficients(const Check& check, const char* name, const Tensor& t,
                               const ScanArguments& a) {
  check.dtype(name, t, dtype_of(a.u));
  if (t.dim() == 2)
    check.shape(name, t, {a.channels(), a.states()});
  else if (t.dim() == 3)
    check.shape(name, t, {a.batch(), a.states(), a.length()});
  else
    check.shape(name, t, {a.batch(), a.groups(), a.states(), a.length()});
}

inline Check check_scan(const char* op, const ScanArguments& a) {
  const Check check(op, "u", a.u);
  check.floating("u", a.u);
  check.rank("u", a.u, 3);
  check.only_batch_empty("u", a.u);
  check.dtype("delta", a.delta, dtype_of(a.u));
  check.shape("delta", a.delta, sizes_of(a.u));
  check.dtype("A", a.A, a.wide());
  check.rank("A", a.A, 2);
  check.only_batch_empty("A", a.A);
  check.shape("A", a.A, {a.channels(), a.states()});
  check_coefficients(check, "B", a.B, a);
  if (a.C.has_value()) check_coefficients(check, "C", *a.C, a);
  require(a.groups() > 0 && a.channels() % a.groups() == 0, op,
          ": the groups of `B` and `C` must divide the channels of `u`");
  if (a.B_varies() && a.C_varies())
    require(a.groups() == (a.C->dim() == 4 ? a.C->size(1) : 1) &&
                a.groups() == (a.B.dim() == 4 ? a.B.size(1) : 1),
            op, ": `B` and `C` must have the same groups");
  const auto parameter = [&](const char* name, const OptionalTensor& t) {
    if (!is_present(t)) return;
    check.dtype(name, *t, a.wide());
    check.shape(name, *t, {a.channels()});
  };
  parameter("D", a.D);
  parameter("delta_bias", a.delta_bias);
  if (is_present(a.z)) {
    check.dtype("z", *a.z, dtype_of(a.u));
    check.shape("z", *a.z, sizes_of(a.u));
  }
  return check;
}

inline void check_checkpoints(const Check& check, const ScanArguments& a, const Tensor& t) {
  check.dtype("checkpoints", t, a.wide());
  check.shape("checkpoints", t, a.checkpoints());
}

inline void check_scan_gradient(const char* op, const ScanArguments& a, const Tensor& grad_y,
                                const OptionalTensor& grad_last_state, const Tensor& checkpoints) {
  const Check check = check_scan(op, a);
  check.dtype("grad_y", grad_y, dtype_of(a.u));
  check.shape("grad_y", grad_y, sizes_of(a.u));
  if (is_present(grad_last_state)) {
    check.dtype("grad_last_state", *grad_last_state, a.wide());
    check.shape("grad_last_state", *grad_last_state, {a.batch(), a.channels(), a.states()});
  }
  check_checkpoints(check, a, checkpoints);
}

inline void check_states_gradient(const char* op, const ScanArguments& a, const Tensor& grad_states,
                                  const Tensor& checkpoints) {
  const Check check = check_scan(op, a);
  check.dtype("grad_states", grad_states, a.wide());
  check.shape("grad_states", grad_states, {a.batch(), a.channels(), a.states(), a.length()});
  check_checkpoints(check, a, checkpoints);
}

inline Tensor empty_checkpoints(const ScanArguments& a) {
  return empty_tensor(a.checkpoints(), a.wide(), a.u);
}

// y, the last state and the checkpoints.
inline std::tuple<Tensor, Tensor, Tensor> empty_scan_results(const ScanArguments& a) {
  return {empty_in_order_of(a.u),
          empty_tensor({a.batch(), a.channels(), a.states()}, a.wide(), a.u), empty_checkpoints(a)};
}

// All states, (batch, channels, states, length), and the checkpoints. If the channels of u
// are contiguous in memory, so are those of the states.
inline std::tuple<Tensor, Tensor> empty_states_results(const ScanArguments& a) {
  const bool channels_last = a.u.stride(1) == 1 && a.u.stride(2) != 1;
  auto states =
      channels_last
          ? torch::stable::transpose(
                empty_tensor({a.batch(), a.length(), a.states(), a.channels()}, a.wide(), a.u), 1,
                3)
          : empty_tensor({a.batch(), a.channels(), a.states(), a.length()}, a.wide(), a.u);
  return {states, empty_checkpoints(a)};
}

// Gradients of u, delta, A, B, C, D, z and delta_bias, in the dtype of each argument. The
// gradient of an omitted argument is an empty tensor.
using ScanGradientTuple =
    std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

inline ScanGradientTuple empty_scan_gradients(const ScanArguments& a) {
  const auto like = [&](const OptionalTensor& t) {
    return is_present(t) ? empty_contiguous(*t) : empty_tensor({0}, dtype_of(a.u), a.u);
  };
  return {empty_in_order_of(a.u),
          empty_in_order_of(a.delta),
          empty_contiguous(a.A),
          empty_contiguous(a.B),
          like(a.C),
          like(a.D),
          is_present(a.z) ? empty_in_order_of(*a.z) : like(a.z),
          like(a.delta_bias)};
}

}  // namespace mmadaptor
