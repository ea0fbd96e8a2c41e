// SPDX-License-Identifier: Apache-2.0
// memory_readout on CUDA: calls memory_select and cross_readout in turn.
#include "../memory_readout_arguments.h"

#include <torch/library.h>

#include "torch_device.h"

namespace mmadaptor::cuda {
namespace {

using Three = std::tuple<Tensor, Tensor, Tensor>;

template <typename Signature>
auto op_named(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>();
}

// The arguments of the equivalent calls of memory_select and cross_readout.
struct Composition {
  Tensor states, locations, weights, C;
  Tensor granularity;  // (groups, 1, 1)
  int64_t offsets;     // number of predicted offsets; the logits follow

  Composition(const Tensor& values, const Tensor& predicted, at::ArrayRef<double> granularities,
              const Tensor& coefficients)
      : states(values.unsqueeze(-1)), C(coefficients.unsqueeze(-1)) {
    const auto groups = static_cast<int64_t>(granularities.size());
    offsets = predicted.size(4) / 3 * 2;
    // Created on the device: a copy from the host would synchronize.
    std::vector<Tensor> numbers;
    for (const double number : granularities)
      numbers.push_back(at::full({1, 1}, number, values.options()));
    granularity = at::stack(numbers);
    const auto count = [&](int64_t size) { return at::arange(size, values.options()); };
    const Tensor grid =
        at::stack(at::meshgrid({count(values.size(1)), count(values.size(2))}, "ij"), -1);
    locations = grid.view({values.size(1), values.size(2), 1, 1, 1, 2}) +
                granularity * predicted.narrow(-1, 0, offsets).unflatten(-1, {groups, -1, 2});
    weights = predicted.narrow(-1, offsets, offsets / 2).unflatten(-1, {groups, -1}).softmax(-1);
  }

  Tensor memory() const {
    static const auto op =
        op_named<Tensor(const Tensor&, const Tensor&, const Tensor&)>("mmadaptor::memory_select");
    return op.call(states, locations, weights);
  }
};

Tensor memory_readout(const Tensor& values, const Tensor& predicted,
                      at::ArrayRef<double> granularities, const Tensor& coefficients) {
  check_memory_readout("memory_readout", values, predicted, granularities, coefficients);
  const DeviceGuard guard(values.device());
  const Composition composition(values, predicted, granularities, coefficients);
  static const auto readout =
      op_named<Tensor(const Tensor&, const Tensor&)>("mmadaptor::cross_readout");
  return readout.call(composition.memory(), composition.C);
}

Three memory_readout_backward(const Tensor& grad_y, const Tensor& values, const Tensor& predicted,
                              at::ArrayRef<double> granularities, const Tensor& coefficients) {
  check_memory_readout_gradient(grad_y, values, predicted, granularities, coefficients);
  const DeviceGuard guard(values.device());
  const Composition composition(values, predicted, granularities, coefficients);
  static const auto readout_backward =
      op_named<std::tuple<Tensor, Tensor>(const Tensor&, const Tensor&, const Tensor&)>(
          "mmadaptor::cross_readout_backward");
  static const auto select_backward =
      op_named<Three(const Tensor&, const Tensor&, const Tensor&, const Tensor&)>(
          "mmadaptor::memory_select_backward");
  const auto [grad_memory, grad_C] =
      readout_backward.call(grad_y, composition.memory(), composition.C);
  const auto [grad_states, grad_locations, grad_weights] = select_backward.call(
      grad_memory, composition.states, composition.locations, composition.weights);
  const Tensor grad_offsets = composition.granularity * grad_locations,
               grad_logits = at::_softmax_backward_data(grad_weights, composition.weights, -1,
                                                        values.scalar_type());
  return {grad_states.squeeze(-1), at::cat({grad_offsets.flatten(4), grad_logits.flatten(4)}, -1),
          grad_C.squeeze(-1)};
}

}  // namespace

TORCH_LIBRARY_IMPL(mmadaptor, MMADAPTOR_DEVICE, m) {
  m.impl("memory_readout", memory_readout);
  m.impl("memory_readout_backward", memory_readout_backward);
}

}  // namespace mmadaptor::cuda
