// SPDX-License-Identifier: Apache-2.0
// Argument checks and result allocation of the 2-D scan. Shared by all devices and by
// torch.compile, which calls them with fake tensors.
#pragma once

#include <tuple>
#include <vector>

#include "checks.h"
#include "scan_layout.h"

namespace mmadaptor {

constexpr int kDirections = 4;

// The arguments of cross_selective_scan. Without C and D, the arguments of
// cross_selective_scan_states.
struct CrossArguments {
  const Tensor &x, &delta, &A, &B;
  const OptionalTensor &C, &D, &delta_bias;

  c10::SymInt batch() const { return x.sym_size(0); }
  c10::SymInt height() const { return x.sym_size(1); }
  c10::SymInt width() const { return x.sym_size(2); }
  c10::SymInt channels() const { return x.sym_size(3); }
  c10::SymInt states() const { return A.sym_size(2); }
  c10::SymInt chunks() const { return (height() * width() + (kChunk - 1)) / kChunk; }

  // (batch, height, width, 4, ...)
  std::vector<c10::SymInt> directed(std::initializer_list<c10::SymInt> inner) const {
    std::vector<c10::SymInt> sizes{batch(), height(), width(), kDirections};
    sizes.insert(sizes.end(), inner);
    return sizes;
  }
  // (batch, chunks, states, 4 channels), flattened to two dimensions: with a separate
  // dimension of chunks, torch.compile would check whether it is 1, and specialize.
  std::vector<c10::SymInt> checkpoints() const {
    return {batch(), chunks() * states() * channels() * kDirections};
  }
  at::TensorOptions accumulate_options() const {
    return x.options().dtype(accumulate_type(x.scalar_type()));
  }
};

inline void check_cross_scan(const char* op, const CrossArguments& a) {
  const Check check(op, a.x);
  const auto dtype = a.x.scalar_type(), accumulate = accumulate_type(dtype);
  const char* like_x = "the dtype of `x`";
  const char* wide = "the scan's own dtype for this `x`";
  const char* pixels = "(batch, height, width, channels)";
  check.floating("x", a.x);
  check.dtype("x", a.x, dtype, like_x);
  check.rank("x", a.x, 4, pixels);
  check.only_batch_empty("x", a.x, pixels);
  check.dtype("delta", a.delta, dtype, like_x);
  check.shape("delta", a.delta, a.directed({a.channels()}), "(batch, height, width, 4, channels)");
  check.dtype("A", a.A, accumulate, wide);
  check.rank("A", a.A, 3, "(4, channels, states)");
  check.not_empty("A", a.A, 2, "states");
  check.shape("A", a.A, {kDirections, a.channels(), a.states()}, "(4, channels, states)");
  check.dtype("B", a.B, dtype, like_x);
  check.shape("B", a.B, a.directed({a.states()}), "(batch, height, width, 4, states)");
  if (a.C.has_value()) {  // None is undefined, and refused
    check.dtype("C", *a.C, dtype, like_x);
    check.shape("C", *a.C, a.directed({a.states()}), "(batch, height, width, 4, states)");
  }
  const auto parameter = [&](const char* name, const OptionalTensor& t) {
    if (!is_present(t)) return;
    check.dtype(name, *t, accumulate, wide);
    check.shape(name, *t, {kDirections, a.channels()}, "(4, channels)");
  };
  parameter("D", a.D);
  parameter("delta_bias", a.delta_bias);
}

inline void check_cross_gradients(const char* op, const CrossArguments& a,
                                  const OptionalTensor& grad_y, const OptionalTensor& grad_states,
                                  const Tensor& checkpoints) {
  check_cross_scan(op, a);
  const Check check(op, a.x);
  const auto accumulate = accumulate_type(a.x.scalar_type());
  if (is_present(grad_y)) {
    check.dtype("grad_y", *grad_y, a.x.scalar_type(), "the dtype of `x`");
    check.shape("grad_y", *grad_y, a.x.sym_sizes(), "(that of `x`)");
  }
  if (is_present(grad_states)) {
    check.dtype("grad_states", *grad_states, accumulate, "that of `A`");
    check.shape("grad_states", *grad_states, a.directed({a.channels(), a.states()}),
                "(batch, height, width, 4, channels, states)");
  }
  check.dtype("checkpoints", checkpoints, accumulate, "of the forward pass");
  check.shape("checkpoints", checkpoints, a.checkpoints(), "(batch, chunks x states x 4 channels)");
}

inline Tensor empty_states(const CrossArguments& a) {
  return at::empty_symint(a.directed({a.channels(), a.states()}), a.accumulate_options());
}

// y, the states (empty unless return_states) and the checkpoints.
inline std::tuple<Tensor, Tensor, Tensor> empty_cross_results(const CrossArguments& a,
                                                              bool return_states) {
  return {at::empty_symint(a.x.sym_sizes(), a.x.options()),
          return_states ? empty_states(a) : at::empty({0}, a.accumulate_options()),
          at::empty_symint(a.checkpoints(), a.accumulate_options())};
}

// Gradients of x, delta, A, B, C, D and delta_bias, contiguous and in the dtype of each
// argument. The gradient of an omitted argument is an empty tensor.
using CrossGradients = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

inline CrossGradients empty_cross_gradients(const CrossArguments& a) {
  const auto like = [&](const OptionalTensor& t) {
    return is_present(t) ? at::empty_symint(t->sym_sizes(), t->options())
                         : at::empty({0}, a.x.options());
  };
  return {like(a.x), like(a.delta), like(a.A), like(a.B), like(a.C), like(a.D), like(a.delta_bias)};
}

inline void check_readout(const char* op, const Tensor& states, const Tensor& C) {
  const Check check(op, states);
  const char* meaning = "(batch, height, width, 4, channels, states)";
  check.rank("states", states, 6, meaning);
  check.only_batch_empty("states", states, meaning);
  TORCH_CHECK_VALUE(states.scalar_type() == at::kFloat || states.scalar_type() == at::kDouble, op,
                    ": `states` must be float32 or float64, got ", states.scalar_type());
  check.floating("C", C);
  check.dtype("C", C, C.scalar_type(), "its own dtype");
  check.shape("C", C,
              {states.sym_size(0), states.sym_size(1), states.sym_size(2), states.sym_size(3),
               states.sym_size(5)},
              "(batch, height, width, 4, states)");
}

inline Tensor empty_readout(const Tensor& states, const Tensor& C) {
  return at::empty_symint(
      {states.sym_size(0), states.sym_size(1), states.sym_size(2), states.sym_size(4)},
      C.options());
}

inline void check_readout_gradient(const char* op, const Tensor& grad_y, const Tensor& states,
                                   const Tensor& C) {
  check_readout(op, states, C);
  const Check check(op, states);
  check.dtype("grad_y", grad_y, C.scalar_type(), "the dtype of `C`");
  check.shape("grad_y", grad_y,
              {states.sym_size(0), states.sym_size(1), states.sym_size(2), states.sym_size(4)},
              "(batch, height, width, channels)");
}

// Gradients of the states and of C, both contiguous.
inline std::tuple<Tensor, Tensor> empty_readout_gradients(const Tensor& states, const Tensor& C) {
  return {at::empty_symint(states.sym_sizes(), states.options()),
          at::empty_symint(C.sym_sizes(), C.options())};
}

}  // namespace mmadaptor
