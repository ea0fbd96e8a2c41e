// SPDX-License-Identifier: Apache-2.0
// Argument checks and result allocation of the 2-D scan and of cross_readout, for all
// devices.
#pragma once

#include <initializer_list>
#include <tuple>

#include "checks.h"
#include "scan_view.h"

namespace mmadaptor {

constexpr int kDirections = 4;

// The arguments of cross_selective_scan. Without C and D, the arguments of
// cross_selective_scan_states.
struct CrossArguments {
  const Tensor &x, &delta, &A, &B;
  const OptionalTensor &C, &D, &delta_bias;

  int64_t channels() const { return x.size(3); }
  int64_t states() const { return A.size(2); }
  ScalarType wide() const { return accumulate_type(dtype_of(x)); }

  // (batch, height, width, 4, ...)
  Sizes directed(std::initializer_list<int64_t> inner) const {
    Sizes sizes{x.size(0), x.size(1), x.size(2), kDirections};
    sizes.insert(sizes.end(), inner);
    return sizes;
  }
  // (batch, chunks, states, 4 channels), flattened to two dimensions: with a separate
  // dimension of chunks, torch.compile would check whether it is 1, and specialize.
  Sizes checkpoints() const {
    const int64_t chunks = divide_up(x.size(1) * x.size(2), kChunk);
    return {x.size(0), chunks * states() * channels() * kDirections};
  }
};

inline Check check_cross_scan(const char* op, const CrossArguments& a) {
  const Check check(op, "x", a.x);
  const auto dtype = dtype_of(a.x);
  check.floating("x", a.x);
  check.rank("x", a.x, 4);
  check.only_batch_empty("x", a.x);
  check.dtype("delta", a.delta, dtype);
  check.shape("delta", a.delta, a.directed({a.channels()}));
  check.dtype("A", a.A, a.wide());
  check.rank("A", a.A, 3);
  check.only_batch_empty("A", a.A);
  check.shape("A", a.A, {kDirections, a.channels(), a.states()});
  const auto coefficients = [&](const char* name, const Tensor& t) {
    check.dtype(name, t, dtype);
    check.shape(name, t, a.directed({a.states()}));
  };
  coefficients("B", a.B);
  if (a.C.has_value()) coefficients("C", *a.C);
  const auto parameter = [&](const char* name, const OptionalTensor& t) {
    if (!is_present(t)) return;
    check.dtype(name, *t, a.wide());
    check.shape(name, *t, {kDirections, a.channels()});
  };
  parameter("D", a.D);
  parameter("delta_bias", a.delta_bias);
  return check;
}

inline void check_cross_gradients(const char* op, const CrossArguments& a,
                                  const OptionalTensor& grad_y, const OptionalTensor& grad_states,
                                  const Tensor& checkpoints) {
  const Check check = check_cross_scan(op, a);
  if (grad_y.has_value()) {
    check.dtype("grad_y", *grad_y, dtype_of(a.x));
    check.shape("grad_y", *grad_y, sizes_of(a.x));
  }
  if (is_present(grad_states)) {
    check.dtype("grad_states", *grad_states, a.wide());
    check.shape("grad_states", *grad_states, a.directed({a.channels(), a.states()}));
  }
  check.dtype("checkpoints", checkpoints, a.wide());
  check.shape("checkpoints", checkpoints, a.checkpoints());
}

// y (empty without C), the states (empty unless return_states) and the checkpoints.
inline std::tuple<Tensor, Tensor, Tensor> empty_cross_results(const CrossArguments& a,
                                                              bool return_states) {
  const Sizes states = return_states ? a.directed({a.channels(), a.states()}) : Sizes{0};
  const Sizes y = is_present(a.C) ? sizes_of(a.x) : Sizes{0};
  return {empty_tensor(y, dtype_of(a.x), a.x), empty_tensor(states, a.wide(), a.x),
          empty_tensor(a.checkpoints(), a.wide(), a.x)};
}

// Gradients of x, delta, A, B, C, D and delta_bias, contiguous and in the dtype of each
// argument. The gradient of an omitted argument is an empty tensor.
using CrossGradients = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

inline CrossGradients empty_cross_gradients(const CrossArguments& a) {
  const auto like = [&](const OptionalTensor& t) {
    return is_present(t) ? empty_contiguous(*t) : empty_tensor({0}, dtype_of(a.x), a.x);
  };
  return {like(a.x), like(a.delta), like(a.A), like(a.B), like(a.C), like(a.D), like(a.delta_bias)};
}

// (batch, height, width, channels), of (batch, height, width, directions, channels, ...).
inline Sizes sizes_of_readout(const Tensor& states) {
  return {states.size(0), states.size(1), states.size(2), states.size(4)};
}

inline Check check_readout(const char* op, const Tensor& states, const Tensor& C) {
  const Check check(op, "states", states);
  check.wide("states", states);
  check.rank("states", states, 6);
  check.only_batch_empty("states", states);
  require(C.defined(), op, ": `C` must be a tensor, got None");
  check.floating("C", C);
  check.dtype("C", C, dtype_of(C));
  check.shape("C", C,
              {states.size(0), states.size(1), states.size(2), states.size(3), states.size(5)});
  return check;
}

inline void check_readout_gradient(const char* op, const Tensor& grad_y, const Tensor& states,
                                   const Tensor& C) {
  const Check check = check_readout(op, states, C);
  check.dtype("grad_y", grad_y, dtype_of(C));
  check.shape("grad_y", grad_y, sizes_of_readout(states));
}

}  // namespace mmadaptor
