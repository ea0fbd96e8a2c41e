// SPDX-License-Identifier: Apache-2.0
// Refuses forward-mode derivatives, which the ops would drop. The functions in Python
// compute them by the definitions; a traced or exported graph calls the ops directly.
//
// The check is below autograd, at the key that torch keeps for such bookkeeping: deeper
// down, torch.func has unwrapped the tensors, and their derivatives are out of sight.
#include <ATen/ATen.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>
#include <torch/library.h>

#include <string>

namespace mmadaptor {
namespace {

void refuse_forward_mode(const c10::OperatorHandle& op, c10::DispatchKeySet keys,
                         torch::jit::Stack* stack) {
  const auto& arguments = op.schema().arguments();
  for (size_t i = 0; i < arguments.size(); ++i) {
    const auto& value = torch::jit::peek(*stack, i, arguments.size());
    if (!value.isTensor() || !value.toTensor().defined()) continue;
    TORCH_CHECK_NOT_IMPLEMENTED(
        !value.toTensor()._fw_grad(/*level=*/0).defined(), op.schema().name(), ": `",
        arguments[i].name(),
        "` has a forward-mode derivative, which the compiled op does not propagate: call the "
        "function of mmadaptor.ops, not the op or a traced or exported graph");
  }
  const at::AutoDispatchBelowADInplaceOrView below;
  op.redispatchBoxed(keys & c10::after_ADInplaceOrView_keyset, stack);
}

}  // namespace

TORCH_LIBRARY_IMPL(mmadaptor, ADInplaceOrView, m) {
  for (const std::string op : {"selective_scan", "selective_scan_states", "cross_selective_scan",
                               "cross_selective_scan_states", "cross_readout", "memory_select",
                               "memory_readout", "dilated_depthwise"})
    for (const char* suffix : {"", "_backward"})
      m.impl((op + suffix).c_str(),
             torch::CppFunction::makeFromBoxedFunction<&refuse_forward_mode>());
}

}  // namespace mmadaptor
