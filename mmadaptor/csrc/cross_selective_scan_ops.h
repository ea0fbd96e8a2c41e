// SPDX-License-Identifier: Apache-2.0
// The ops of the 2-D scan as a template over a device's forward and backward functions,
// and conversion of tensors to the structs that kernels get.
#pragma once

#include "cross_selective_scan_arguments.h"

namespace mmadaptor {

// The stride between the pixels of a row, or of the only column: the kernels for CUDA walk a
// map as one row.
inline int64_t pixel_stride(const Tensor& t) { return stride_of(t, t.size(2) == 1 ? 1 : 2); }

inline Strided strided(const Tensor& t) {  // (batch, height, width, channels)
  return {t.mutable_data_ptr(), t.stride(0), 0, t.stride(3), t.stride(1), pixel_stride(t)};
}

inline Strided strided_directed(const Tensor& t) {  // (batch, height, width, 4, channels)
  return {t.mutable_data_ptr(), t.stride(0), t.stride(3),
          t.stride(4),          t.stride(1), pixel_stride(t)};
}

inline Strided strided_coefficients(const Tensor& t) {  // (batch, height, width, 4, states)
  return {t.mutable_data_ptr(), t.stride(0),     t.stride(3), 0,
          t.stride(1),          pixel_stride(t), t.stride(4)};
}

inline Strided strided_states(const Tensor& t) {  // (batch, height, width, 4, channels, states)
  return {t.mutable_data_ptr(), t.stride(0),     t.stride(3), t.stride(4),
          t.stride(1),          pixel_stride(t), t.stride(5)};
}

// The forward function of a device. Returns y (empty without C), the states (empty unless
// return_states) and the checkpoints.
using CrossForward = std::tuple<Tensor, Tensor, Tensor>(const CrossArguments&, bool delta_softplus,
                                                        bool return_states);
// The backward function of a device. Returns all gradients, given the gradient of y, of the
// states, or of both.
using CrossBackward = CrossGradients(const CrossArguments&, bool delta_softplus,
                                     const OptionalTensor& grad_y,
                                     const OptionalTensor& grad_states, const Tensor& checkpoints);

template <CrossForward forward, CrossBackward backward>
struct CrossScanOps {
  static std::tuple<Tensor, Tensor, Tensor> scan(const Tensor& x, const Tensor& delta,
                                                 const Tensor& A, const Tensor& B, const Tensor& C,
                                                 const OptionalTensor& D,
                                                 const OptionalTensor& delta_bias,
                                                 bool delta_softplus, bool return_states) {
    const OptionalTensor readout = C;
    const CrossArguments arguments{x, delta, A, B, readout, D, delta_bias};
    check_cross_scan("cross_selective_scan", arguments);
    return forward(arguments, delta_softplus, return_states);
  }

  static CrossGradients scan_backward(const Tensor& grad_y, const OptionalTensor& grad_states,
                                      const Tensor& x, const Tensor& delta, const Tensor& A,
                                      const Tensor& B, const Tensor& C, const OptionalTensor& D,
                                      const OptionalTensor& delta_bias, bool delta_softplus,
                                      const Tensor& checkpoints) {
    const OptionalTensor readout = C;
    const CrossArguments arguments{x, delta, A, B, readout, D, delta_bias};
    check_cross_gradients("cross_selective_scan_backward", arguments, grad_y, grad_states,
                          checkpoints);
    return backward(arguments, delta_softplus, grad_y, grad_states, checkpoints);
  }

  static std::tuple<Tensor, Tensor> states(const Tensor& x, const Tensor& delta, const Tensor& A,
                                           const Tensor& B, const OptionalTensor& delta_bias,
                                           bool delta_softplus) {
    const OptionalTensor none;
    const CrossArguments arguments{x, delta, A, B, none, none, delta_bias};
    check_cross_scan("cross_selective_scan_states", arguments);
    const auto results = forward(arguments, delta_softplus, true);
    return {std::get<1>(results), std::get<2>(results)};
  }

  static std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> states_backward(
      const Tensor& grad_states, const Tensor& x, const Tensor& delta, const Tensor& A,
      const Tensor& B, const OptionalTensor& delta_bias, bool delta_softplus,
      const Tensor& checkpoints) {
    const OptionalTensor none;
    const CrossArguments arguments{x, delta, A, B, none, none, delta_bias};
    check_cross_gradients("cross_selective_scan_states_backward", arguments, none, grad_states,
                          checkpoints);
    const auto grads = backward(arguments, delta_softplus, none, grad_states, checkpoints);
    return {std::get<0>(grads), std::get<1>(grads), std::get<2>(grads), std::get<3>(grads),
            std::get<6>(grads)};
  }

  static void implement(torch::stable::detail::StableLibrary& m) {
    m.impl("cross_selective_scan", TORCH_BOX(&scan));
    m.impl("cross_selective_scan_backward", TORCH_BOX(&scan_backward));
    m.impl("cross_selective_scan_states", TORCH_BOX(&states));
    m.impl("cross_selective_scan_states_backward", TORCH_BOX(&states_backward));
  }
};

}  // namespace mmadaptor
