// SPDX-License-Identifier: Apache-2.0
// Device-independent parts of the 2-D scan: schemas, fake (Meta) kernels and autocast rule.
#include "cross_selective_scan_arguments.h"

#include <torch/library.h>

#include "autocast.h"

namespace mmadaptor {

TORCH_LIBRARY_FRAGMENT(mmadaptor, m) {
  m.def(
      "cross_selective_scan(Tensor x, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor? D, "
      "Tensor? delta_bias, bool delta_softplus, bool return_states) -> (Tensor y, Tensor states, "
      "Tensor checkpoints)");
  m.def(
      "cross_selective_scan_backward(Tensor grad_y, Tensor? grad_states, Tensor x, Tensor delta, "
      "Tensor A, Tensor B, Tensor C, Tensor? D, Tensor? delta_bias, bool delta_softplus, "
      "Tensor checkpoints) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)");
  m.def(
      "cross_selective_scan_states(Tensor x, Tensor delta, Tensor A, Tensor B, "
      "Tensor? delta_bias, bool delta_softplus) -> (Tensor states, Tensor checkpoints)");
  m.def(
      "cross_selective_scan_states_backward(Tensor grad_states, Tensor x, Tensor delta, Tensor A, "
      "Tensor B, Tensor? delta_bias, bool delta_softplus, Tensor checkpoints) -> (Tensor, Tensor, "
      "Tensor, Tensor, Tensor)");
  m.def("cross_readout(Tensor states, Tensor C) -> Tensor");
  m.def("cross_readout_backward(Tensor grad_y, Tensor states, Tensor C) -> (Tensor, Tensor)");
}

namespace {

std::tuple<Tensor, Tensor, Tensor> fake_scan(const Tensor& x, const Tensor& delta, const Tensor& A,
                                             const Tensor& B, const Tensor& C,
                                             const OptionalTensor& D,
                                             const OptionalTensor& delta_bias, bool,
                                             bool return_states) {
  const OptionalTensor readout = C;
  const CrossArguments arguments{x, delta, A, B, readout, D, delta_bias};
  check_cross_scan("cross_selective_scan", arguments);
  return empty_cross_results(arguments, return_states);
}

CrossGradients fake_scan_backward(const Tensor& grad_y, const OptionalTensor& grad_states,
                                  const Tensor& x, const Tensor& delta, const Tensor& A,
                                  const Tensor& B, const Tensor& C, const OptionalTensor& D,
                                  const OptionalTensor& delta_bias, bool,
                                  const Tensor& checkpoints) {
  const OptionalTensor readout = C;
  const CrossArguments arguments{x, delta, A, B, readout, D, delta_bias};
  check_cross_gradients("cross_selective_scan_backward", arguments, grad_y, grad_states,
                        checkpoints);
  return empty_cross_gradients(arguments);
}

std::tuple<Tensor, Tensor> fake_states(const Tensor& x, const Tensor& delta, const Tensor& A,
                                       const Tensor& B, const OptionalTensor& delta_bias, bool) {
  const OptionalTensor none;
  const CrossArguments arguments{x, delta, A, B, none, none, delta_bias};
  check_cross_scan("cross_selective_scan_states", arguments);
  const auto results = empty_cross_results(arguments, true);
  return {std::get<1>(results), std::get<2>(results)};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> fake_states_backward(
    const Tensor& grad_states, const Tensor& x, const Tensor& delta, const Tensor& A,
    const Tensor& B, const OptionalTensor& delta_bias, bool, const Tensor& checkpoints) {
  const OptionalTensor none;
  const CrossArguments arguments{x, delta, A, B, none, none, delta_bias};
  check_cross_gradients("cross_selective_scan_states_backward", arguments, none, grad_states,
                        checkpoints);
  const auto grads = empty_cross_gradients(arguments);
  return {std::get<0>(grads), std::get<1>(grads), std::get<2>(grads), std::get<3>(grads),
          std::get<6>(grads)};
}

template <at::DeviceType device>
struct Lowered : Autocast<device> {
  using Autocast<device>::lower;
  using Below = typename Autocast<device>::Below;

  static std::tuple<Tensor, Tensor, Tensor> scan(const Tensor& x, const Tensor& delta,
                                                 const Tensor& A, const Tensor& B, const Tensor& C,
                                                 const OptionalTensor& D,
                                                 const OptionalTensor& delta_bias,
                                                 bool delta_softplus, bool return_states) {
    const Below below;
    static const auto op = c10::Dispatcher::singleton()
                               .findSchemaOrThrow("mmadaptor::cross_selective_scan", "")
                               .typed<decltype(scan)>();
    return op.call(lower(x), lower(delta), A, lower(B), lower(C), D, delta_bias, delta_softplus,
                   return_states);
  }

  static std::tuple<Tensor, Tensor> states(const Tensor& x, const Tensor& delta, const Tensor& A,
                                           const Tensor& B, const OptionalTensor& delta_bias,
                                           bool delta_softplus) {
    const Below below;
    static const auto op = c10::Dispatcher::singleton()
                               .findSchemaOrThrow("mmadaptor::cross_selective_scan_states", "")
                               .typed<decltype(states)>();
    return op.call(lower(x), lower(delta), A, lower(B), delta_bias, delta_softplus);
  }
};

}  // namespace

TORCH_LIBRARY_IMPL(mmadaptor, Meta, m) {
  m.impl("cross_selective_scan", fake_scan);
  m.impl("cross_selective_scan_backward", fake_scan_backward);
  m.impl("cross_selective_scan_states", fake_states);
  m.impl("cross_selective_scan_states_backward", fake_states_backward);
  m.impl("cross_readout", [](const Tensor& states, const Tensor& C) {
    check_readout("cross_readout", states, C);
    return empty_readout(states, C);
  });
  m.impl("cross_readout_backward", [](const Tensor& grad_y, const Tensor& states, const Tensor& C) {
    check_readout_gradient("cross_readout_backward", grad_y, states, C);
    return empty_readout_gradients(states, C);
  });
}

// The readout has no autocast rule: it accepts the states in their own dtype, and C in any.
TORCH_LIBRARY_IMPL(mmadaptor, AutocastCPU, m) {
  m.impl("cross_selective_scan", Lowered<at::kCPU>::scan);
  m.impl("cross_selective_scan_states", Lowered<at::kCPU>::states);
}

TORCH_LIBRARY_IMPL(mmadaptor, AutocastCUDA, m) {
  m.impl("cross_selective_scan", Lowered<at::kCUDA>::scan);
  m.impl("cross_selective_scan_states", Lowered<at::kCUDA>::states);
}

}  // namespace mmadaptor
