// SPDX-License-Identifier: Apache-2.0
// CPU host code of the 2-D scan: passes the maps to the kernels, which traverse them in
// place.
#include "../cross_selective_scan_ops.h"
#include "add_up.h"
#include "scan_tasks.h"

namespace mmadaptor {
namespace {

// The kernels support any strides, but are fast only if channels are contiguous.
Tensor channels_last(const Tensor& t) { return t.stride(-1) == 1 ? t : as_contiguous(t); }

// The kernels' view of the arguments, and the tensors that own its memory.
struct PreparedScan {
  Tensor x, delta, A, B;
  OptionalTensor C, D, delta_bias;
  Scan scan;

  PreparedScan(const CrossArguments& a, bool delta_softplus, bool gives_states)
      : x(channels_last(a.x)),
        delta(channels_last(a.delta)),
        A(as_contiguous(a.A)),
        B(as_dtype(a.B, a.wide())),
        D(as_contiguous(a.D)),
        delta_bias(as_contiguous(a.delta_bias)) {
    if (is_present(a.C)) C = as_dtype(*a.C, a.wide());
    scan.dtype = dtype_of(x);
    scan.sum_dtype = a.wide();
    scan.batch = x.size(0);
    scan.groups = kDirections;
    scan.channels = x.size(3);
    scan.states = A.size(2);
    scan.height = x.size(1);
    scan.width = x.size(2);
    scan.crosses = true;
    scan.delta_softplus = delta_softplus;
    scan.reads_out = C.has_value();
    scan.gives_states = gives_states;
    scan.u = strided(x);
    scan.delta = strided_directed(delta);
    scan.B = strided_coefficients(B);
    if (C.has_value()) scan.C = strided_coefficients(*C);
    scan.B_varies = true;
    scan.C_varies = C.has_value();
    scan.A = A.const_data_ptr();
    scan.D = data_or_null(D);
    scan.delta_bias = data_or_null(delta_bias);
    // A task takes all four directions, unless this would leave threads idle.
    scan.sharing = kDirections;
    if (scan.tasks() < static_cast<int64_t>(torch::stable::get_num_threads())) scan.sharing = 1;
  }
};

// A map that is the sum over the directions. It is either accumulated in place by the
// task that walks all directions, or summed from one map per direction. Both give
// bit-identical results.
class DirectionSum {
 public:
  DirectionSum(const Scan& scan, const Tensor& total) : total_(total) {
    if (scan.sharing != 1 && scan.sum_dtype == scan.dtype) return;
    auto sizes = sizes_of(total);
    sizes.insert(sizes.begin(), scan.sharing == 1 ? kDirections : 1);
    parts_ = empty_tensor(sizes, scan.sum_dtype, total);
  }

  Strided strided_parts() const {
    if (!parts_) return strided(total_);
    auto part = strided(torch::stable::select(*parts_, 0, 0));
    if (parts_->size(0) > 1) part.group = parts_->stride(0);
    return part;
  }

  void add_up() const {
    if (!parts_) return;
    if (parts_->size(0) > 1) add_to_first(*parts_);
    copy_to(torch::stable::select(*parts_, 0, 0), total_);
  }

