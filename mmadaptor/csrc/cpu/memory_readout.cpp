// SPDX-License-Identifier: Apache-2.0
// CPU host code of memory_readout: passes tensors to the kernels for this processor.
#include "../memory_readout_arguments.h"

#include <ATen/Parallel.h>
#include <torch/library.h>

#include "../memory_select_arguments.h"
#include "../scan_tensors.h"
#include "memory_select_kernel.h"

namespace mmadaptor {
namespace {

// The kernels' view of the arguments, and the tensors that own its memory.
struct PreparedMemoryReadout {
  Tensor values, predicted, coefficients;
  MemoryReadout op;

  PreparedMemoryReadout(const Tensor& values_, const Tensor& predicted_,
                        at::ArrayRef<double> granularities, const Tensor& coefficients_)
      : values(values_.contiguous()),
        predicted(predicted_.contiguous()),
        coefficients(coefficients_.contiguous()) {
    op.dtype = values.scalar_type();
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
    check_map_fits("memory_readout: `values`", values);
  }
};

Tensor memory_readout(const Tensor& values, const Tensor& predicted,
                      at::ArrayRef<double> granularities, const Tensor& coefficients) {
  check_memory_readout("memory_readout", values, predicted, granularities, coefficients);
  Tensor y = empty_memory_readout(values);
  const PreparedMemoryReadout prepared(values, predicted, granularities, coefficients);
  at::parallel_for(0, prepared.op.forward_tasks(), 1, [&](int64_t begin, int64_t end) {
    memory_select_kernels().readout(prepared.op, y.data_ptr(), begin, end);
  });
  return y;
}

std::tuple<Tensor, Tensor, Tensor> memory_readout_backward(const Tensor& grad_y,
                                                           const Tensor& values,
                                                           const Tensor& predicted,
                                                           at::ArrayRef<double> granularities,
                                                           const Tensor& coefficients) {
  check_memory_readout_gradient(grad_y, values, predicted, granularities, coefficients);
  auto [grad_values, grad_predicted, grad_coefficients] =
      empty_memory_readout_gradients(values, predicted, coefficients);
  const PreparedMemoryReadout prepared(values, predicted, granularities, coefficients);
  const Tensor incoming = grad_y.contiguous();
  const int64_t blocks = prepared.op.blocks();
  Parts predicted_parts(grad_predicted, blocks, values.scalar_type());
  Parts coefficients_parts(grad_coefficients, blocks * prepared.op.groups, values.scalar_type());
  const MemoryReadoutGradients grads{incoming.const_data_ptr(), grad_values.data_ptr(),
                                     predicted_parts.data(), coefficients_parts.data()};
  at::parallel_for(0, prepared.op.backward_tasks(), 1, [&](int64_t begin, int64_t end) {
    memory_select_kernels().readout_backward(prepared.op, grads, begin, end);
  });
  predicted_parts.add_up();
  coefficients_parts.add_up();
  return {grad_values, grad_predicted, grad_coefficients};
}

}  // namespace

TORCH_LIBRARY_IMPL(mmadaptor, CPU, m) {
  m.impl("memory_readout", memory_readout);
  m.impl("memory_readout_backward", memory_readout_backward);
}

}  // namespace mmadaptor
