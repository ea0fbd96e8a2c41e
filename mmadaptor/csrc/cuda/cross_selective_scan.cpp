// SPDX-License-Identifier: Apache-2.0
// CUDA host code of the 2-D scan: passes the maps to the kernels, which traverse them in
// place.
#include "../cross_selective_scan_ops.h"
#include "scan_workspace.h"

namespace mmadaptor::cuda {
namespace {

// The kernels require that the rows of a map follow one another in memory.
Tensor in_rows(const Tensor& t) {
  const bool follows = t.size(1) == 1 || t.size(2) == 1 || t.stride(1) == t.size(2) * t.stride(2);
  return follows ? t : as_contiguous(t);
}

// Coalesced access also requires contiguous channels.
Tensor channels_last(const Tensor& t) { return t.stride(-1) == 1 ? in_rows(t) : as_contiguous(t); }

// The kernels' view of the arguments, and the tensors that own its memory.
struct PreparedScan {
  Tensor x, delta, A, B;
  OptionalTensor C, D, delta_bias;
  ScanView view;

  PreparedScan(const CrossArguments& a, bool delta_softplus, bool gives_states)
      : x(channels_last(a.x)),
        delta(channels_last(a.delta)),
        A(as_contiguous(a.A)),
        B(in_rows(a.B)),
        D(as_contiguous(a.D)),
        delta_bias(as_contiguous(a.delta_bias)) {
    if (is_present(a.C)) C = in_rows(*a.C);
    view.batch = x.size(0);
    view.groups = kDirections;
    view.channels = x.size(3);
    view.states = A.size(2);
    view.height = x.size(1);
    view.width = x.size(2);
    view.crosses = true;
    view.delta_softplus = delta_softplus;
    view.reads_out = C.has_value();
    view.gives_states = gives_states;
    view.u = strided(x);
    view.delta = strided_directed(delta);
    view.B = strided_coefficients(B);
    if (C.has_value()) view.C = strided_coefficients(*C);
    view.B_varies = true;
    view.C_varies = C.has_value();
    view.A = A.const_data_ptr();
    view.D = data_or_null(D);
    view.delta_bias = data_or_null(delta_bias);
  }

  // A tensor of the dtype in which the kernels accumulate.
  const Tensor& wide() const { return A; }
};

// A map that is the sum over the directions. It is accumulated in shared memory or in a
// separate map until the last direction, or summed from one map per direction.
class DirectionSum {
 public:
  DirectionSum(const Tensor& total, const ScanPlan& plan, const Tensor& wide) : total_(total) {
    auto sizes = sizes_of(total);
    if (plan.sharing == 1) sizes.insert(sizes.begin(), kDirections);
    if (plan.sharing == 1 || (!plan.sums_in_shared && dtype_of(total) != dtype_of(wide)))
      sum_ = empty_tensor(sizes, dtype_of(wide), wide);
    else if (!plan.sums_in_shared)
      sum_ = total;
  }

  Strided sum() const {
    if (!sum_) return {};
    if (!has_parts()) return strided(*sum_);
    auto part = strided(torch::stable::select(*sum_, 0, 0));
    part.group = sum_->stride(0);
    return part;
  }
  Strided result() const { return has_parts() ? Strided{} : strided(total_); }
  void add_up() const {
    if (has_parts()) add_parts(*sum_, total_);
  }

 private:
  // Whether each direction has a map of its own.
  bool has_parts() const { return sum_ && sum_->dim() > total_.dim(); }

