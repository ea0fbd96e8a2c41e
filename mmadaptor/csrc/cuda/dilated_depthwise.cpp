// dilated_depthwise on a GPU: torch's own convolutions, one after the other, in
// float32 at least.
#include "../dilated_depthwise.h"

#include <torch/library.h>

#include "../autocast.h"
#include "call.h"

namespace mmadaptor::cuda {
namespace {

// y is taken as wide as it is, which torch's convolutions would lower.
using AsWideAsItIs = Autocast<at::kCUDA>::Below;

// (batch, channels, height, width), a channels_last view.
Tensor channels_first(const Tensor& y) { return y.permute({0, 3, 1, 2}); }
Tensor channels_last(const Tensor& maps) { return maps.permute({0, 2, 3, 1}); }

// In the kernels' type, which is that of the sums.
Tensor widened(const Tensor& y, const Tensor& kernels) { return y.to(kernels.scalar_type()); }

Tensor dilated_depthwise(const Tensor& y, const Tensor& kernels, at::IntArrayRef dilations) {
  check_dilated_depthwise("dilated_depthwise", y, kernels, dilations);
  const AsWideAsItIs guard;
  const Tensor wide = widened(y, kernels), maps = channels_first(wide),
               weight = kernels.unsqueeze(2);  // (dilations, channels, 1, 3, 3)
  Tensor out = wide;
  for (size_t i = 0; i < dilations.size(); ++i)
    out = out + channels_last(at::conv2d(maps, weight[static_cast<int64_t>(i)], {}, 1, dilations[i],
                                         dilations[i], y.size(3)));
  return out.to(y.scalar_type()).contiguous();
}

std::tuple<Tensor, Tensor> dilated_depthwise_backward(const Tensor& grad, const Tensor& y,
                                                      const Tensor& kernels,
                                                      at::IntArrayRef dilations) {
  check_dilated_depthwise_gradient(grad, y, kernels, dilations);
  const AsWideAsItIs guard;
  const Tensor wide = widened(grad, kernels), grad_maps = channels_first(wide),
               maps = channels_first(widened(y, kernels)), weight = kernels.unsqueeze(2),
               grad_kernels = empty_contiguous(kernels);
  Tensor grad_y = wide;
  for (size_t i = 0; i < dilations.size(); ++i) {
    const int64_t r = dilations[i], at = static_cast<int64_t>(i);
    const auto [grad_seen, grad_weight, none] =
        at::convolution_backward(grad_maps, maps, weight[at], std::nullopt, {1, 1}, {r, r}, {r, r},
                                 false, {0, 0}, y.size(3), {true, true, false});
    grad_y = grad_y + channels_last(grad_seen);
    grad_kernels[at].copy_(grad_weight.squeeze(1));
  }
  return {grad_y.to(y.scalar_type()).contiguous(), grad_kernels};
}

}  // namespace

TORCH_LIBRARY_IMPL(mmadaptor, MMADAPTOR_DEVICE, m) {
  m.impl("dilated_depthwise", dilated_depthwise);
  m.impl("dilated_depthwise_backward", dilated_depthwise_backward);
}

}  // namespace mmadaptor::cuda
