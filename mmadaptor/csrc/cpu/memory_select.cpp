// SPDX-License-Identifier: Apache-2.0
// CPU host code of memory_select: passes tensors to the kernels for this processor.
#include "../memory_select_arguments.h"

#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <torch/library.h>

#include "../scan_tensors.h"
#include "memory_select_kernel.h"

namespace mmadaptor {

// Uses torch's choice of instruction set; ATEN_CPU_CAPABILITY=default|avx2|avx512
// overrides it.
const MemorySelectKernels& memory_select_kernels() {
  static const MemorySelectKernels& kernels = []() -> const MemorySelectKernels& {
#if defined(__x86_64__)
    const auto capability = at::get_cpu_capability();
    if (capability == "AVX512" || capability == "AVX2") return avx2::memory_select_kernels;
#endif
    return baseline::memory_select_kernels;
  }();
  return kernels;
}

namespace {

// The kernels' view of the arguments, and the tensors that own its memory.
struct PreparedMemorySelect {
  Tensor states, locations, weights;
  MemorySelect op;

  PreparedMemorySelect(const Tensor& states_, const Tensor& locations_, const Tensor& weights_)
      : states(states_.contiguous()),
        locations(locations_.contiguous()),
        weights(weights_.contiguous()) {
    op.dtype = states.scalar_type();
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
    check_map_fits("memory_select: `states`", states);
  }
};

Tensor memory_select(const Tensor& states, const Tensor& locations, const Tensor& weights) {
  check_memory_select("memory_select", states, locations, weights);
  Tensor memory = empty_contiguous(states);
  const PreparedMemorySelect prepared(states, locations, weights);
  at::parallel_for(0, prepared.op.forward_tasks(), 1, [&](int64_t begin, int64_t end) {
    memory_select_kernels().forward(prepared.op, memory.data_ptr(), begin, end);
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
  const Tensor incoming = grad_memory.contiguous();
  const int64_t blocks = prepared.op.blocks();
  Parts locations_parts(grad_locations, blocks, states.scalar_type());
  Parts weights_parts(grad_weights, blocks, states.scalar_type());
  const MemorySelectGradients grads{incoming.const_data_ptr(), grad_states.data_ptr(),
                                    locations_parts.data(), weights_parts.data()};
  at::parallel_for(0, prepared.op.backward_tasks(), 1, [&](int64_t begin, int64_t end) {
    memory_select_kernels().backward(prepared.op, grads, begin, end);
  });
  locations_parts.add_up();
  weights_parts.add_up();
  return {grad_states, grad_locations, grad_weights};
}

}  // namespace

TORCH_LIBRARY_IMPL(mmadaptor, CPU, m) {
  m.impl("memory_select", memory_select);
  m.impl("memory_select_backward", memory_select_backward);
}

}  // namespace mmadaptor
