// SPDX-License-Identifier: Apache-2.0
// Autocast for the ops: maps and coefficients are cast to the lower dtype, parameters never.
#pragma once

#include <ATen/autocast_mode.h>

#include "checks.h"

namespace mmadaptor {

template <at::DeviceType device>
struct Autocast {
  // During its lifetime, calls bypass the autocast kernel of the op.
  struct Below {
    c10::impl::ExcludeDispatchKeyGuard guard{device == at::kCPU ? c10::DispatchKey::AutocastCPU
                                                                : c10::DispatchKey::AutocastCUDA};
  };

  static Tensor lower(const Tensor& t) {
    return at::autocast::cached_cast(at::autocast::get_autocast_dtype(device), t, device);
  }
  static OptionalTensor lower(const OptionalTensor& t) {
    return is_present(t) ? OptionalTensor(lower(*t)) : std::nullopt;
  }
};

}  // namespace mmadaptor