 private:
  Tensor total_;
  OptionalTensor parts_;
};

std::tuple<Tensor, Tensor, Tensor> forward(const CrossArguments& arguments, bool delta_softplus,
                                           bool return_states) {
  auto results = empty_cross_results(arguments, return_states);
  auto& [y, states, checkpoints] = results;
  const PreparedScan prepared(arguments, delta_softplus, return_states);
  const Scan& scan = prepared.scan;
  ScanResults out{};
  out.checkpoints = checkpoints.mutable_data_ptr();
  if (return_states) out.h = strided_states(states);
  if (scan.reads_out) {
    DirectionSum sum(scan, y);
    out.y = sum.strided_parts();
    run(scan_kernels().forward, scan, out);
    sum.add_up();
  } else {
    run(scan_kernels().forward, scan, out);
  }
  return results;
}

CrossGradients backward(const CrossArguments& a, bool delta_softplus, const OptionalTensor& grad_y,
                        const OptionalTensor& grad_states, const Tensor& checkpoints) {
  const PreparedScan prepared(a, delta_softplus, is_present(grad_states));
  const Scan& scan = prepared.scan;
  auto gradients = empty_cross_gradients(a);
  auto& [grad_x, grad_delta, grad_A, grad_B, grad_C, grad_D, grad_delta_bias] = gradients;
  Parts A(grad_A, scan.batch, scan.sum_dtype), B(grad_B, scan.blocks(), scan.sum_dtype), C, D,
      delta_bias;
  if (scan.reads_out) C = Parts(grad_C, scan.blocks(), scan.sum_dtype);
  if (scan.D) D = Parts(grad_D, scan.batch, scan.sum_dtype);
  if (scan.delta_bias) delta_bias = Parts(grad_delta_bias, scan.batch, scan.sum_dtype);
  DirectionSum sum(scan, grad_x);

  const Tensor kept = as_contiguous(checkpoints);
  OptionalTensor incoming_y;
  if (scan.reads_out) incoming_y = channels_last(*grad_y);
  ScanGradients grads{};
  if (scan.reads_out) grads.y = strided(*incoming_y);
  if (scan.gives_states) grads.h = strided_states(*grad_states);
  grads.checkpoints = kept.const_data_ptr();
  grads.u = sum.strided_parts();
  grads.delta = strided_directed(grad_delta);
  grads.A = A.data();
  grads.B = strided_coefficients(B.first());
  if (scan.reads_out) grads.C = strided_coefficients(C.first());
  grads.B_part = B.stride();
  grads.C_part = C.stride();
  grads.D = D.data();
  grads.delta_bias = delta_bias.data();
  run(scan_kernels().backward, scan, grads);
  sum.add_up();
  for (Parts* parts : {&A, &B, &C, &D, &delta_bias}) parts->add_up();
  return gradients;
}

Readout prepare_readout(const Tensor& h, const Tensor& C) {
  return {dtype_of(h),        h.size(3), h.size(4), h.size(5), h.const_data_ptr(),
          C.const_data_ptr(), nullptr,   nullptr,   nullptr,   nullptr};
}

constexpr int64_t kPixels = 64;  // minimum pixels per thread (grain size)

// Calls `kernel` for all pixels of C, (batch, height, width, 4, states).
template <typename Kernel>
void for_pixels(const Tensor& C, const Kernel& kernel) {
  torch::stable::parallel_for(0, C.size(0) * C.size(1) * C.size(2), kPixels, kernel);
}

Tensor cross_readout(const Tensor& states, const Tensor& C) {
  check_readout("cross_readout", states, C);
  const Tensor h = as_contiguous(states), wide_C = as_contiguous(as_dtype(C, dtype_of(h)));
  const Tensor y = empty_tensor(sizes_of_readout(h), dtype_of(h), h);
  auto readout = prepare_readout(h, wide_C);
  readout.y = y.mutable_data_ptr();
  for_pixels(wide_C,
             [&](int64_t begin, int64_t end) { scan_kernels().readout(readout, begin, end); });
  return as_dtype(y, dtype_of(C));
}

std::tuple<Tensor, Tensor> cross_readout_backward(const Tensor& grad_y, const Tensor& states,
                                                  const Tensor& C) {
  check_readout_gradient("cross_readout_backward", grad_y, states, C);
  const Tensor h = as_contiguous(states), wide_C = as_contiguous(as_dtype(C, dtype_of(h))),
               grad = as_contiguous(as_dtype(grad_y, dtype_of(h)));
  const Tensor grad_states = empty_contiguous(h), grad_C = empty_contiguous(wide_C);
  auto readout = prepare_readout(h, wide_C);
  readout.grad_y = grad.const_data_ptr();
  readout.grad_h = grad_states.mutable_data_ptr();
  readout.grad_C = grad_C.mutable_data_ptr();
  for_pixels(wide_C, [&](int64_t begin, int64_t end) {
    scan_kernels().readout_backward(readout, begin, end);
  });
  return {grad_states, as_dtype(grad_C, dtype_of(C))};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(mmadaptor, CPU, m) {
  CrossScanOps<forward, backward>::implement(m);
  m.impl("cross_readout", TORCH_BOX(&cross_readout));
  m.impl("cross_readout_backward", TORCH_BOX(&cross_readout_backward));
}

}  // namespace mmadaptor
