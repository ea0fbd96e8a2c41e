// SPDX-License-Identifier: Apache-2.0
// CUDA host code of memory_select: passes tensors to the kernels.
#include "../memory_select_arguments.h"

#include "memory_workspace.h"

namespace mmadaptor::cuda {
namespace {

// The kernels' view of the arguments, and the tensors that own its memory.
struct PreparedMemorySelect {
  Tensor states, locations, weights;
  MemorySelect op;

  PreparedMemorySelect(const char* name, const Tensor& states_, const Tensor& locations_,
                       const Tensor& weights_)
      : states(states_), locations(locations_), weights(weights_) {
    check_image_fits(name, "states", states);
    check_image_fits(name, "locations", locations);
    check_blocks_fit(name, states, weights.size(4));
    for (Tensor* t : {&states, &locations, &weights}) *t = as_aligned(*t);
    const auto groups = static_cast<int>(weights.size(4));
    op.batch = states.size(0);
    op.height = static_cast<int>(states.size(1));
    op.width = static_cast<int>(states.size(2));
    op.slices = op.incoming_slices = static_cast<int>(states.size(3)) * groups;
    op.row = static_cast<int>(states.size(4) * states.size(5)) / groups;
    op.places = static_cast<int>(weights.size(5));
    op.states = states.const_data_ptr();
    op.locations = locations.const_data_ptr();
    op.weights = weights.const_data_ptr();
  }
};

Tensor memory_select(const Tensor& states, const Tensor& locations, const Tensor& weights) {
  check_memory_select("memory_select", states, locations, weights);
  const DeviceGuard guard(states);
  const PreparedMemorySelect prepared("memory_select", states, locations, weights);
  const Tensor memory = empty_contiguous(states);
  if (memory.numel() > 0) {
    for_wide(dtype_of(states), [&](auto* type) {
      launch_memory_select(type, prepared.op, memory.mutable_data_ptr(), current_target());
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
  const PreparedMemorySelect prepared("memory_select_backward", states, locations, weights);
  const Tensor incoming = as_aligned(grad_memory);
  auto results = empty_memory_select_gradients(states, locations, weights);
  auto& [grad_states, grad_locations, grad_weights] = results;
  if (grad_states.numel() > 0) {
    const MemorySelect& op = prepared.op;
    const PreparedLists places(op, states);
    const MemorySelectGradients grads{incoming.const_data_ptr(), grad_states.mutable_data_ptr(),
                                      grad_locations.mutable_data_ptr(),
                                      grad_weights.mutable_data_ptr()};
    const Target target = current_target();
    for_wide(dtype_of(states), [&](auto* type) {
      launch_memory_select_places(type, op, grads, target);
      launch_list_places(type, op, places.lists, target);
      launch_memory_select_states(type, op, places.lists, grads.memory, grads.states, target);
    });
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
