// SPDX-License-Identifier: Apache-2.0
// CPU host code of the selective scan: passes tensors to the kernels for this processor.
#include "../selective_scan_ops.h"
#include "scan_tasks.h"

namespace mmadaptor {
namespace {

// The kernels' view of the arguments, and the tensors that own its memory.
struct PreparedScan {
  Tensor A, B;
  OptionalTensor C, D, delta_bias;
  Scan scan;

  PreparedScan(const ScanArguments& a, bool delta_softplus)
      : A(as_contiguous(a.A)),
        B(as_dtype(a.B, a.wide())),
        D(as_contiguous(a.D)),
        delta_bias(as_contiguous(a.delta_bias)) {
    if (is_present(a.C)) C = as_dtype(*a.C, a.wide());
    scan.dtype = scan.sum_dtype = dtype_of(a.u);
    scan.batch = a.u.size(0);
    scan.groups = a.groups();
    scan.channels = a.u.size(1) / scan.groups;
    scan.states = A.size(1);
    scan.height = 1;
    scan.width = a.u.size(2);
    scan.delta_softplus = delta_softplus;
    scan.reads_out = C.has_value();
    scan.gives_states = !scan.reads_out;
    scan.u = strided(a.u, scan.groups);
    scan.delta = strided(a.delta, scan.groups);
    if (is_present(a.z)) scan.z = strided(*a.z, scan.groups);
    scan.B = strided_coefficients(B, scan.groups);
    if (C.has_value()) scan.C = strided_coefficients(*C, scan.groups);
    scan.B_varies = a.B_varies();
    scan.C_varies = a.C_varies();
    scan.A = A.const_data_ptr();
    scan.D = data_or_null(D);
    scan.delta_bias = data_or_null(delta_bias);
  }
};

// With C: y, the last state and the checkpoints. Without: all states and the checkpoints.
ScanOutputs forward(const ScanArguments& arguments, bool delta_softplus) {
  const PreparedScan prepared(arguments, delta_softplus);
  const Scan& scan = prepared.scan;
  ScanOutputs outputs(arguments);
  ScanResults results{};
  if (scan.reads_out)
    results.y = strided(*outputs.y, scan.groups);
  else
    results.h = strided_states(*outputs.states, scan.groups);
  if (scan.reads_out) results.last_state = outputs.last_state->mutable_data_ptr();
  results.checkpoints = outputs.checkpoints->mutable_data_ptr();
  run(scan_kernels().forward, scan, results);
  return outputs;
}

// Backward pass with or without C. `grad` is the gradient of y, or of the states if there
// is no C.
ScanGradientTuple backward(const ScanArguments& a, bool delta_softplus, const Tensor& grad,
                           const OptionalTensor& grad_last_state, const Tensor& checkpoints) {
  const PreparedScan prepared(a, delta_softplus);
  const Scan& scan = prepared.scan;
  const auto wide = accumulate_type(scan.dtype);
  auto gradients = empty_scan_gradients(a);
  auto& [grad_u, grad_delta, grad_A, grad_B, grad_C, grad_D, grad_z, grad_delta_bias] = gradients;
  const auto coefficients = [&](const Tensor& total, bool varies) {
    return Parts(total, varies ? scan.blocks() : scan.batch, wide);
  };
  Parts A(grad_A, scan.batch, wide), B = coefficients(grad_B, scan.B_varies), C, D, delta_bias;
  if (scan.reads_out) C = coefficients(grad_C, scan.C_varies);
  if (scan.D) D = Parts(grad_D, scan.batch, wide);
  if (scan.delta_bias) delta_bias = Parts(grad_delta_bias, scan.batch, wide);

  const OptionalTensor last = as_contiguous(grad_last_state);
  const Tensor kept = as_contiguous(checkpoints);
  ScanGradients grads{};
  if (scan.reads_out)
    grads.y = strided(grad, scan.groups);
  else
    grads.h = strided_states(grad, scan.groups);
  grads.last_state = data_or_null(last);
  grads.checkpoints = kept.const_data_ptr();
  grads.u = strided(grad_u, scan.groups);
  grads.delta = strided(grad_delta, scan.groups);
  if (is_present(a.z)) grads.z = strided(grad_z, scan.groups);
  grads.A = A.data();
  grads.B.data = B.data();
  grads.C.data = C.data();
  if (scan.B_varies) grads.B = strided_coefficients(B.first(), scan.groups);
  if (scan.C_varies) grads.C = strided_coefficients(C.first(), scan.groups);
  grads.B_part = B.stride();
  grads.C_part = C.stride();
  grads.D = D.data();
  grads.delta_bias = delta_bias.data();
  run(scan_kernels().backward, scan, grads);
  for (Parts* parts : {&A, &B, &C, &D, &delta_bias}) parts->add_up();
  return gradients;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(mmadaptor, CPU, m) { SelectiveScanOps<forward, backward>::implement(m); }

}  // namespace mmadaptor
