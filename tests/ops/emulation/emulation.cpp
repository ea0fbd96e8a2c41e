// SPDX-License-Identifier: Apache-2.0
// Scheduler of the CUDA emulation: launches, fibers, barriers and shuffles.
#include "emulation.h"

#include <ucontext.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "races.h"

dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace emulation {
namespace {

constexpr size_t kStack = 64 * 1024;
constexpr unsigned kWarp = 32, kMostThreads = 1024;
constexpr int kSharedUnasked = 48 * 1024;  // a kernel may use this much without asking

// A barrier: threads wait until `passed` changes; the last thread to arrive changes it.
struct Meeting {
  unsigned arrived = 0, passed = 0;
};

struct Warp {
  Meeting shuffle, barrier;
  uint64_t values[2][kWarp];  // double-buffered: this exchange and the next
};

// A point at which a fiber or the scheduler goes on. The compiler's setjmp and not that of
// the C library, for which AddressSanitizer examines the whole stack.
using Point = void* [5];

// Runs one thread after another.
struct Fiber {
  ucontext_t context;
  Point point;
  std::unique_ptr<char[]> stack{new char[kStack]};
  bool started = false;
  dim3 thread;
  bool done;
  const Meeting* waits_for;
  unsigned since;
};

std::mutex one_grid;
std::map<const void*, int> shared_bytes_of;  // by kernel
thread_local std::string error;
std::vector<std::unique_ptr<Fiber>> fibers;
Point scheduler;
Fiber* current;
Meeting block_meeting;
std::vector<Warp> warps;
std::unique_ptr<char[]> shared;
void (*thread_body)(const void*);
const void* thread_arguments;

unsigned volume(const dim3& size) { return size.x * size.y * size.z; }
dim3 at(unsigned index, const dim3& size) {
  return {index % size.x, index / size.x % size.y, index / size.x / size.y};
}
unsigned current_index() {
  const dim3& t = current->thread;
  return (t.z * blockDim.y + t.y) * blockDim.x + t.x;
}
Warp& current_warp() { return warps[current_index() / kWarp]; }

// Tells the race detector where the running thread is.
void update_running() {
  running.block_barriers = block_meeting.passed;
  running.warp_barriers = current_warp().barrier.passed;
  running.warp = current_index() / kWarp;
  running.lane = lane();
}

[[gnu::noinline, noreturn]] void jump(Point& to) { __builtin_longjmp(to, 1); }

[[gnu::noinline]] void leave() {
  if (__builtin_setjmp(current->point) == 0) jump(scheduler);
}

[[gnu::noinline]] void resume(Fiber& fiber) {
  current = &fiber;
  threadIdx = fiber.thread;
  own_stack = {fiber.stack.get(), kStack};
  update_running();
  if (__builtin_setjmp(scheduler)) return;
  if (std::exchange(fiber.started, true)) jump(fiber.point);
  setcontext(&fiber.context);
}

void run_threads() {
  for (;;) {
    thread_body(thread_arguments);
    current->done = true;
    leave();
  }
}

void meet(Meeting& meeting, unsigned threads) {
  current->waits_for = &meeting;
  current->since = meeting.passed;
  if (++meeting.arrived == threads) {
    meeting.arrived = 0;
    ++meeting.passed;
  }
  if (meeting.passed == current->since) leave();
  update_running();
}

void prepare(unsigned count, size_t shared_bytes) {
  while (fibers.size() < count) {
    Fiber& fiber = *fibers.emplace_back(new Fiber);
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.get();
    fiber.context.uc_stack.ss_size = kStack;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, run_threads, 0);
  }
  block_meeting = {};
  warps.assign(count / kWarp, {});
  shared.reset(new char[shared_bytes]);
  std::memset(shared.get(), 0xff, shared_bytes);
  shared_range = {shared.get(), shared_bytes};
  for (unsigned i = 0; i < count; ++i) {
    fibers[i]->thread = at(i, blockDim);
    fibers[i]->done = false;
    fibers[i]->waits_for = nullptr;
  }
}

// Returns false after a deadlock.
bool run_block(const std::vector<unsigned>& order) {
  size_t left = order.size();
  while (left > 0) {
    bool moved = false;
    for (const unsigned i : order) {
      Fiber& fiber = *fibers[i];
      if (fiber.done || (fiber.waits_for && fiber.waits_for->passed == fiber.since)) continue;
      resume(fiber);
      moved = true;
      left -= fiber.done;
    }
    if (moved) continue;
    fail("deadlock at a barrier or shuffle: " + std::to_string(left) + " of " +
         std::to_string(order.size()) + " threads have not finished");
    fibers.clear();
    return false;
  }
  return true;
}

std::string text(const dim3& size) {
  return std::to_string(size.x) + "x" + std::to_string(size.y) + "x" + std::to_string(size.z);
}

cudaError_t refuse(cudaError_t code, const std::string& reason) {
  fail("refused launch: " + reason);
  return code;
}

std::vector<unsigned> shuffled(unsigned count, std::mt19937& random) {
  std::vector<unsigned> order(count);
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), random);
  return order;
}

