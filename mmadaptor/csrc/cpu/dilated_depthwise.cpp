// SPDX-License-Identifier: Apache-2.0
// CPU host code of dilated_depthwise: passes tensors to the kernels for this processor.
#include "../dilated_depthwise_arguments.h"

#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <torch/library.h>

#include "../scan_tensors.h"
#include "dilated_depthwise_kernel.h"

namespace mmadaptor {
namespace {

// Uses torch's choice of instruction set; ATEN_CPU_CAPABILITY=default|avx2|avx512
// overrides it.
const DilatedDepthwiseKernels& dilated_depthwise_kernels() {
  static const DilatedDepthwiseKernels& kernels = []() -> const DilatedDepthwiseKernels& {
#if defined(__x86_64__)
    const auto capability = at::get_cpu_capability();
    if (capability == "AVX512" || capability == "AVX2") return avx2::dilated_depthwise_kernels;
#endif
    return baseline::dilated_depthwise_kernels;
  }();
  return kernels;
}

// The kernels' view of the arguments, and the tensors that own its memory.
struct PreparedDilatedDepthwise {
  Tensor y, kernels;
  DilatedDepthwise op;

  PreparedDilatedDepthwise(const Tensor& y_, const Tensor& kernels_, at::IntArrayRef dilations)
      : y(y_.contiguous()), kernels(kernels_.permute({0, 2, 3, 1}).contiguous()) {
    op.dtype = y.scalar_type();
    op.batch = y.size(0);
    op.height = y.size(1);
    op.width = y.size(2);
    op.channels = y.size(3);
    op.dilations = dilations.data();
    op.count = static_cast<int64_t>(dilations.size());
    op.kernels = kernels.const_data_ptr();
  }
};

Tensor dilated_depthwise(const Tensor& y, const Tensor& kernels, at::IntArrayRef dilations) {
  check_dilated_depthwise("dilated_depthwise", y, kernels, dilations);
  const Tensor out = empty_contiguous(y);
  const PreparedDilatedDepthwise prepared(y, kernels, dilations);
  at::parallel_for(0, prepared.op.tasks(), 1, [&](int64_t begin, int64_t end) {
    dilated_depthwise_kernels().forward(prepared.op, prepared.y.const_data_ptr(), out.data_ptr(),
                                        begin, end);
  });
  return out;
}

std::tuple<Tensor, Tensor> dilated_depthwise_backward(const Tensor& grad, const Tensor& y,
                                                      const Tensor& kernels,
                                                      at::IntArrayRef dilations) {
  check_dilated_depthwise_gradient(grad, y, kernels, dilations);
  const Tensor grad_y = empty_contiguous(y);
  const PreparedDilatedDepthwise prepared(y, kernels, dilations);
  const Tensor incoming = grad.contiguous(), grad_taps = at::empty_like(prepared.kernels);
  Parts parts(grad_taps, prepared.op.patches(), grad_taps.scalar_type());
  const DilatedDepthwiseGradients grads{incoming.const_data_ptr(), prepared.y.const_data_ptr(),
                                        grad_y.data_ptr(), parts.data()};
  at::parallel_for(0, prepared.op.tasks(), 1, [&](int64_t begin, int64_t end) {
    dilated_depthwise_kernels().backward(prepared.op, grads, begin, end);
  });
  parts.add_up();
  return {grad_y, grad_taps.permute({0, 3, 1, 2}).contiguous()};
}

}  // namespace

TORCH_LIBRARY_IMPL(mmadaptor, CPU, m) {
  m.impl("dilated_depthwise", dilated_depthwise);
  m.impl("dilated_depthwise_backward", dilated_depthwise_backward);
}

}  // namespace mmadaptor
