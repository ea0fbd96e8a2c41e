// SPDX-License-Identifier: Apache-2.0
// CUDA host code of the selective scan: passes tensors to the kernels.
#include "../selective_scan_ops.h"
#include "scan_workspace.h"

namespace mmadaptor::cuda {
namespace {

// Coalesced access requires contiguous channels, so (batch, channels, length) tensors of
// any other memory order are copied.
Tensor channels_last(const Tensor& t) {
  if (t.stride(1) == 1) return t;
  const Tensor copied = as_contiguous(torch::stable::transpose(t, 1, 2));
  return torch::stable::transpose(copied, 1, 2);
}

// A temporary tensor like `t`, for the caller to copy to `t`, if the kernels cannot write
// `t` itself.
OptionalTensor written_instead(const Tensor& t) {
  if (t.stride(1) == 1) return std::nullopt;
  const Tensor temporary = empty_contiguous(torch::stable::transpose(t, 1, 2));
  return torch::stable::transpose(temporary, 1, 2);
}

// The kernels' view of the arguments, and the tensors that own its memory.
struct PreparedScan {
  Tensor u, delta, A;
  OptionalTensor z, D, delta_bias;
  ScanView view;

  PreparedScan(const ScanArguments& a, bool delta_softplus)
      : u(channels_last(a.u)),
        delta(channels_last(a.delta)),
        A(as_contiguous(a.A)),
        D(as_contiguous(a.D)),
        delta_bias(as_contiguous(a.delta_bias)) {
    view.batch = u.size(0);
    view.groups = a.groups();
    view.channels = u.size(1) / view.groups;
    view.states = A.size(1);
    view.height = 1;
    view.width = u.size(2);
    view.delta_softplus = delta_softplus;
    view.reads_out = is_present(a.C);
    view.gives_states = !view.reads_out;
    view.u = strided(u, view.groups);
    view.delta = strided(delta, view.groups);
    if (is_present(a.z)) view.z = strided(*(z = channels_last(*a.z)), view.groups);
    view.B = strided_coefficients(a.B, view.groups);
    if (view.reads_out) view.C = strided_coefficients(*a.C, view.groups);
    view.B_varies = a.B_varies();
    view.C_varies = a.C_varies();
    view.A = A.const_data_ptr();
    view.D = data_or_null(D);
    view.delta_bias = data_or_null(delta_bias);
  }

  // A tensor of the dtype in which the kernels accumulate.
  const Tensor& wide() const { return A; }
};

ScanOutputs forward(const ScanArguments& arguments, bool delta_softplus) {
  const DeviceGuard guard(arguments.u);
  if (arguments.u.numel() == 0) return ScanOutputs(arguments);
  const PreparedScan scan(arguments, delta_softplus);
  const PreparedPlan prepared(scan.view, scan.wide(), false);
  ScanOutputs outputs(arguments);
  ScanResults results{};
  OptionalTensor instead;
  if (scan.view.reads_out) {
    instead = written_instead(*outputs.y);
    results.y = strided(instead ? *instead : *outputs.y, scan.view.groups);
    results.last_state = outputs.last_state->mutable_data_ptr();
  } else {
    results.h = strided_states(*outputs.states, scan.view.groups);
  }
  results.checkpoints = outputs.checkpoints->mutable_data_ptr();
  for_element(dtype_of(scan.u), [&](auto* type) {
    launch_scan(type, scan.view, results, prepared.extra, prepared.target);
  });
  MMADAPTOR_LAUNCHED();
  if (instead) copy_to(*instead, *outputs.y);
  return outputs;
}

// The tensors that the kernels write for the gradients of u, delta and z; copy_to() copies
// temporary tensors to the gradients.
class Written {
 public:
  Strided operator()(const Tensor& gradient, int64_t groups) {
    const OptionalTensor instead = written_instead(gradient);
    if (instead) pairs_.emplace_back(*instead, gradient);
    return strided(instead ? *instead : gradient, groups);
  }
  void copy_back() const {
    for (const auto& [written, gradient] : pairs_) copy_to(written, gradient);
  }

 private:
  std::vector<std::pair<Tensor, Tensor>> pairs_;
};

ScanGradientTuple backward(const ScanArguments& a, bool delta_softplus, const Tensor& grad,
                           const OptionalTensor& grad_last_state, const Tensor& checkpoints) {
  const DeviceGuard guard(a.u);
  const PreparedScan scan(a, delta_softplus);
  const ScanView& view = scan.view;
  const Tensor incoming = view.reads_out ? channels_last(grad) : grad;
  ScanGradients grads{};
  if (view.reads_out)
    grads.y = strided(incoming, view.groups);
  else
    grads.h = strided_states(incoming, view.groups);
  const PreparedPlan prepared(view, scan.wide(), true, {grads.y, grads.h});
  auto gradients = empty_scan_gradients(a);
  auto& [grad_u, grad_delta, grad_A, grad_B, grad_C, grad_D, grad_z, grad_delta_bias] = gradients;
  const auto wide = dtype_of(scan.A);
  const auto coefficients = [&](const Tensor& total, bool varies) {
    return varies ? Parts(total, prepared.extra.plan.blocks, wide)
                  : parts_of(total, prepared, view, wide, true);
  };
  Parts A = parts_of(grad_A, prepared, view, wide, true), B = coefficients(grad_B, view.B_varies);
  Parts C, D, delta_bias;
  if (view.reads_out) C = coefficients(grad_C, view.C_varies);
  if (view.D) D = parts_of(grad_D, prepared, view, wide, false);
  if (view.delta_bias) delta_bias = parts_of(grad_delta_bias, prepared, view, wide, false);

  const OptionalTensor last = as_contiguous(grad_last_state);
  const Tensor kept = as_contiguous(checkpoints);
  Written written;
  grads.last_state = data_or_null(last);
  grads.checkpoints = kept.const_data_ptr();
  grads.u = written(grad_u, view.groups);
  grads.delta = written(grad_delta, view.groups);
  if (view.z.data) grads.z = written(grad_z, view.groups);
  grads.A = A.data();
  grads.B.data = B.data();
  grads.C.data = C.data();
  if (view.B_varies) grads.B = strided_coefficients(B.first(), view.groups);
  if (view.C_varies) grads.C = strided_coefficients(C.first(), view.groups);
  grads.B_part = B.stride();
  grads.C_part = C.stride();
  grads.D = D.data();
  grads.delta_bias = delta_bias.data();
  if (view.batch > 0) {
    for_element(dtype_of(scan.u), [&](auto* type) {
      launch_scan_backward(type, view, grads, prepared.extra, prepared.target);
    });
    MMADAPTOR_LAUNCHED();
    written.copy_back();
  }
  for (Parts* parts : {&A, &B, &C, &D, &delta_bias}) parts->add_up();
  return gradients;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(mmadaptor, MMADAPTOR_DEVICE, m) {
  SelectiveScanOps<forward, backward>::implement(m);
}

}  // namespace mmadaptor::cuda
