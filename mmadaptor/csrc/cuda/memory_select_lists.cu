// SPDX-License-Identifier: Apache-2.0
// Lists the places of each slice by cell: a stable radix sort, one block per slice. It is
// deterministic and takes time linear in the number of places, wherever they are.
#include "memory_select_places.cuh"

namespace mmadaptor::cuda {

constexpr int kListWarps = 16;
constexpr int kListThreads = kListWarps * kWarp;
constexpr int kMostDigits = 256;  // values of a digit

struct ListMemory {
  // How many entries of a warp have a digit; then those of the warps before it, and then
  // the number that the warp has placed, too.
  unsigned counts[kListWarps][kMostDigits];
  unsigned first[kMostDigits];  // position of the first entry with a digit
  unsigned sums[kMostDigits / kWarp];
};

// The entries of one slice.
template <typename T>
class Entries {
 public:
  __device__ __forceinline__ Entries(const MemorySelect& op, const PlaceLists& lists)
      : op_(op),
        lists_(lists),
        first_place_(blockIdx.x % op.slices * op.places),
        places_(op, op.locations, op.weights, blockIdx.x / op.slices) {}

  // The cell of an entry; lists.cells if it has no part on the map or is no place.
  __device__ __forceinline__ unsigned cell(unsigned entry) const {
    const unsigned token = entry >> lists_.bits, place = entry & ((1u << lists_.bits) - 1);
    if (place >= static_cast<unsigned>(op_.places)) return lists_.cells;
    const auto at = places_.locations[token * (op_.slices * op_.places) + first_place_ + place];
    const unsigned y = Coordinate<T>(at.at[0], op_.height).first + 1;
    const unsigned x = Coordinate<T>(at.at[1], op_.width).first + 1;
    const unsigned height = op_.height, width = op_.width;
    return y <= height && x <= width ? y * (width + 1) + x : lists_.cells;
  }

  // Visits the entries of a warp, which are consecutive, in order. Each gets its place
  // after those before it with the same digit; without `to`, they are only counted.
  __device__ __forceinline__ void sort(int pass, const unsigned* from, unsigned* to,
                                       ListMemory& memory) const {
    const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
    const unsigned rounds = static_cast<unsigned>(divide_up(lists_.items, kListThreads));
    unsigned i = warp * rounds * kWarp + lane;
    for (unsigned round = 0; round < rounds; ++round, i += kWarp) {
      const bool exists = i < lists_.items;
      const unsigned entry = from && exists ? from[i] : i;
      const unsigned digit =
          exists ? cell(entry) >> (pass * lists_.digit_bits) & ((1u << lists_.digit_bits) - 1)
                 : kMostDigits;
      const unsigned same = __match_any_sync(kAllLanes, digit);
      const unsigned earlier = __popc(same & ((1u << lane) - 1));
      const unsigned before = exists ? memory.counts[warp][digit] : 0;
      if (to && exists) to[memory.first[digit] + before + earlier] = entry;
      __syncwarp();
      if (exists && earlier == 0) memory.counts[warp][digit] = before + __popc(same);
      __syncwarp();
    }
  }

 private:
  const MemorySelect& op_;
  const PlaceLists& lists_;
  const unsigned first_place_;
  const GivenPlaces<const T> places_;
};

// Exclusive sums of the counts, by digit and then by warp. All threads must call it.
__device__ __forceinline__ void add_up(ListMemory& memory) {
  const int digit = threadIdx.x, lane = digit % kWarp;
  unsigned total = 0;
  if (digit < kMostDigits)
    for (int warp = 0; warp < kListWarps; ++warp) {
      const unsigned count = memory.counts[warp][digit];
      memory.counts[warp][digit] = total;
      total += count;
    }
  unsigned upto = total;  // inclusive sum over the digits of a warp
  for (int delta = 1; delta < kWarp; delta *= 2) {
    const unsigned before = __shfl_up_sync(kAllLanes, upto, delta);
    if (lane >= delta) upto += before;
  }
  if (digit < kMostDigits && lane == kWarp - 1) memory.sums[digit / kWarp] = upto;
  __syncthreads();
  if (digit < kMostDigits) {
    unsigned before = 0;
    for (int warp = 0; warp < digit / kWarp; ++warp) before += memory.sums[warp];
    memory.first[digit] = before + upto - total;
  }
  __syncthreads();
}

template <typename T>
__global__ void __launch_bounds__(kListThreads)
    list_places_kernel(const MemorySelect op, const PlaceLists lists) {
  ListMemory& memory = *shared_memory<ListMemory>();
  const Entries<T> entries(op, lists);
  const int64_t start = static_cast<int64_t>(blockIdx.x) * lists.items;
  unsigned* const sorted = lists.entries + start;
  for (int pass = 0; pass < lists.passes; ++pass) {
    // The last pass writes to the entries.
    const bool is_odd = (lists.passes - pass) % 2 == 1;
    unsigned* const to = is_odd ? sorted : lists.scratch + start;
    const unsigned* const from = pass == 0 ? nullptr : is_odd ? lists.scratch + start : sorted;
    for (int i = threadIdx.x; i < kListWarps * kMostDigits; i += kListThreads)
      memory.counts[i / kMostDigits][i % kMostDigits] = 0;
    __syncthreads();
    entries.sort(pass, from, nullptr, memory);
    __syncthreads();
    add_up(memory);
    entries.sort(pass, from, to, memory);
    __syncthreads();
  }
  // A cell's list begins at the first entry of this or a later cell.
  unsigned* const first = lists.first + static_cast<int64_t>(blockIdx.x) * (lists.cells + 1);
  for (unsigned i = threadIdx.x; i <= lists.items; i += kListThreads) {
    const unsigned before = i > 0 ? entries.cell(sorted[i - 1]) + 1 : 0;
    const unsigned cell = i < lists.items ? entries.cell(sorted[i]) : lists.cells;
    for (unsigned c = before; c <= cell; ++c) first[c] = i;
  }
}

template <typename T>
void launch_list_places(const T*, const MemorySelect& op, const PlaceLists& lists,
                        const Target& target) {
  launch(list_places_kernel<T>, dim3(static_cast<unsigned>(op.batch * op.slices)),
         dim3(kListThreads), sizeof(ListMemory), target.stream, op, lists);
}

template void launch_list_places(const float*, const MemorySelect&, const PlaceLists&,
                                 const Target&);
template void launch_list_places(const double*, const MemorySelect&, const PlaceLists&,
                                 const Target&);

}  // namespace mmadaptor::cuda
