// SPDX-License-Identifier: Apache-2.0
// The schemas of all ops. cpu/ and cuda/ register the kernels of a device; fake kernels,
// gradients and autocast rules are registered in Python (mmadaptor/ops).
#include "tensor.h"

STABLE_TORCH_LIBRARY(mmadaptor, m) {
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
  m.def("memory_select(Tensor states, Tensor locations, Tensor weights) -> Tensor");
  m.def(
      "memory_select_backward(Tensor grad_memory, Tensor states, Tensor locations, "
      "Tensor weights) -> (Tensor, Tensor, Tensor)");
  m.def(
      "memory_readout(Tensor values, Tensor predicted, float[] granularities, "
      "Tensor coefficients) -> Tensor");
  m.def(
      "memory_readout_backward(Tensor grad_y, Tensor values, Tensor predicted, "
      "float[] granularities, Tensor coefficients) -> (Tensor, Tensor, Tensor)");
  m.def("dilated_depthwise(Tensor y, Tensor kernels, int[] dilations) -> Tensor");
  m.def(
      "dilated_depthwise_backward(Tensor grad, Tensor y, Tensor kernels, int[] dilations) -> "
      "(Tensor, Tensor)");
}
