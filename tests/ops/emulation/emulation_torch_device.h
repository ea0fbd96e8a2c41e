// SPDX-License-Identifier: Apache-2.0
// The torch side of the emulation: runs the CUDA ops on CPU tensors. Environment variables
// set the size of the device, so that tests cover all ways of dividing the work.
#pragma once

#include <cstdlib>

#include "emulation.h"

// The emulated ops replace the CPU ops.
#define MMADAPTOR_DEVICE CPU
#define MMADAPTOR_LAUNCHED() static_cast<void>(0)

namespace mmadaptor::cuda {

struct DeviceGuard {
  explicit DeviceGuard(const Tensor&) {}
};

inline long from_environment(const char* name, long otherwise) {
  const char* text = std::getenv(name);
  return text ? std::atol(text) : otherwise;
}

inline Target current_target() {
  return {nullptr, static_cast<int>(from_environment("EMULATION_PROCESSORS", 2)),
          static_cast<size_t>(from_environment("EMULATION_SHARED_BYTES", 100 * 1024))};
}

}  // namespace mmadaptor::cuda
