// SPDX-License-Identifier: Apache-2.0
// Device-independent parts of dilated_depthwise: schemas and fake (Meta) kernels. There is
// no autocast rule: the op accepts y in its own dtype.
#include "dilated_depthwise_arguments.h"

#include <torch/library.h>

namespace mmadaptor {

TORCH_LIBRARY_FRAGMENT(mmadaptor, m) {
  m.def("dilated_depthwise(Tensor y, Tensor kernels, int[] dilations) -> Tensor");
  m.def(
      "dilated_depthwise_backward(Tensor grad, Tensor y, Tensor kernels, int[] dilations) -> "
      "(Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(mmadaptor, Meta, m) {
  m.impl("dilated_depthwise",
         [](const Tensor& y, const Tensor& kernels, at::IntArrayRef dilations) {
           check_dilated_depthwise("dilated_depthwise", y, kernels, dilations);
           return empty_contiguous(y);
         });
  m.impl("dilated_depthwise_backward",
         [](const Tensor& grad, const Tensor& y, const Tensor& kernels, at::IntArrayRef dilations) {
           check_dilated_depthwise_gradient(grad, y, kernels, dilations);
           return empty_dilated_depthwise_gradients(y, kernels);
         });
}

}  // namespace mmadaptor
