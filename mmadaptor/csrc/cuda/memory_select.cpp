// SPDX-License-Identifier: Apache-2.0
// CUDA host code of memory_select: passes tensors to the kernels.
#include "../memory_select_arguments.h"

#include "memory_select_launch.h"
#include "torch_device.h"

namespace mmadaptor::cuda {
namespace {

MemorySelect prepare(const Tensor& states, const Tensor& locations, const Tensor& weights) {
  const int64_t groups = weights.size(4);
  return {states.size(0),
          states.size(1),
          states.size(2),
          states.size(3) * groups,
          states.size(4) / groups * states.size(5),
          weights.size(5),
          states.const_data_ptr(),
          locations.const_data_ptr(),
          weights.const_data_ptr()};
}

// Calls `visit` with a null pointer whose type is that of the states.
template <typename Visit>
void for_states(const Tensor& states, const Visit& visit) {
  if (dtype_of(states) == ScalarType::Double)
    visit(static_cast<double*>(nullptr));
  else
    visit(static_cast<float*>(nullptr));
}

Tensor memory_select(const Tensor& states, const Tensor& locations, const Tensor& weights) {
  check_memory_select("memory_select", states, locations, weights);
  const DeviceGuard guard(states);
  const Tensor h = as_contiguous(states), places = as_contiguous(locations),
               shares = as_contiguous(weights);
  const auto op = prepare(h, places, shares);
  const Tensor memory = empty_contiguous(states);
  if (memory.numel() > 0) {
    for_states(h, [&](auto* type) {
      launch_memory_select(type, op, memory.mutable_data_ptr(), current_target());
    });
    MMADAPTOR_LAUNCHED();
  }
  return memory;
}

std::tuple<Tensor, Tensor, Tensor> memory_select_backward(const Tensor& grad_memory,
                                                          const Tensor& states,
                                                          const Tensor& locations,
                                                          const Tensor& weights) {
  check_memory_select_gradient(grad_memory, states, locations, weights);
  const DeviceGuard guard(states);
  const Tensor h = as_contiguous(states), places = as_contiguous(locations),
               shares = as_contiguous(weights), incoming = as_contiguous(grad_memory);
  const auto op = prepare(h, places, shares);
  auto results = empty_memory_select_gradients(states, locations, weights);
  auto& [grad_states, grad_locations, grad_weights] = results;
  if (grad_states.numel() > 0) {
    const MemorySelectGradients grads{incoming.const_data_ptr(), grad_states.mutable_data_ptr(),
                                      grad_locations.mutable_data_ptr(),
                                      grad_weights.mutable_data_ptr()};
    for_states(
        h, [&](auto* type) { launch_memory_select_backward(type, op, grads, current_target()); });
    MMADAPTOR_LAUNCHED();
  }
  return results;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(mmadaptor, MMADAPTOR_DEVICE, m) {
  m.impl("memory_select", TORCH_BOX(&memory_select));
  m.impl("memory_select_backward", TORCH_BOX(&memory_select_backward));
}

}  // namespace mmadaptor::cuda
