// SPDX-License-Identifier: Apache-2.0
// The ops of the 1-D scan as a template over a device's forward and backward functions,
// and conversion of tensors to the structs that kernels get.
#pragma once

#include "selective_scan_arguments.h"

namespace mmadaptor {

// A sequence is a map of one row; channels are split into groups.
inline Strided strided(const Tensor& t, int64_t groups) {  // (batch, channels, length)
  return {t.mutable_data_ptr(), t.stride(0), t.size(1) / groups * t.stride(1),
          t.stride(1),          0,           stride_of(t, 2)};
}

inline Strided strided_states(const Tensor& t,
                              int64_t groups) {  // (batch, channels, states, length)
  return {t.mutable_data_ptr(), t.stride(0), t.size(1) / groups * t.stride(1), t.stride(1), 0,
          stride_of(t, 3),      t.stride(2)};
}

// B or C: (channels, states), (batch, states, length) or (batch, groups, states, length).
inline Strided strided_coefficients(const Tensor& t, int64_t groups) {
  if (t.dim() == 2)
    return {t.mutable_data_ptr(), 0, t.size(0) / groups * t.stride(0), t.stride(0), 0, 0,
            t.stride(1)};
  if (t.dim() == 3)
    return {t.mutable_data_ptr(), t.stride(0), 0, 0, 0, stride_of(t, 2), t.stride(1)};
  return {t.mutable_data_ptr(), t.stride(0), t.stride(1), 0, 0, stride_of(t, 3), t.stride(2)};
}

// The results of a forward pass. With C: y, the last state and the checkpoints. Without C:
// all states and the checkpoints.
struct ScanOutputs {
  OptionalTensor y, last_state, states, checkpoints;

  explicit ScanOutputs(const ScanArguments& a) {
    if (is_present(a.C))
      std::tie(y, last_state, checkpoints) = empty_scan_results(a);
    else
      std::tie(states, checkpoints) = empty_states_results(a);
  }
};

// The forward function of a device.
using ScanForward = ScanOutputs(const ScanArguments&, bool delta_softplus);
// The backward function of a device. `grad` is the gradient of y, or of the states if there
// is no C.
using ScanBackward = ScanGradientTuple(const ScanArguments&, bool delta_softplus,
                                       const Tensor& grad, const OptionalTensor& grad_last_state,
                                       const Tensor& checkpoints);

template <ScanForward forward, ScanBackward backward>
struct SelectiveScanOps {
  static std::tuple<Tensor, Tensor, Tensor> scan(const Tensor& u, const Tensor& delta,
                                                 const Tensor& A, const Tensor& B, const Tensor& C,
                                                 const OptionalTensor& D, const OptionalTensor& z,
                                                 const OptionalTensor& delta_bias,
                                                 bool delta_softplus) {
    const OptionalTensor readout = C;
    const ScanArguments arguments{u, delta, A, B, readout, D, z, delta_bias};
    check_scan("selective_scan", arguments);
    const auto outputs = forward(arguments, delta_softplus);
    return {*outputs.y, *outputs.last_state, *outputs.checkpoints};
  }

  static std::tuple<Tensor, Tensor> states(const Tensor& u, const Tensor& delta, const Tensor& A,
                                           const Tensor& B, const OptionalTensor& delta_bias,
                                           bool delta_softplus) {
    const OptionalTensor none;
    const ScanArguments arguments{u, delta, A, B, none, none, none, delta_bias};
    check_scan("selective_scan_states", arguments);
    const auto outputs = forward(arguments, delta_softplus);
    return {*outputs.states, *outputs.checkpoints};
  }

  static ScanGradientTuple scan_backward(const Tensor& grad_y,
                                         const OptionalTensor& grad_last_state, const Tensor& u,
                                         const Tensor& delta, const Tensor& A, const Tensor& B,
                                         const Tensor& C, const OptionalTensor& D,
                                         const OptionalTensor& z, const OptionalTensor& delta_bias,
                                         bool delta_softplus, const Tensor& checkpoints) {
    const OptionalTensor readout = C;
    const ScanArguments arguments{u, delta, A, B, readout, D, z, delta_bias};
    check_scan_gradient("selective_scan_backward", arguments, grad_y, grad_last_state, checkpoints);
    return backward(arguments, delta_softplus, grad_y, grad_last_state, checkpoints);
  }

  static std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> states_backward(
      const Tensor& grad_states, const Tensor& u, const Tensor& delta, const Tensor& A,
      const Tensor& B, const OptionalTensor& delta_bias, bool delta_softplus,
      const Tensor& checkpoints) {
    const OptionalTensor none;
    const ScanArguments arguments{u, delta, A, B, none, none, none, delta_bias};
    check_states_gradient("selective_scan_states_backward", arguments, grad_states, checkpoints);
    const auto grads = backward(arguments, delta_softplus, grad_states, none, checkpoints);
    return {std::get<0>(grads), std::get<1>(grads), std::get<2>(grads), std::get<3>(grads),
            std::get<7>(grads)};
  }

  static void implement(torch::stable::detail::StableLibrary& m) {
    m.impl("selective_scan", TORCH_BOX(&scan));
    m.impl("selective_scan_backward", TORCH_BOX(&scan_backward));
    m.impl("selective_scan_states", TORCH_BOX(&states));
    m.impl("selective_scan_states_backward", TORCH_BOX(&states_backward));
  }
};

}  // namespace mmadaptor
