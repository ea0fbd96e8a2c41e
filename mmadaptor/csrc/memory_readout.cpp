// SPDX-License-Identifier: Apache-2.0
// Device-independent parts of memory_readout: schemas, fake (Meta) kernels and autocast rule.
#include "memory_readout_arguments.h"

#include <ATen/autocast_mode.h>
#include <torch/library.h>

namespace mmadaptor {
namespace {

Tensor memory_readout_meta(const Tensor& values, const Tensor& predicted,
                           at::ArrayRef<double> granularities, const Tensor& coefficients) {
  check_memory_readout("memory_readout", values, predicted, granularities, coefficients);
  return empty_memory_readout(values);
}

std::tuple<Tensor, Tensor, Tensor> memory_readout_backward_meta(const Tensor& grad_y,
                                                                const Tensor& values,
                                                                const Tensor& predicted,
                                                                at::ArrayRef<double> granularities,
                                                                const Tensor& coefficients) {
  check_memory_readout_gradient(grad_y, values, predicted, granularities, coefficients);
  return empty_memory_readout_gradients(values, predicted, coefficients);
}

// Same rule as memory_select: all arguments are cast to the dtype of the values.
template <c10::DispatchKey key>
Tensor memory_readout_autocast(const Tensor& values, const Tensor& predicted,
                               at::ArrayRef<double> granularities, const Tensor& coefficients) {
  c10::impl::ExcludeDispatchKeyGuard below(key);
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("mmadaptor::memory_readout", "")
                             .typed<decltype(memory_readout_meta)>();
  const auto cast = [&](const Tensor& t) {
    return t.is_floating_point() ? t.to(values.scalar_type()) : t;
  };
  return op.call(values, cast(predicted), granularities, cast(coefficients));
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(mmadaptor, m) {
  m.def(
      "memory_readout(Tensor values, Tensor predicted, float[] granularities, "
      "Tensor coefficients) -> Tensor");
  m.def(
      "memory_readout_backward(Tensor grad_y, Tensor values, Tensor predicted, "
      "float[] granularities, Tensor coefficients) -> (Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(mmadaptor, Meta, m) {
  m.impl("memory_readout", memory_readout_meta);
  m.impl("memory_readout_backward", memory_readout_backward_meta);
}

TORCH_LIBRARY_IMPL(mmadaptor, AutocastCPU, m) {
  m.impl("memory_readout", memory_readout_autocast<c10::DispatchKey::AutocastCPU>);
}

TORCH_LIBRARY_IMPL(mmadaptor, AutocastCUDA, m) {
  m.impl("memory_readout", memory_readout_autocast<c10::DispatchKey::AutocastCUDA>);
}

}  // namespace mmadaptor
