// SPDX-License-Identifier: Apache-2.0
// CPU host code of memory_select: passes tensors to the kernels for this processor.
#include "../memory_select_arguments.h"

#include "memory_select_kernel.h"

namespace mmadaptor {
namespace {

// The kernels' view of the arguments, and the tensors that own its memory.
struct PreparedMemorySelect {
  Tensor states, locations, weights;
  MemorySelect op;

  PreparedMemorySelect(const Tensor& states_, const Tensor& locations_, const Tensor& weights_)
      : states(as_contiguous(states_)),
        locations(as_contiguous(locations_)),
        weights(as_contiguous(weights_)) {
    op.dtype = dtype_of(states);
    op.batch = states.size(0);
    op.height = states.size(1);
    op.width = states.size(2);
    op.slices = weights.size(3) * weights.size(4);
    op.row = states.size(4) / weights.size(4) * states.size(5);
    op.incoming_slices = op.slices;
    op.places = weights.size(5);
    op.states = states.const_data_ptr();
    op.locations = locations.const_data_ptr();
    op.weights = weights.const_data_ptr();
  }
};

Tensor memory_select(const Tensor& states, const Tensor& locations, const Tensor& weights) {
  check_memory_select("memory_select", states, locations, weights);
  Tensor memory = empty_contiguous(states);
  const PreparedMemorySelect prepared(states, locations, weights);
  torch::stable::parallel_for(0, prepared.op.forward_tasks(), 1, [&](int64_t begin, int64_t end) {
    memory_select_kernels().forward(prepared.op, memory.mutable_data_ptr(), begin, end);
  });
  return memory;
}

std::tuple<Tensor, Tensor, Tensor> memory_select_backward(const Tensor& grad_memory,
                                                          const Tensor& states,
                                                          const Tensor& locations,
                                                          const Tensor& weights) {
  check_memory_select_gradient(grad_memory, states, locations, weights);
  auto [grad_states, grad_locations, grad_weights] =
      empty_memory_select_gradients(states, locations, weights);
  const PreparedMemorySelect prepared(states, locations, weights);
  const Tensor incoming = as_contiguous(grad_memory);
  const int64_t blocks = prepared.op.blocks();
  Parts locations_parts(grad_locations, blocks, dtype_of(states));
  Parts weights_parts(grad_weights, blocks, dtype_of(states));
  const MemorySelectGradients grads{incoming.const_data_ptr(), grad_states.mutable_data_ptr(),
                                    locations_parts.data(), weights_parts.data()};
  torch::stable::parallel_for(0, prepared.op.backward_tasks(), 1, [&](int64_t begin, int64_t end) {
    memory_select_kernels().backward(prepared.op, grads, begin, end);
  });
  locations_parts.add_up();
  weights_parts.add_up();
  return {grad_states, grad_locations, grad_weights};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(mmadaptor, CPU, m) {
  m.impl("memory_select", TORCH_BOX(&memory_select));
  m.impl("memory_select_backward", TORCH_BOX(&memory_select_backward));
}

}  // namespace mmadaptor
