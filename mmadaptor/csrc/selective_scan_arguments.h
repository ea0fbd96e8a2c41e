// SPDX-License-Identifier: Apache-2.0
// Argument checks and result allocation of the selective scan. Shared by all devices and
// by torch.compile, which calls them with fake tensors.
#pragma once

#include <tuple>
#include <vector>

#include "checks.h"
#include "scan_layout.h"

namespace mmadaptor {

// The arguments of selective_scan. selective_scan_states has only u, delta, A, B and
// delta_bias.
struct ScanArguments {
  const Tensor &u, &delta, &A, &B;
  const OptionalTensor &C, &D, &z, &delta_bias;

  bool B_varies() const { return B.dim() > 2; }
  bool C_varies() const { return is_present(C) && C->dim() > 2; }
  c10::SymInt states() const { return A.sym_size(1); }

  // (batch, chunks, states, channels), flattened to two dimensions: with a separate
  // dimension of chunks, torch.compile would check whether it is 1, and specialize.
  std::vector<c10::SymInt> checkpoints() const {
    const auto chunks = (u.sym_size(2) + (kChunk - 1)) / kChunk;
    return {u.sym_size(0), chunks * states() * u.sym_size(1)};
  }

  c10::SymInt groups() const {
    if (B.dim() == 4) return B.sym_size(1);
    if (is_present(C) && C->dim() == 4) return C->sym_size(1);
    return 1;
  }

