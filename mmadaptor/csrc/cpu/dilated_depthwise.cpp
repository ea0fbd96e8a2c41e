// SPDX-License-Identifier: Apache-2.0
// CPU host code of dilated_depthwise: passes tensors to the kernels for this processor.
#include "../dilated_depthwise_arguments.h"

#include "dilated_depthwise_kernel.h"

namespace mmadaptor {
namespace {

// The kernels' view of the arguments, and the tensors that own its memory.
struct PreparedDilatedDepthwise {
  Tensor y, kernels;
  DilatedDepthwise op;

  PreparedDilatedDepthwise(const Tensor& y_, const Tensor& kernels_,
                           const std::vector<int64_t>& dilations)
      : y(as_contiguous(y_)), kernels(as_contiguous(permuted(kernels_, {0, 2, 3, 1}))) {
    op.dtype = dtype_of(y);
    op.batch = y.size(0);
    op.height = y.size(1);
    op.width = y.size(2);
    op.channels = y.size(3);
    op.dilations = dilations.data();
    op.count = static_cast<int64_t>(dilations.size());
    op.kernels = kernels.const_data_ptr();
  }
};

Tensor dilated_depthwise(const Tensor& y, const Tensor& kernels,
                         const std::vector<int64_t>& dilations) {
  check_dilated_depthwise("dilated_depthwise", y, kernels, dilations);
  const Tensor out = empty_contiguous(y);
  const PreparedDilatedDepthwise prepared(y, kernels, dilations);
  torch::stable::parallel_for(0, prepared.op.tasks(), 1, [&](int64_t begin, int64_t end) {
    dilated_depthwise_kernels().forward(prepared.op, prepared.y.const_data_ptr(),
                                        out.mutable_data_ptr(), begin, end);
  });
  return out;
}

std::tuple<Tensor, Tensor> dilated_depthwise_backward(const Tensor& grad, const Tensor& y,
                                                      const Tensor& kernels,
                                                      const std::vector<int64_t>& dilations) {
  check_dilated_depthwise_gradient(grad, y, kernels, dilations);
  const Tensor grad_y = empty_contiguous(y);
  const PreparedDilatedDepthwise prepared(y, kernels, dilations);
  const Tensor incoming = as_contiguous(grad), grad_taps = empty_contiguous(prepared.kernels);
  Parts parts(grad_taps, prepared.op.patches(), dtype_of(grad_taps));
  const DilatedDepthwiseGradients grads{incoming.const_data_ptr(), prepared.y.const_data_ptr(),
                                        grad_y.mutable_data_ptr(), parts.data()};
  torch::stable::parallel_for(0, prepared.op.tasks(), 1, [&](int64_t begin, int64_t end) {
    dilated_depthwise_kernels().backward(prepared.op, grads, begin, end);
  });
  parts.add_up();
  return {grad_y, as_contiguous(permuted(grad_taps, {0, 3, 1, 2}))};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(mmadaptor, CPU, m) {
  m.impl("dilated_depthwise", TORCH_BOX(&dilated_depthwise));
  m.impl("dilated_depthwise_backward", TORCH_BOX(&dilated_depthwise_backward));
}

}  // namespace mmadaptor
