// SPDX-License-Identifier: Apache-2.0
// CUDA host code of cross_readout: passes tensors to the kernels.
#include "../cross_selective_scan_arguments.h"
#include "cross_readout_launch.h"
#include "torch_device.h"

namespace mmadaptor::cuda {
namespace {

// The kernels compute in the dtype of the states. C is read in its own dtype if that
// accumulates in the dtype of the states; otherwise it is cast to the dtype of the states.
ScalarType kernel_dtype(const Tensor& states, const Tensor& C) {
  return accumulate_type(dtype_of(C)) == dtype_of(states) ? dtype_of(C) : dtype_of(states);
}

// The sizes; the caller adds the tensors.
Readout prepare(const Tensor& states) {
  const int64_t numbers = states.size(3) * states.size(4) * states.size(5);
  require(numbers < int64_t{1} << 31,
          "cross_readout on CUDA: `states` must have fewer than 2^31 numbers per pixel, got ",
          numbers);
  Readout readout{};
  readout.pixels = states.size(0) * states.size(1) * states.size(2);
  readout.directions = static_cast<int>(states.size(3));
  readout.channels = static_cast<int>(states.size(4));
  readout.states = static_cast<int>(states.size(5));
  check_count("cross_readout", "batch x rows x columns / 8", readout.blocks());
  return readout;
}

Tensor cross_readout(const Tensor& states, const Tensor& C) {
  check_readout("cross_readout", states, C);
  const DeviceGuard guard(states);
  auto readout = prepare(states);
  const auto dtype = kernel_dtype(states, C);
  const Tensor h = as_contiguous(states), read_C = as_contiguous(as_dtype(C, dtype));
  const Tensor y = empty_tensor(sizes_of_readout(h), dtype, h);
  if (y.numel() > 0) {
    readout.h = h.const_data_ptr();
    readout.C = read_C.const_data_ptr();
    readout.y = y.mutable_data_ptr();
    for_element(dtype, [&](auto* type) { launch_readout(type, readout, current_target()); });
    MMADAPTOR_LAUNCHED();
  }
  return as_dtype(y, dtype_of(C));
}

std::tuple<Tensor, Tensor> cross_readout_backward(const Tensor& grad_y, const Tensor& states,
                                                  const Tensor& C) {
  check_readout_gradient("cross_readout_backward", grad_y, states, C);
  const DeviceGuard guard(states);
  auto readout = prepare(states);
  const auto dtype = kernel_dtype(states, C);
  const Tensor h = as_contiguous(states), read_C = as_contiguous(as_dtype(C, dtype));
  const Tensor grad = as_contiguous(as_dtype(grad_y, dtype));
  const Tensor grad_states = empty_contiguous(h), grad_C = empty_contiguous(read_C);
  if (grad_states.numel() > 0) {
    readout.h = h.const_data_ptr();
    readout.C = read_C.const_data_ptr();
    readout.grad_y = grad.const_data_ptr();
    readout.grad_h = grad_states.mutable_data_ptr();
    readout.grad_C = grad_C.mutable_data_ptr();
    for_element(dtype,
                [&](auto* type) { launch_readout_backward(type, readout, current_target()); });
    MMADAPTOR_LAUNCHED();
  }
  return {grad_states, as_dtype(grad_C, dtype_of(C))};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(mmadaptor, MMADAPTOR_DEVICE, m) {
  m.impl("cross_readout", TORCH_BOX(&cross_readout));
  m.impl("cross_readout_backward", TORCH_BOX(&cross_readout_backward));
}

}  // namespace mmadaptor::cuda
