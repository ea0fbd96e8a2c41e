// SPDX-License-Identifier: Apache-2.0
// The torch side of the emulation: runs the CUDA ops on CPU tensors. Environment variables
// set the size of the device, so that tests cover all ways of dividing the work.
#pragma once

#include <cstdlib>

#include "emulation.h"

// The emulated ops replace the CPU ops.
#define MMADAPTOR_DEVICE CPU
#define MMADAPTOR_LAUNCHED() emulation::throw_error()

namespace mmadaptor::cuda {

struct DeviceGuard {
  explicit DeviceGuard(const Tensor&) {}
};

inline Target current_target() {
  const char* processors = std::getenv("EMULATION_PROCESSORS");
  return {nullptr, processors ? std::atoi(processors) : 2,
          static_cast<size_t>(emulation::most_shared_bytes())};
}

}  // namespace mmadaptor::cuda
