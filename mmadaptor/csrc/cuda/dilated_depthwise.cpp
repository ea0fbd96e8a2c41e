// SPDX-License-Identifier: Apache-2.0
// CUDA host code of dilated_depthwise: passes tensors to the kernels.
#include "../dilated_depthwise_arguments.h"

#include "dilated_depthwise_launch.h"
#include "torch_device.h"

namespace mmadaptor::cuda {
namespace {

// Minimum tiles per part (approximately).
constexpr int64_t kTilesOfPart = 2;

// The sizes; the caller adds the tensors.
DilatedDepthwise prepare(const Tensor& y, const std::vector<int64_t>& dilations) {
  // The grid has 65535 blocks of channels at most.
  constexpr int64_t kMostChannels = 65535 * DepthwiseTiles::kChannels;
  require(y.size(3) <= kMostChannels, "dilated_depthwise: `y` must have at most ", kMostChannels,
          " channels on a GPU, got ", y.size(3));
  // The kernels number rows and columns by 32 bits, to a dilation beyond the map, and the
  // bytes of a tile with these around it have to fit into 64 bits.
  constexpr int64_t kMostSide = 1 << 26;
  const int64_t side = std::max(y.size(1), y.size(2));
  require(side <= kMostSide, "dilated_depthwise on CUDA: `y` must have at most ", kMostSide,
          " rows and columns, got ", y.size(1), " x ", y.size(2));
  DilatedDepthwise op{};
  op.batch = y.size(0);
  op.channels = static_cast<int>(y.size(3));
  op.height = static_cast<int>(y.size(1));
  op.width = static_cast<int>(y.size(2));
  op.count = static_cast<int>(dilations.size());
  // All dilations beyond the size of the map are equivalent.
  for (int i = 0; i < op.count; ++i)
    op.dilations[i] = static_cast<int>(std::min<int64_t>(dilations[i], side));
  return op;
}

DepthwiseTiles plan(const DilatedDepthwise& op, const Tensor& y, bool of_kernels,
                    const Target& target) {
  const DepthwiseTiles tiles = plan_tiles(op, y.element_size(), of_kernels, target);
  check_count("dilated_depthwise", "batch x tiles of a map", tiles.in_all(op));
  return tiles;
}

// (dilations, 3, 3, channels), from (dilations, channels, 3, 3).
Tensor channels_last(const Tensor& kernels) {
  return as_contiguous(permuted(kernels, {0, 2, 3, 1}));
}

Tensor dilated_depthwise(const Tensor& y, const Tensor& kernels,
                         const std::vector<int64_t>& dilations) {
  check_dilated_depthwise("dilated_depthwise", y, kernels, dilations);
  const DeviceGuard guard(y);
  auto op = prepare(y, dilations);
  const Target target = current_target();
  const DepthwiseTiles tiles = plan(op, y, false, target);
  const Tensor map = as_contiguous(y), weights = channels_last(kernels), out = empty_contiguous(y);
  if (out.numel() > 0) {
    op.y = map.const_data_ptr();
    op.kernels = weights.const_data_ptr();
    op.out = out.mutable_data_ptr();
    for_element(dtype_of(y),
                [&](auto* type) { launch_dilated_depthwise(type, op, tiles, false, target); });
    MMADAPTOR_LAUNCHED();
  }
  return out;
}

std::tuple<Tensor, Tensor> dilated_depthwise_backward(const Tensor& grad, const Tensor& y,
                                                      const Tensor& kernels,
                                                      const std::vector<int64_t>& dilations) {
  check_dilated_depthwise_gradient(grad, y, kernels, dilations);
  const DeviceGuard guard(y);
  auto op = prepare(y, dilations);
  const Target target = current_target();
  const DepthwiseTiles tiles = plan(op, y, false, target),
                       tiles_of_kernels = plan(op, y, true, target);
  const Tensor map = as_contiguous(y), gradient = as_contiguous(grad),
               weights = channels_last(kernels);
  Tensor grad_y = empty_contiguous(y), grad_kernels = empty_contiguous(kernels);
  if (y.numel() == 0) return {grad_y, torch::stable::zero_(grad_kernels)};
  op.y = gradient.const_data_ptr();
  op.kernels = weights.const_data_ptr();
  op.out = grad_y.mutable_data_ptr();
  for_element(dtype_of(y),
              [&](auto* type) { launch_dilated_depthwise(type, op, tiles, true, target); });
  MMADAPTOR_LAUNCHED();

  // The number of parts depends only on the shapes and the device, so results are
  // reproducible bit for bit.
  op.y = map.const_data_ptr();
  op.grad = gradient.const_data_ptr();
  const int64_t blocks = divide_up(op.channels, DepthwiseTiles::kChannels);
  op.parts =
      static_cast<int>(std::clamp<int64_t>(divide_up(4 * target.processors, blocks), 1,
                                           divide_up(tiles_of_kernels.in_all(op), kTilesOfPart)));
  const Tensor parts =
      empty_tensor({op.parts, op.count, 3, 3, op.channels}, dtype_of(weights), weights);
  op.grad_kernels = parts.mutable_data_ptr();
  for_element(dtype_of(y), [&](auto* type) {
    launch_dilated_depthwise_kernels(type, op, tiles_of_kernels, target);
  });
  MMADAPTOR_LAUNCHED();
  add_parts(parts, permuted(grad_kernels, {0, 2, 3, 1}));
  return {grad_y, grad_kernels};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(mmadaptor, MMADAPTOR_DEVICE, m) {
  m.impl("dilated_depthwise", TORCH_BOX(&dilated_depthwise));
  m.impl("dilated_depthwise_backward", TORCH_BOX(&dilated_depthwise_backward));
}

}  // namespace mmadaptor::cuda
