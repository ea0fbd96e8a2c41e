// SPDX-License-Identifier: Apache-2.0
// Device-independent parts of memory_select: schemas, fake (Meta) kernels and autocast rule.
#include "memory_select_arguments.h"

#include <ATen/autocast_mode.h>
#include <torch/library.h>

namespace mmadaptor {
namespace {

Tensor memory_select_meta(const Tensor& states, const Tensor& locations, const Tensor& weights) {
  check_memory_select("memory_select", states, locations, weights);
  return empty_contiguous(states);
}

std::tuple<Tensor, Tensor, Tensor> memory_select_backward_meta(const Tensor& grad_memory,
                                                               const Tensor& states,
                                                               const Tensor& locations,
                                                               const Tensor& weights) {
  check_memory_select_gradient(grad_memory, states, locations, weights);
  return empty_memory_select_gradients(states, locations, weights);
}

// Nothing is cast to the lower dtype. Locations and weights, which linear layers under
// autocast computed in the lower dtype, are cast to the dtype of the states. Even so, a
// location with an 8-bit mantissa is off by up to half a pixel on a map of 128 pixels.
template <c10::DispatchKey key>
Tensor memory_select_autocast(const Tensor& states, const Tensor& locations,
                              const Tensor& weights) {
  c10::impl::ExcludeDispatchKeyGuard below(key);
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("mmadaptor::memory_select", "")
                             .typed<decltype(memory_select_meta)>();
  const auto cast = [&](const Tensor& t) {
    return t.is_floating_point() ? t.to(states.scalar_type()) : t;
  };
  return op.call(states, cast(locations), cast(weights));
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(mmadaptor, m) {
  m.def("memory_select(Tensor states, Tensor locations, Tensor weights) -> Tensor");
  m.def(
      "memory_select_backward(Tensor grad_memory, Tensor states, Tensor locations, "
      "Tensor weights) -> (Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(mmadaptor, Meta, m) {
  m.impl("memory_select", memory_select_meta);
  m.impl("memory_select_backward", memory_select_backward_meta);
}

TORCH_LIBRARY_IMPL(mmadaptor, AutocastCPU, m) {
  m.impl("memory_select", memory_select_autocast<c10::DispatchKey::AutocastCPU>);
}

TORCH_LIBRARY_IMPL(mmadaptor, AutocastCUDA, m) {
  m.impl("memory_select", memory_select_autocast<c10::DispatchKey::AutocastCUDA>);
}

}  // namespace mmadaptor
