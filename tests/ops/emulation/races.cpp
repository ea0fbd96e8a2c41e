// SPDX-License-Identifier: Apache-2.0
// Checks every access of the kernels to memory: it must be in bounds, and in order with the
// earlier accesses of other threads to the same two bytes. Two accesses by different
// threads, one of them a write, are a race unless a barrier of the block or warp is between
// them; blocks have no barrier. The kernels are compiled with -fsanitize=thread, which calls
// the functions below before each access; libtsan is not linked. The bounds are those of
// AddressSanitizer's allocator. Threads that write neighboring single bytes count as a race.
#include "races.h"

#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>

#include <cstdint>
#include <memory>
#include <unordered_map>

namespace emulation {

Access running;
Range own_stack, shared_range;

namespace {

constexpr unsigned kSeveral = ~0u;  // blocks, warps or lanes

// The last write, and a summary of the reads that no barrier has ordered since.
struct Cell {
  Access write, read;
};

constexpr uintptr_t kGranule = 2, kCells = 2048;
constexpr size_t kMostPages = 4096;  // 16 MiB of memory, 1 GiB of cells

// The cells of kCells granules in a row.
using Page = std::unique_ptr<Cell[]>;
std::unordered_map<uintptr_t, Page> pages;
struct Recent {
  uintptr_t number;
  Cell* cells = nullptr;
} recent[256];

Cell& cell_of(uintptr_t granule) {
  const uintptr_t number = granule / kCells;
  Recent& entry = recent[number % 256];
  if (!entry.cells || entry.number != number) {
    Page& page = pages[number];
    if (!page) page.reset(new Cell[kCells]);
    entry = {number, page.get()};
  }
  return entry.cells[granule % kCells];
}

// Whether an access was ordered before what the running thread does now.
bool is_ordered(const Access& before, bool in_shared) {
  if (before.launch != running.launch) return true;
  if (before.block != running.block) return in_shared;  // each block has memory of its own
  if (before.block_barriers != running.block_barriers) return true;
  if (before.warp != running.warp) return false;
  return before.warp_barriers != running.warp_barriers || before.lane == running.lane;
}

void add_reader(Access& read, bool in_shared) {
  if (is_ordered(read, in_shared)) {
    read = running;
    return;
  }
  unsigned Access::* const differs = read.block != running.block ? &Access::block
                                     : read.warp != running.warp ? &Access::warp
                                                                 : &Access::lane;
  read.*differs = kSeveral;
}

std::string text(unsigned number) {
  return number == kSeveral ? "several" : std::to_string(number);
}

std::string text(const Access& access, const char* verb) {
  char code[512] = "";
  __sanitizer_symbolize_pc(const_cast<char*>(static_cast<const char*>(access.code)) - 1, "%f %s:%l",
                           code, sizeof(code));
  return "block " + text(access.block) + " warp " + text(access.warp) + " lane " +
         text(access.lane) + verb + code;
}

void report(const Access& before, const char* verb, bool writes, const void* address,
            bool in_shared) {
  const std::string where =
      in_shared ? "shared memory, byte " +
                      std::to_string(static_cast<const char*>(address) - shared_range.data)
                : "device memory";
  fail("race in " + where + ":\n  " + text(before, verb) + "\n  " +
       text(running, writes ? " writes it, in " : " reads it, in "));
}

void access(const void* address, size_t size, bool writes, const void* code) {
  if (!running.launch || own_stack.contains(address)) return;
  if (__asan_region_is_poisoned(const_cast<void*>(address), size)) {
    char* const frame = static_cast<char*>(__builtin_frame_address(0));
    __asan_report_error(const_cast<void*>(code), frame, frame, const_cast<void*>(address), writes,
                        size);
  }
  running.code = code;
  const bool in_shared = shared_range.contains(address);
  const uintptr_t first = reinterpret_cast<uintptr_t>(address);
  for (uintptr_t g = first / kGranule; g <= (first + size - 1) / kGranule; ++g) {
    Cell& cell = cell_of(g);
    if (!is_ordered(cell.write, in_shared))
      report(cell.write, " has written it, in ", writes, address, in_shared);
    if (writes && !is_ordered(cell.read, in_shared))
      report(cell.read, " has read it, in ", writes, address, in_shared);
    if (writes)
      cell.write = running;
    else
      add_reader(cell.read, in_shared);
  }
}

}  // namespace

void forget_accesses() {
  if (pages.size() < kMostPages) return;
  pages.clear();
  for (Recent& entry : recent) entry = {};
}

}  // namespace emulation

#define CALLER __builtin_return_address(0)
#define CHECKED(name, size)                                                                \
  void __tsan_read##name(void* p) { emulation::access(p, size, false, CALLER); }           \
  void __tsan_write##name(void* p) { emulation::access(p, size, true, CALLER); }           \
  void __tsan_unaligned_read##name(void* p) { emulation::access(p, size, false, CALLER); } \
  void __tsan_unaligned_write##name(void* p) { emulation::access(p, size, true, CALLER); }

extern "C" {
CHECKED(1, 1)
CHECKED(2, 2)
CHECKED(4, 4)
CHECKED(8, 8)
CHECKED(16, 16)
void __tsan_read_range(void* p, size_t size) { emulation::access(p, size, false, CALLER); }
void __tsan_write_range(void* p, size_t size) { emulation::access(p, size, true, CALLER); }
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_init() {}
}
