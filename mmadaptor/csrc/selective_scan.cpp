// SPDX-License-Identifier: Apache-2.0
// Device-independent parts of the 1-D scan: schemas, fake (Meta) kernels and autocast rule.
#include "selective_scan_arguments.h"

#include <torch/library.h>

#include "autocast.h"

namespace mmadaptor {

TORCH_LIBRARY_FRAGMENT(mmadaptor, m) {
  m.def(
      "selective_scan(Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor? D, Tensor? z, "
      "Tensor? delta_bias, bool delta_softplus) -> (Tensor y, Tensor last_state, "
      "Tensor checkpoints)");
  m.def(
      "selective_scan_backward(Tensor grad_y, Tensor? grad_last_state, Tensor u, Tensor delta, "
      "Tensor A, Tensor B, Tensor C, Tensor? D, Tensor? z, Tensor? delta_bias, "
      "bool delta_softplus, Tensor checkpoints) -> (Tensor, Tensor, Tensor, Tensor, Tensor, "
      "Tensor, Tensor, Tensor)");
  m.def(
      "selective_scan_states(Tensor u, Tensor delta, Tensor A, Tensor B, Tensor? delta_bias, "
      "bool delta_softplus) -> (Tensor states, Tensor checkpoints)");
  m.def(
      "selective_scan_states_backward(Tensor grad_states, Tensor u, Tensor delta, Tensor A, "
      "Tensor B, Tensor? delta_bias, bool delta_softplus, Tensor checkpoints) -> (Tensor, Tensor, "
      "Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(mmadaptor, Meta, m) {
  m.impl("selective_scan", [](const Tensor& u, const Tensor& delta, const Tensor& A,
                              const Tensor& B, const Tensor& C, const OptionalTensor& D,
                              const OptionalTensor& z, const OptionalTensor& delta_bias, bool) {
    const OptionalTensor readout = C;
    const ScanArguments arguments{u, delta, A, B, readout, D, z, delta_bias};
    check_scan("selective_scan", arguments);
    return empty_scan_results(arguments);
  });
  m.impl("selective_scan_backward", [](const Tensor& grad_y, const OptionalTensor& grad_last_state,
                                       const Tensor& u, const Tensor& delta, const Tensor& A,
                                       const Tensor& B, const Tensor& C, const OptionalTensor& D,
                                       const OptionalTensor& z, const OptionalTensor& delta_bias,
                                       bool, const Tensor& checkpoints) {
    const OptionalTensor readout = C;
    const ScanArguments arguments{u, delta, A, B, readout, D, z, delta_bias};
    check_scan_gradient("selective_scan_backward", arguments, grad_y, grad_last_state, checkpoints);
    return empty_scan_gradients(arguments);
  });
  m.impl("selective_scan_states", [](const Tensor& u, const Tensor& delta, const Tensor& A,
                                     const Tensor& B, const OptionalTensor& delta_bias, bool) {
    const OptionalTensor none;
    const ScanArguments arguments{u, delta, A, B, none, none, none, delta_bias};
    check_scan("selective_scan_states", arguments);
    return empty_states_results(arguments);
  });
  m.impl("selective_scan_states_backward",
         [](const Tensor& grad_states, const Tensor& u, const Tensor& delta, const Tensor& A,
            const Tensor& B, const OptionalTensor& delta_bias, bool, const Tensor& checkpoints) {
           const OptionalTensor none;
           const ScanArguments arguments{u, delta, A, B, none, none, none, delta_bias};
           check_states_gradient("selective_scan_states_backward", arguments, grad_states,
                                 checkpoints);
           const auto grads = empty_scan_gradients(arguments);
           return std::make_tuple(std::get<0>(grads), std::get<1>(grads), std::get<2>(grads),
                                  std::get<3>(grads), std::get<7>(grads));
         });
}

namespace {

template <at::DeviceType device>
struct Lowered : Autocast<device> {
  using Autocast<device>::lower;
  using Below = typename Autocast<device>::Below;

  static std::tuple<Tensor, Tensor, Tensor> scan(const Tensor& u, const Tensor& delta,
                                                 const Tensor& A, const Tensor& B, const Tensor& C,
                                                 const OptionalTensor& D, const OptionalTensor& z,
                                                 const OptionalTensor& delta_bias,
                                                 bool delta_softplus) {
    const Below below;
    static const auto op = c10::Dispatcher::singleton()
                               .findSchemaOrThrow("mmadaptor::selective_scan", "")
                               .typed<decltype(scan)>();
    return op.call(lower(u), lower(delta), A, lower(B), lower(C), D, lower(z), delta_bias,
                   delta_softplus);
  }

  static std::tuple<Tensor, Tensor> states(const Tensor& u, const Tensor& delta, const Tensor& A,
                                           const Tensor& B, const OptionalTensor& delta_bias,
                                           bool delta_softplus) {
    const Below below;
    static const auto op = c10::Dispatcher::singleton()
                               .findSchemaOrThrow("mmadaptor::selective_scan_states", "")
                               .typed<decltype(states)>();
    return op.call(lower(u), lower(delta), A, lower(B), delta_bias, delta_softplus);
  }
};

}  // namespace

TORCH_LIBRARY_IMPL(mmadaptor, AutocastCPU, m) {
  m.impl("selective_scan", Lowered<at::kCPU>::scan);
  m.impl("selective_scan_states", Lowered<at::kCPU>::states);
}

TORCH_LIBRARY_IMPL(mmadaptor, AutocastCUDA, m) {
  m.impl("selective_scan", Lowered<at::kCUDA>::scan);
  m.impl("selective_scan_states", Lowered<at::kCUDA>::states);
}

}  // namespace mmadaptor
