// SPDX-License-Identifier: Apache-2.0
// Scheduler of the CUDA emulation: fibers, barriers and shuffles.
#include "emulation.h"

#include <sanitizer/common_interface_defs.h>
#include <ucontext.h>

#include <cstdlib>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

namespace emulation {

dim3 thread, block, block_size, grid_size;

namespace {

// No larger than needed: AddressSanitizer clears the shadow of the stack at every switch.
constexpr size_t kStack = 64 * 1024;
constexpr unsigned kWarp = 32, kMostThreads = 1024;

// A barrier: threads wait until `passed` changes; the last thread to arrive changes it.
struct Meeting {
  unsigned arrived = 0, passed = 0;
};

struct Warp {
  Meeting meeting;
  uint64_t values[2][kWarp];  // double-buffered: this exchange and the next
};

struct Fiber {
  ucontext_t context;
  std::unique_ptr<char[]> stack{new char[kStack]};
  dim3 thread;
  bool done;
  const Meeting* waits_for;
  unsigned since;
  void* fake_stack;
};

std::mutex one_grid;
std::vector<std::unique_ptr<Fiber>> fibers;
ucontext_t scheduler;
void* scheduler_fake_stack;
const void* scheduler_stack;
size_t scheduler_stack_size;
Fiber* current;
Meeting block_meeting;
std::vector<Warp> warps;
std::unique_ptr<char[]> shared;
void (*thread_body)(const void*);
const void* thread_arguments;

unsigned index_of(const dim3& t) { return (t.z * block_size.y + t.y) * block_size.x + t.x; }

void leave(bool for_good) {
  __sanitizer_start_switch_fiber(for_good ? nullptr : &current->fake_stack, scheduler_stack,
                                 scheduler_stack_size);
  swapcontext(&current->context, &scheduler);
  __sanitizer_finish_switch_fiber(current->fake_stack, nullptr, nullptr);
}

void start_fiber() {
  __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_stack_size);
  thread_body(thread_arguments);
  current->done = true;
  leave(true);
}

void resume(Fiber& fiber) {
  current = &fiber;
  thread = fiber.thread;
  __sanitizer_start_switch_fiber(&scheduler_fake_stack, fiber.stack.get(), kStack);
  swapcontext(&scheduler, &fiber.context);
  __sanitizer_finish_switch_fiber(scheduler_fake_stack, nullptr, nullptr);
}

void meet(Meeting& meeting, unsigned threads) {
  current->waits_for = &meeting;
  current->since = meeting.passed;
  if (++meeting.arrived == threads) {
    meeting.arrived = 0;
    ++meeting.passed;
  }
  if (meeting.passed == current->since) leave(false);
}

void prepare(unsigned count, size_t shared_bytes) {
  while (fibers.size() < count) fibers.push_back(std::make_unique<Fiber>());
  block_meeting = {};
  warps.assign(count / kWarp, {});
  shared.reset(new char[shared_bytes]);
  std::memset(shared.get(), 0xff, shared_bytes);
  for (unsigned i = 0; i < count; ++i) {
    Fiber& fiber = *fibers[i];
    fiber.thread = {i % block_size.x, i / block_size.x % block_size.y,
                    i / block_size.x / block_size.y};
    fiber.done = false;
    fiber.waits_for = nullptr;
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.get();
    fiber.context.uc_stack.ss_size = kStack;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, start_fiber, 0);
  }
}

// An environment variable sets the order of the threads: the result of a kernel that lacks
// a barrier depends on this order.
void run_block(unsigned count) {
  static const bool backwards = std::getenv("EMULATION_BACKWARDS") != nullptr;
  unsigned left = count;
  while (left > 0) {
    bool moved = false;
    for (unsigned i = 0; i < count; ++i) {
      Fiber& fiber = *fibers[backwards ? count - 1 - i : i];
      if (fiber.done || (fiber.waits_for && fiber.waits_for->passed == fiber.since)) continue;
      resume(fiber);
      moved = true;
      left -= fiber.done;
    }
    if (!moved)
      throw std::runtime_error("deadlock at a barrier or shuffle: " + std::to_string(left) +
                               " of " + std::to_string(count) + " threads have not finished");
  }
}

}  // namespace

void wait_for_block() { meet(block_meeting, block_size.x * block_size.y * block_size.z); }

unsigned lane() { return index_of(current->thread) % kWarp; }

// Publishes a value to the warp, waits for the warp, and returns the values of all lanes.
static const uint64_t* publish(uint64_t value) {
  Warp& warp = warps[index_of(current->thread) / kWarp];
  uint64_t* values = warp.values[warp.meeting.passed % 2];
  values[lane()] = value;
  meet(warp.meeting, kWarp);
  return values;
}

uint64_t exchange(uint64_t value, unsigned source) { return publish(value)[source]; }

unsigned lanes_with(uint64_t value) {
  const uint64_t* values = publish(value);
  unsigned lanes = 0;
  for (unsigned i = 0; i < kWarp; ++i) lanes |= static_cast<unsigned>(values[i] == value) << i;
  return lanes;
}

void* shared_memory() { return shared.get(); }

void run(dim3 grid, dim3 size, size_t shared_bytes, void (*body)(const void*),
         const void* arguments) {
  const std::lock_guard<std::mutex> lock(one_grid);
  const unsigned count = size.x * size.y * size.z;
  if (count == 0 || count % kWarp || count > kMostThreads || grid.x * grid.y * grid.z == 0)
    throw std::runtime_error("unsupported grid: " + std::to_string(grid.x * grid.y * grid.z) +
                             " blocks of " + std::to_string(count) + " threads");
  thread_body = body;
  thread_arguments = arguments;
  grid_size = grid;
  block_size = size;
  for (block.z = 0; block.z < grid.z; ++block.z)
    for (block.y = 0; block.y < grid.y; ++block.y)
      for (block.x = 0; block.x < grid.x; ++block.x) {
        prepare(count, shared_bytes);
        run_block(count);
      }
}

}  // namespace emulation