void needs_all_lanes(unsigned mask) {
  if (mask != ~0u) fail("the emulation has no barriers and shuffles of a part of a warp");
}

long from_environment(const char* name, long otherwise) {
  const char* text = std::getenv(name);
  return text ? std::atol(text) : otherwise;
}

}  // namespace

void fail(const std::string& what) {
  if (error.empty()) error = what;
}

void throw_error() {
  if (!error.empty()) throw std::runtime_error(std::exchange(error, {}));
}

void wait_for_block() { meet(block_meeting, volume(blockDim)); }

void wait_for_warp(unsigned mask) {
  needs_all_lanes(mask);
  meet(current_warp().barrier, kWarp);
}

unsigned lane() { return current_index() % kWarp; }

uint64_t exchange(unsigned mask, uint64_t value, unsigned source) {
  needs_all_lanes(mask);
  Warp& warp = current_warp();
  uint64_t* values = warp.values[warp.shuffle.passed % 2];
  values[lane()] = value;
  meet(warp.shuffle, kWarp);
  return values[source];
}

void* shared_memory() { return shared.get(); }

int most_shared_bytes() { return from_environment("EMULATION_SHARED_BYTES", 100 * 1024); }

// A smaller value than before is refused, too: another host thread may be about to launch
// the kernel with that one.
cudaError_t allow_shared_bytes(const void* kernel, int bytes) {
  const std::lock_guard<std::mutex> lock(one_grid);
  int& allowed = shared_bytes_of[kernel];
  if (bytes > most_shared_bytes() || bytes < allowed)
    return refuse(cudaErrorInvalidValue,
                  "a kernel must be allowed all " + std::to_string(most_shared_bytes()) +
                      " bytes of shared memory, got " + std::to_string(bytes));
  allowed = bytes;
  return cudaSuccess;
}

cudaError_t launch(const cudaLaunchConfig_t& config, const void* kernel, void (*body)(const void*),
                   const void* arguments) {
  const std::lock_guard<std::mutex> lock(one_grid);
  const auto &grid = config.gridDim, &size = config.blockDim;
  const size_t bytes = config.dynamicSmemBytes;
  if (!grid.x || !grid.y || !grid.z || grid.x >> 31 || grid.y >> 16 || grid.z >> 16)
    return refuse(cudaErrorInvalidConfiguration, text(grid) + " blocks");
  const bool is_block = size.x <= kMostThreads && size.y <= kMostThreads && size.z <= 64;
  if (!is_block || volume(size) == 0 || volume(size) > kMostThreads || volume(size) % kWarp)
    return refuse(cudaErrorInvalidConfiguration, text(size) + " threads per block");
  const int allowed =
      std::max(std::min(kSharedUnasked, most_shared_bytes()), shared_bytes_of[kernel]);
  if (bytes > static_cast<size_t>(allowed))
    return refuse(cudaErrorInvalidValue, std::to_string(bytes) + " bytes of shared memory, " +
                                             std::to_string(allowed) + " are allowed");
  static unsigned launches = 0;
  std::mt19937 random(from_environment("EMULATION_SEED", 0) + ++launches);
  forget_accesses();
  thread_body = body;
  thread_arguments = arguments;
  gridDim = grid;
  blockDim = size;
  for (const unsigned block : shuffled(volume(grid), random)) {
    blockIdx = at(block, grid);
    prepare(volume(size), bytes);
    running = {launches, block};
    if (!run_block(shuffled(volume(size), random))) break;
  }
  running = {};
  return cudaSuccess;
}

}  // namespace emulation