  at::TensorOptions accumulate_options() const {
    return u.options().dtype(accumulate_type(u.scalar_type()));
  }
};

inline void check_coefficients(const Check& check, const char* name, const Tensor& t,
                               const ScanArguments& a) {
  const auto batch = a.u.sym_size(0), channels = a.u.sym_size(1), length = a.u.sym_size(2);
  check.dtype(name, t, a.u.scalar_type(), "the dtype of `u`");
  if (t.dim() == 2)
    check.shape(name, t, {channels, a.states()}, "(channels, states)");
  else if (t.dim() == 3)
    check.shape(name, t, {batch, a.states(), length}, "(batch, states, length)");
  else if (t.dim() == 4) {
    check.not_empty(name, t, 1, "groups");
    check.shape(name, t, {batch, a.groups(), a.states(), length},
                "(batch, groups, states, length)");
  } else
    check.rank(name, t, 4,
               "(batch, groups, states, length), or 3 without groups, or 2 (channels, states)");
}

inline void check_scan(const char* op, const ScanArguments& a) {
  const Check check(op, a.u);
  check.floating("u", a.u);
  check.rank("u", a.u, 3, "(batch, channels, length)");
  check.not_empty("u", a.u, 1, "channels");
  check.not_empty("u", a.u, 2, "steps in time");
  const auto dtype = a.u.scalar_type(), accumulate = accumulate_type(dtype);
  const auto channels = a.u.sym_size(1);
  const char* like_u = "the dtype of `u`";
  const char* wide = "the scan's own dtype for this `u`";

  check.dtype("u", a.u, dtype, like_u);
  check.dtype("delta", a.delta, dtype, like_u);
  check.shape("delta", a.delta, a.u.sym_sizes(), "(that of `u`)");
  check.dtype("A", a.A, accumulate, wide);
  check.rank("A", a.A, 2, "(channels, states)");
  check.not_empty("A", a.A, 1, "states");
  check.shape("A", a.A, {channels, a.states()}, "(channels, states)");
  check_coefficients(check, "B", a.B, a);
  if (a.C.has_value()) check_coefficients(check, "C", *a.C, a);  // None is undefined, and refused
  TORCH_CHECK_VALUE(channels % a.groups() == 0, op, ": the groups of `B` and `C` must divide the ",
                    channels, " channels of `u`, got ", a.groups(), " groups");
  if (a.B_varies() && a.C_varies())
    TORCH_CHECK_VALUE(a.groups() == (a.C->dim() == 4 ? a.C->sym_size(1) : c10::SymInt(1)) &&
                          a.groups() == (a.B.dim() == 4 ? a.B.sym_size(1) : c10::SymInt(1)),
                      op, ": `B` and `C` must have the same groups, got shapes ", a.B.sym_sizes(),
                      " and ", a.C->sym_sizes());
  if (is_present(a.D)) {
    check.dtype("D", *a.D, accumulate, wide);
    check.shape("D", *a.D, {channels}, "(channels)");
  }
  if (is_present(a.z)) {
    check.dtype("z", *a.z, dtype, like_u);
    check.shape("z", *a.z, a.u.sym_sizes(), "(that of `u`)");
  }
  if (is_present(a.delta_bias)) {
    check.dtype("delta_bias", *a.delta_bias, accumulate, wide);
    check.shape("delta_bias", *a.delta_bias, {channels}, "(channels)");
  }
}

inline void check_checkpoints(const Check& check, const ScanArguments& a, const Tensor& t) {
  check.dtype("checkpoints", t, accumulate_type(a.u.scalar_type()), "of the forward pass");
  check.shape("checkpoints", t, a.checkpoints(), "(batch, chunks x states x channels)");
}

inline void check_scan_gradient(const char* op, const ScanArguments& a, const Tensor& grad_y,
                                const OptionalTensor& grad_last_state, const Tensor& checkpoints) {
  check_scan(op, a);
  const Check check(op, a.u);
  check.dtype("grad_y", grad_y, a.u.scalar_type(), "the dtype of `u`");
  check.shape("grad_y", grad_y, a.u.sym_sizes(), "(that of `u`)");
  if (is_present(grad_last_state)) {
    check.dtype("grad_last_state", *grad_last_state, accumulate_type(a.u.scalar_type()),
                "that of `A`");
    check.shape("grad_last_state", *grad_last_state, {a.u.sym_size(0), a.u.sym_size(1), a.states()},
                "(batch, channels, states)");
  }
  check_checkpoints(check, a, checkpoints);
}

inline void check_states_gradient(const char* op, const ScanArguments& a, const Tensor& grad_states,
                                  const Tensor& checkpoints) {
  check_scan(op, a);
  const Check check(op, a.u);
  check.dtype("grad_states", grad_states, accumulate_type(a.u.scalar_type()), "that of `A`");
  check.shape("grad_states", grad_states,
              {a.u.sym_size(0), a.u.sym_size(1), a.states(), a.u.sym_size(2)},
              "(batch, channels, states, length)");
  check_checkpoints(check, a, checkpoints);
}

inline Tensor empty_checkpoints(const ScanArguments& a) {
  return at::empty_symint(a.checkpoints(), a.accumulate_options());
}

// y, the last state and the checkpoints.
inline std::tuple<Tensor, Tensor, Tensor> empty_scan_results(const ScanArguments& a) {
  auto last_state =
      at::empty_symint({a.u.sym_size(0), a.u.sym_size(1), a.states()}, a.accumulate_options());
  return {at::empty_like(a.u), last_state, empty_checkpoints(a)};
}

// All states, (batch, channels, states, length), and the checkpoints. If the channels of u
// are contiguous in memory, so are those of the states.
inline std::tuple<Tensor, Tensor> empty_states_results(const ScanArguments& a) {
  const auto batch = a.u.sym_size(0), channels = a.u.sym_size(1), length = a.u.sym_size(2);
  const auto options = a.accumulate_options();
  const bool channels_last = a.u.sym_stride(1) == 1 && a.u.sym_stride(2) != 1;
  auto states =
      channels_last
          ? at::empty_symint({batch, length, a.states(), channels}, options).permute({0, 3, 2, 1})
          : at::empty_symint({batch, channels, a.states(), length}, options);
  return {states, empty_checkpoints(a)};
}

// Gradients of u, delta, A, B, C, D, z and delta_bias, in the dtype of each argument. The
// gradient of an omitted argument is an empty tensor.
using ScanGradientTuple =
    std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

inline ScanGradientTuple empty_scan_gradients(const ScanArguments& a) {
  const auto like = [&](const OptionalTensor& t) {
    return is_present(t) ? at::empty_symint(t->sym_sizes(), t->options())
                         : at::empty({0}, a.u.options());
  };
  return {at::empty_like(a.u),
          at::empty_like(a.delta),
          like(a.A),
          like(a.B),
          like(a.C),
          like(a.D),
          is_present(a.z) ? at::empty_like(*a.z) : like(a.z),
          like(a.delta_bias)};
}

}  // namespace mmadaptor
