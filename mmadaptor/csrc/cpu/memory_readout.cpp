// SPDX-License-Identifier: Apache-2.0
// CPU host code of memory_readout: passes tensors to the kernels for this processor.
#include "../memory_readout_arguments.h"

#include "memory_select_kernel.h"

namespace mmadaptor {
namespace {

// The kernels' view of the arguments, and the tensors that own its memory.
struct PreparedMemoryReadout {
  Tensor values, predicted, coefficients;
  MemoryReadout op;

  PreparedMemoryReadout(const Tensor& values_, const Tensor& predicted_,
                        const std::vector<double>& granularities, const Tensor& coefficients_)
      : values(as_contiguous(values_)),
        predicted(as_contiguous(predicted_)),
        coefficients(as_contiguous(coefficients_)) {
    op.dtype = dtype_of(values);
    op.batch = values.size(0);
    op.height = values.size(1);
    op.width = values.size(2);
    op.groups = op.incoming_slices = static_cast<int64_t>(granularities.size());
    op.slices = values.size(3) * op.groups;
    op.row = values.size(4) / op.groups;
    op.places = predicted.size(4) / (3 * op.groups);
    op.states = values.const_data_ptr();
    op.locations = op.weights = nullptr;
    op.granularities = granularities.data();
    op.predicted = predicted.const_data_ptr();
    op.coefficients = coefficients.const_data_ptr();
  }
};

Tensor memory_readout(const Tensor& values, const Tensor& predicted,
                      const std::vector<double>& granularities, const Tensor& coefficients) {
  check_memory_readout("memory_readout", values, predicted, granularities, coefficients, {});
  const Tensor y = empty_tensor(sizes_of_readout(values), dtype_of(values), values);
  const PreparedMemoryReadout prepared(values, predicted, granularities, coefficients);
  torch::stable::parallel_for(0, prepared.op.forward_tasks(), 1, [&](int64_t begin, int64_t end) {
    memory_select_kernels().readout(prepared.op, y.mutable_data_ptr(), begin, end);
  });
  return y;
}

std::tuple<Tensor, Tensor, Tensor> memory_readout_backward(const Tensor& grad_y,
                                                           const Tensor& values,
                                                           const Tensor& predicted,
                                                           const std::vector<double>& granularities,
                                                           const Tensor& coefficients) {
  check_memory_readout("memory_readout_backward", values, predicted, granularities, coefficients,
                       grad_y);
  const Tensor grad_values = empty_contiguous(values), grad_predicted = empty_contiguous(predicted),
               grad_coefficients = empty_contiguous(coefficients);
  const PreparedMemoryReadout prepared(values, predicted, granularities, coefficients);
  const Tensor incoming = as_contiguous(grad_y);
  const int64_t blocks = prepared.op.blocks();
  Parts predicted_parts(grad_predicted, blocks, dtype_of(values));
  Parts coefficients_parts(grad_coefficients, blocks * prepared.op.groups, dtype_of(values));
  const MemoryReadoutGradients grads{incoming.const_data_ptr(), grad_values.mutable_data_ptr(),
                                     predicted_parts.data(), coefficients_parts.data()};
  torch::stable::parallel_for(0, prepared.op.backward_tasks(), 1, [&](int64_t begin, int64_t end) {
    memory_select_kernels().readout_backward(prepared.op, grads, begin, end);
  });
  predicted_parts.add_up();
  coefficients_parts.add_up();
  return {grad_values, grad_predicted, grad_coefficients};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(mmadaptor, CPU, m) {
  m.impl("memory_readout", TORCH_BOX(&memory_readout));
  m.impl("memory_readout_backward", TORCH_BOX(&memory_readout_backward));
}

}  // namespace mmadaptor
