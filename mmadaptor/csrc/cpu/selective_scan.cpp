// The selective scan on a CPU: from tensors to the kernels of this processor.
#include "../selective_scan.h"

#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <torch/library.h>

#include "selective_scan_kernel.h"

namespace mmadaptor {
namespace {

// torch's own choice, which ATEN_CPU_CAPABILITY=default|avx2|avx512 overrides.
const ScanKernels& scan_kernels() {
  static const ScanKernels& kernels = []() -> const ScanKernels& {
#if defined(__x86_64__)
    const auto capability = at::get_cpu_capability();
    if (capability == "AVX512") return avx512::scan_kernels;
    if (capability == "AVX2") return avx2::scan_kernels;
#endif
    return baseline::scan_kernels;
  }();
  return kernels;
}

Strided strided(const Tensor& t) {  // (batch, channels, length)
  return {t.data_ptr(), t.stride(0), t.stride(1), t.stride(2), 0};
}

Strided strided_states(const Tensor& t) {  // (batch, channels, states, length)
  return {t.data_ptr(), t.stride(0), t.stride(1), t.stride(3), t.stride(2)};
}

// B or C: (channels, states), (batch, states, length) or (batch, groups, states, length).
Strided strided_coefficients(const Tensor& t) {
  if (t.dim() == 2) return {t.data_ptr(), 0, t.stride(0), 0, t.stride(1)};
  if (t.dim() == 3) return {t.data_ptr(), t.stride(0), 0, t.stride(2), t.stride(1)};
  return strided_states(t);
}

const void* data_or_null(const OptionalTensor& t) {
  return is_present(t) ? t->const_data_ptr() : nullptr;
}

// The kernels' view of the arguments, and what keeps its memory alive.
struct PreparedScan {
  Tensor A, B;
  OptionalTensor C, D, delta_bias;
  Scan scan;

