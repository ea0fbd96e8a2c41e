// SPDX-License-Identifier: Apache-2.0
// What the scheduler tells the race detector about the running thread.
#pragma once

#include <cstddef>
#include <string>

namespace emulation {

// Who accesses memory: a thread, and the barriers that it has passed.
struct Access {
  unsigned launch = 0, block = 0;
  unsigned block_barriers = 0, warp_barriers = 0;
  unsigned warp = 0, lane = 0;
  const void* code = nullptr;
};

struct Range {
  const char* data = nullptr;
  size_t bytes = 0;
  bool contains(const void* at) const {
    return static_cast<size_t>(static_cast<const char*>(at) - data) < bytes;
  }
};

// The running thread of a kernel; there is none while `launch` is 0.
extern Access running;
extern Range own_stack, shared_range;

// Forgets accesses of earlier launches if they take much memory.
void forget_accesses();

// Keeps the first error of this host thread until throw_error().
void fail(const std::string& error);

}  // namespace emulation
