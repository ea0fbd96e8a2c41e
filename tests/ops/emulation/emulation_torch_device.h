// SPDX-License-Identifier: Apache-2.0
// The torch side of the emulation: kernels for tensors on the CPU. The device is as
// large as the environment says, so that tests reach every way of dividing the work.
#pragma once

#include <cstdlib>

#include "emulation.h"

// The kernels take the place of the CPU's own.
#define MMADAPTOR_DEVICE CPU
#define MMADAPTOR_LAUNCHED() static_cast<void>(0)

namespace mmadaptor::cuda {

struct DeviceGuard {
  explicit DeviceGuard(at::Device) {}
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