  Tensor total_;
  OptionalTensor sum_;
};

std::tuple<Tensor, Tensor, Tensor> forward(const CrossArguments& arguments, bool delta_softplus,
                                           bool return_states) {
  const DeviceGuard guard(arguments.x);
  if (arguments.x.numel() == 0) return empty_cross_results(arguments, return_states);
  const PreparedScan scan(arguments, delta_softplus, return_states);
  PreparedPlan prepared(scan.view, scan.wide(), false);
  auto results = empty_cross_results(arguments, return_states);
  auto& [y, states, checkpoints] = results;
  ScanResults out{};
  out.checkpoints = checkpoints.mutable_data_ptr();
  if (return_states) out.h = strided_states(states);
  std::optional<DirectionSum> sum;
  if (scan.view.reads_out) {
    sum.emplace(y, prepared.extra.plan, scan.wide());
    prepared.extra.sum = sum->sum();
    out.y = sum->result();
  }
  for_element(dtype_of(scan.x), [&](auto* type) {
    launch_scan(type, scan.view, out, prepared.extra, prepared.target);
  });
  MMADAPTOR_LAUNCHED();
  if (sum) sum->add_up();
  return results;
}

// The parts of the gradient of B or C. Each is (batch, 4, states, height, width), so that
// the values of neighboring steps are adjacent in memory.
Parts coefficient_parts(const Tensor& total, const ScanPlan& plan, ScalarType wide) {
  return {permuted(total, {0, 3, 4, 1, 2}), plan.blocks, wide};
}

Strided strided_part(const Parts& parts) {
  return strided_coefficients(permuted(parts.first(), {0, 3, 4, 1, 2}));
}

CrossGradients backward(const CrossArguments& a, bool delta_softplus, const OptionalTensor& grad_y,
                        const OptionalTensor& grad_states, const Tensor& checkpoints) {
  const DeviceGuard guard(a.x);
  const PreparedScan scan(a, delta_softplus, is_present(grad_states));
  const ScanView& view = scan.view;
  OptionalTensor incoming_y, incoming_states;
  if (view.reads_out) incoming_y = channels_last(*grad_y);
  if (view.gives_states) incoming_states = in_rows(*grad_states);
  ScanGradients grads{};
  if (view.reads_out) grads.y = strided(*incoming_y);
  if (view.gives_states) grads.h = strided_states(*incoming_states);
  PreparedPlan prepared(view, scan.wide(), true, {grads.y, grads.h});
  auto gradients = empty_cross_gradients(a);
  auto& [grad_x, grad_delta, grad_A, grad_B, grad_C, grad_D, grad_delta_bias] = gradients;
  const ScanPlan& plan = prepared.extra.plan;
  const auto wide = dtype_of(scan.A);
  Parts A = parts_of(grad_A, prepared, view, wide, true);
  Parts B = coefficient_parts(grad_B, plan, wide), C, D, delta_bias;
  if (view.reads_out) C = coefficient_parts(grad_C, plan, wide);
  if (view.D) D = parts_of(grad_D, prepared, view, wide, false);
  if (view.delta_bias) delta_bias = parts_of(grad_delta_bias, prepared, view, wide, false);
  const DirectionSum sum(grad_x, plan, scan.wide());

  const Tensor kept = as_contiguous(checkpoints);
  grads.checkpoints = kept.const_data_ptr();
  grads.u = sum.result();
  prepared.extra.sum = sum.sum();
  grads.delta = strided_directed(grad_delta);
  grads.A = A.data();
  grads.B = strided_part(B);
  if (view.reads_out) grads.C = strided_part(C);
  grads.B_part = B.stride();
  grads.C_part = C.stride();
  grads.D = D.data();
  grads.delta_bias = delta_bias.data();
  if (view.batch > 0) {
    for_element(dtype_of(scan.x), [&](auto* type) {
      launch_scan_backward(type, view, grads, prepared.extra, prepared.target);
    });
    MMADAPTOR_LAUNCHED();
    sum.add_up();
  }
  for (Parts* parts : {&A, &B, &C, &D, &delta_bias}) parts->add_up();
  return gradients;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(mmadaptor, MMADAPTOR_DEVICE, m) {
  CrossScanOps<forward, backward>::implement(m);
}

}  // namespace mmadaptor::cuda