  explicit PreparedScan(const ScanArguments& a, bool delta_softplus) {
    const auto accumulate = accumulate_type(a.u.scalar_type());
    const auto contiguous = [](const OptionalTensor& t) {
      return is_present(t) ? OptionalTensor(t->contiguous()) : std::nullopt;
    };
    A = a.A.contiguous();
    B = a.B.to(accumulate);
    if (is_present(a.C)) C = a.C->to(accumulate);
    D = contiguous(a.D);
    delta_bias = contiguous(a.delta_bias);
    scan.dtype = a.u.scalar_type();
    scan.batch = a.u.size(0);
    scan.channels = a.u.size(1);
    scan.groups = a.groups().expect_int();
    scan.states = A.size(1);
    scan.length = a.u.size(2);
    scan.delta_softplus = delta_softplus;
    scan.reads_out = C.has_value();
    scan.u = strided(a.u);
    scan.delta = strided(a.delta);
    if (is_present(a.z)) scan.z = strided(*a.z);
    scan.B = strided_coefficients(B);
    if (C.has_value()) scan.C = strided_coefficients(*C);
    scan.B_varies = a.B_varies();
    scan.C_varies = a.C_varies();
    scan.A = A.const_data_ptr();
    scan.D = data_or_null(D);
    scan.delta_bias = data_or_null(delta_bias);
  }
};

void run_forward(const Scan& scan, const ScanResults& results) {
  at::parallel_for(0, scan.tasks(), 1, [&](int64_t begin, int64_t end) {
    scan_kernels().forward(scan, results, begin, end);
  });
}

std::tuple<Tensor, Tensor, Tensor> selective_scan(
    const Tensor& u, const Tensor& delta, const Tensor& A, const Tensor& B, const Tensor& C,
    const OptionalTensor& D, const OptionalTensor& z, const OptionalTensor& delta_bias,
    bool delta_softplus) {
  const OptionalTensor readout = C;
  const ScanArguments arguments{u, delta, A, B, readout, D, z, delta_bias};
  check_scan("selective_scan", arguments);
  auto [y, last_state, checkpoints] = empty_scan_results(arguments);
  const PreparedScan prepared(arguments, delta_softplus);
  run_forward(prepared.scan, {strided(y), {}, last_state.data_ptr(), checkpoints.data_ptr()});
  return {y, last_state, checkpoints};
}

std::tuple<Tensor, Tensor> selective_scan_states(const Tensor& u, const Tensor& delta,
                                                 const Tensor& A, const Tensor& B,
                                                 const OptionalTensor& delta_bias,
                                                 bool delta_softplus) {
  const OptionalTensor none;
  const ScanArguments arguments{u, delta, A, B, none, none, none, delta_bias};
  check_scan("selective_scan_states", arguments);
  auto [states, checkpoints] = empty_states_results(arguments);
  const PreparedScan prepared(arguments, delta_softplus);
  run_forward(prepared.scan, {{}, strided_states(states), nullptr, checkpoints.data_ptr()});
  return {states, checkpoints};
}

// Both backward passes. `grad` is that of y, or of the states without a C.
ScanGradientTuple backward(const ScanArguments& a, bool delta_softplus, const Tensor& grad,
                           const OptionalTensor& grad_last_state, const Tensor& checkpoints) {
  const PreparedScan prepared(a, delta_softplus);
  const Scan& scan = prepared.scan;
  const auto zeros = [&](at::IntArrayRef sizes) {
    return at::zeros(sizes, a.accumulate_options());
  };
  // Every task has a part of its own in these sums (see ScanGradients).
  const auto coefficient_parts = [&](bool varies) {
    return varies ? zeros({scan.batch, scan.groups, scan.blocks(), scan.states, scan.length})
                  : zeros({scan.batch, scan.channels, scan.states});
  };
  const auto per_channel = [&](const void* present) {
    return present ? zeros({scan.batch, scan.channels}) : Tensor();
  };
  const Tensor B = coefficient_parts(scan.B_varies);
  const Tensor C = scan.reads_out ? coefficient_parts(scan.C_varies) : Tensor();
  const Tensor A = zeros({scan.batch, scan.channels, scan.states});
  const Tensor D = per_channel(scan.D), delta_bias = per_channel(scan.delta_bias);
  const auto data = [](const Tensor& t) { return t.defined() ? t.data_ptr() : nullptr; };

  auto [grad_u, grad_delta, grad_A, grad_B, grad_C, grad_D, grad_z, grad_delta_bias] =
      empty_scan_gradients(a);
  const OptionalTensor last =
      is_present(grad_last_state) ? OptionalTensor(grad_last_state->contiguous()) : std::nullopt;
  const Tensor kept = checkpoints.contiguous();
  ScanGradients grads{};
  if (scan.reads_out)
    grads.y = strided(grad);
  else
    grads.h = strided_states(grad);
  grads.last_state = data_or_null(last);
  grads.checkpoints = kept.const_data_ptr();
  grads.u = strided(grad_u);
  grads.delta = strided(grad_delta);
  if (is_present(a.z)) grads.z = strided(grad_z);
  grads.A = data(A);
  grads.B = data(B);
  grads.C = data(C);
  grads.D = data(D);
  grads.delta_bias = data(delta_bias);
  at::parallel_for(0, scan.tasks(), 1, [&](int64_t begin, int64_t end) {
    scan_kernels().backward(scan, grads, begin, end);
  });

  const auto add_up = [](const Tensor& parts, int64_t dim, Tensor& into) {
    if (parts.defined()) into.copy_(parts.sum(dim).view_as(into));
  };
  add_up(A, 0, grad_A);
  add_up(B, scan.B_varies ? 2 : 0, grad_B);
  add_up(C, scan.C_varies ? 2 : 0, grad_C);
  add_up(D, 0, grad_D);
  add_up(delta_bias, 0, grad_delta_bias);
  return {grad_u, grad_delta, grad_A, grad_B, grad_C, grad_D, grad_z, grad_delta_bias};
}

ScanGradientTuple selective_scan_backward(
    const Tensor& grad_y, const OptionalTensor& grad_last_state, const Tensor& u,
    const Tensor& delta, const Tensor& A, const Tensor& B, const Tensor& C,
    const OptionalTensor& D, const OptionalTensor& z, const OptionalTensor& delta_bias,
    bool delta_softplus, const Tensor& checkpoints) {
  const OptionalTensor readout = C;
  const ScanArguments arguments{u, delta, A, B, readout, D, z, delta_bias};
  check_scan_gradient("selective_scan_backward", arguments, grad_y, grad_last_state, checkpoints);
  return backward(arguments, delta_softplus, grad_y, grad_last_state, checkpoints);
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> selective_scan_states_backward(
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

}  // namespace

TORCH_LIBRARY_IMPL(mmadaptor, CPU, m) {
  m.impl("selective_scan", selective_scan);
  m.impl("selective_scan_backward", selective_scan_backward);
  m.impl("selective_scan_states", selective_scan_states);
  m.impl("selective_scan_states_backward", selective_scan_states_backward);
}

}  // namespace mmadaptor
