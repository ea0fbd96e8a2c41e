// SPDX-License-Identifier: Apache-2.0
// CUDA host code of memory_readout: passes tensors to the kernels.
#include "../memory_readout_arguments.h"

#include "memory_readout_launch.h"
#include "memory_workspace.h"

namespace mmadaptor::cuda {
namespace {

// The kernels' view of the arguments, and the tensors that own its memory.
struct PreparedMemoryReadout {
  Tensor values, predicted, coefficients;
  MemoryReadout op;

  PreparedMemoryReadout(const char* name, const Tensor& values_, const Tensor& predicted_,
                        const std::vector<double>& granularities, const Tensor& coefficients_)
      : values(values_), predicted(predicted_), coefficients(coefficients_) {
    check_image_fits(name, "values", values);
    check_image_fits(name, "predicted", predicted);
    const auto groups = static_cast<int64_t>(granularities.size());
    require(groups <= MemoryReadout::kMostGroups, name, " on CUDA: there must be at most ",
            MemoryReadout::kMostGroups, " `granularities`, got ", groups);
    check_blocks_fit(name, values, groups);
    for (Tensor* t : {&values, &predicted, &coefficients}) *t = as_aligned(*t);
    op.batch = values.size(0);
    op.height = static_cast<int>(values.size(1));
    op.width = static_cast<int>(values.size(2));
    op.groups = op.incoming_slices = static_cast<int>(groups);
    op.slices = static_cast<int>(values.size(3) * groups);
    op.row = static_cast<int>(values.size(4) / groups);
    op.places = static_cast<int>(predicted.size(4) / (3 * groups));
    op.states = values.const_data_ptr();
    op.locations = op.weights = nullptr;
    std::copy(granularities.begin(), granularities.end(), op.granularities);
    op.predicted = predicted.const_data_ptr();
    op.coefficients = coefficients.const_data_ptr();
  }
};

Tensor memory_readout(const Tensor& values, const Tensor& predicted,
                      const std::vector<double>& granularities, const Tensor& coefficients) {
  check_memory_readout("memory_readout", values, predicted, granularities, coefficients, {});
  const DeviceGuard guard(values);
  const PreparedMemoryReadout prepared("memory_readout", values, predicted, granularities,
                                       coefficients);
  const Tensor y = empty_tensor(sizes_of_readout(values), dtype_of(values), values);
  if (y.numel() > 0) {
    for_wide(dtype_of(values), [&](auto* type) {
      launch_memory_readout(type, prepared.op, y.mutable_data_ptr(), current_target());
    });
    MMADAPTOR_LAUNCHED();
  }
  return y;
}

std::tuple<Tensor, Tensor, Tensor> memory_readout_backward(const Tensor& grad_y,
                                                           const Tensor& values,
                                                           const Tensor& predicted,
                                                           const std::vector<double>& granularities,
                                                           const Tensor& coefficients) {
  check_memory_readout("memory_readout_backward", values, predicted, granularities, coefficients,
                       grad_y);
  const DeviceGuard guard(values);
  PreparedMemoryReadout prepared("memory_readout_backward", values, predicted, granularities,
                                 coefficients);
  const Tensor incoming = as_aligned(grad_y);
  const Tensor grad_values = empty_contiguous(values), grad_predicted = empty_contiguous(predicted),
               grad_coefficients = empty_contiguous(coefficients);
  if (grad_values.numel() > 0) {
    MemoryReadout& op = prepared.op;
    const auto dtype = dtype_of(values);
    const int64_t all = op.batch * op.pixels() * op.slices * op.places;
    const Tensor locations = empty_tensor({all, 2}, dtype, values),
                 weights = empty_tensor({all}, dtype, values);
    const MemoryReadoutGradients grads{
        incoming.const_data_ptr(), locations.mutable_data_ptr(), weights.mutable_data_ptr(),
        grad_predicted.mutable_data_ptr(), grad_coefficients.mutable_data_ptr()};
    op.locations = grads.locations;
    op.weights = grads.weights;
    const PreparedLists places(op, values);
    const Target target = current_target();
    for_wide(dtype, [&](auto* type) {
      launch_memory_readout_places(type, op, grads, target);
      launch_list_places(type, op, places.lists, target);
      launch_memory_select_states(type, op, places.lists, grads.y, grad_values.mutable_data_ptr(),
                                  target);
    });
    MMADAPTOR_LAUNCHED();
  }
  return {grad_values, grad_predicted, grad_coefficients};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(mmadaptor, MMADAPTOR_DEVICE, m) {
  m.impl("memory_readout", TORCH_BOX(&memory_readout));
  m.impl("memory_readout_backward", TORCH_BOX(&memory_readout_backward));
}

}  // namespace mmadaptor::cuda
