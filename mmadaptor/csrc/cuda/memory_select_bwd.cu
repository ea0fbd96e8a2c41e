// SPDX-License-Identifier: Apache-2.0
// CUDA kernels of the gradients of memory_select. The gradients of locations and weights
// are sums over a row, computed by warp shuffles. The gradient of the states is a scatter:
// a block owns a band of the map, checks all places of its slice in order, and
// accumulates those that fall into the band. Each element is therefore summed in the order
// of the places, without atomics and without lists in global memory.
#include "memory_select_places.cuh"

namespace mmadaptor::cuda {

// Derivative of bilinear sampling: turns the products of the four rows into the gradients
// of location and weight.
template <typename T>
__device__ __forceinline__ void differentiate(const Place<T>& place, const T* product, T* location,
                                              T* weight) {
  const T down = place.row.part, right = place.column.part;
  const T above = product[0] + right * (product[1] - product[0]);
  const T below = product[2] + right * (product[3] - product[2]);
  const T left = product[0] + down * (product[2] - product[0]);
  const T right_side = product[1] + down * (product[3] - product[1]);
  // 0; NaN for both coordinates if either is not finite.
  const T poison = (down + right) * T(0);
  location[0] = place.weight * (below - above) + poison;
  location[1] = place.weight * (right_side - left) + poison;
  *weight = above + down * (below - above);
}

template <typename T, int count>
__global__ void __launch_bounds__(RowGrid::kThreads)
    memory_select_places_kernel(const MemorySelect op, const MemorySelectGradients grads) {
  const int64_t here = static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
  // Threads beyond the last token repeat it: the shuffles need all lanes of a warp.
  const int64_t token = here < op.tokens() ? here : op.tokens() - 1;
  const int64_t batch = token / op.slices / op.pixels(), slice = token % op.slices;
  const int64_t map = (batch * op.pixels() * op.slices + slice) * op.row;
  for (int64_t p = 0; p < op.places; ++p) {
    const int64_t at = token * op.places + p;
    const Place<T> place(op, at);
    T product[4] = {};
    for (int64_t r = threadIdx.x * count; r < op.row; r += blockDim.x * count) {
      const auto grad = load_piece<T, count>(grads.memory, token * op.row + r);
#pragma unroll
      for (int tap = 0; tap < 4; ++tap) {
        const int64_t pixel = place.pixel(op, tap);
        if (pixel < 0) continue;
        const auto from = load_piece<T, count>(op.states, map + pixel * op.slices * op.row + r);
#pragma unroll
        for (int i = 0; i < count; ++i) product[tap] += from.at[i] * grad.at[i];
      }
    }
    for (int other = blockDim.x / 2; other > 0; other /= 2)
#pragma unroll
      for (int tap = 0; tap < 4; ++tap)
        product[tap] += __shfl_xor_sync(kAllLanes, product[tap], other);
    if (threadIdx.x == 0 && here < op.tokens())
      differentiate(place, product, static_cast<T*>(grads.locations) + 2 * at,
                    static_cast<T*>(grads.weights) + at);
  }
}

constexpr int kScatterWarps = 8;
constexpr int kScatterThreads = kScatterWarps * kWarp;

// A place that falls at least partly into a block's band.
template <typename T>
struct Hit {
  T share[4];
  int pixel[4];  // index within the band; -1 if outside the band
  int token;     // relative to the first token of the current iteration
};

// How the work is divided: each block takes a band of pixels of one slice, and a part of
// its row.
struct Bands {
  int64_t pixels, bands;        // pixels per band; bands per map
  int64_t channels, row_parts;  // elements per part; parts per row

  __host__ __device__ int64_t in_all(const MemorySelect& op) const {
    return op.batch * op.slices * row_parts * bands;
  }
};

// Shared memory: the sums of the band, the hits, and the number of hits per warp.
template <typename T>
struct ScatterMemory {
  T* sums;
  Hit<T>* hits;
  int* counts;

  __device__ explicit ScatterMemory(const Bands& bands) {
    hits = shared_memory<Hit<T>>();
    sums = reinterpret_cast<T*>(hits + kScatterThreads);
    counts = reinterpret_cast<int*>(sums + bands.pixels * bands.channels);
  }
  static size_t bytes(int64_t pixels, int64_t channels) {
    return kScatterThreads * sizeof(Hit<T>) + pixels * channels * sizeof(T) +
           kScatterWarps * sizeof(int);
  }
};

// The position of a block in the work: first place and element of its slice; its band.
struct Band {
  int64_t place, element;  // at the first token of the slice
  int64_t first, pixels;   // first pixel of the band, and its size
  int channels;

  __device__ Band(const MemorySelect& op, const Bands& all) {
    unsigned at = blockIdx.x;  // 32-bit division needs no function call
    const auto split = [&at](int64_t parts) {
      const unsigned count = static_cast<unsigned>(parts), part = at % count;
      at /= count;
      return static_cast<int64_t>(part);
    };
    const int64_t band = split(all.bands), part = split(all.row_parts) * all.channels;
    const int64_t slice = split(op.slices), batch = at;
    const int64_t token = batch * op.pixels() * op.slices + slice;
    place = token * op.places;
    element = token * op.row + part;
    first = band * all.pixels;
    pixels = op.pixels() - first < all.pixels ? op.pixels() - first : all.pixels;
    channels = static_cast<int>(op.row - part < all.channels ? op.row - part : all.channels);
  }
};

// Checks whether a place falls into the band.
template <typename T>
__device__ __forceinline__ bool look(const MemorySelect& op, const Band& band, int64_t at,
                                     Hit<T>& hit) {
  const Place<T> place(op, at);
  bool found = false;
#pragma unroll
  for (int tap = 0; tap < 4; ++tap) {
    const int64_t pixel = place.pixel(op, tap), from_first = pixel - band.first;
    const bool inside = pixel >= 0 && from_first >= 0 && from_first < band.pixels;
    hit.share[tap] = place.share(tap);
    hit.pixel[tap] = inside ? static_cast<int>(from_first) : -1;
    found |= inside;
  }
  return found;
}

// Compacts the hits of the block's threads in shared memory and returns their number. All
// threads must call it.
template <typename T>
__device__ __forceinline__ int gather_hits(const ScatterMemory<T>& memory, bool found,
                                           const Hit<T>& hit) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  int upto = found;  // inclusive prefix sum over the warp
  for (int delta = 1; delta < kWarp; delta *= 2) {
    const int before = __shfl_up_sync(kAllLanes, upto, delta);
    if (lane >= delta) upto += before;
  }
  if (lane == kWarp - 1) memory.counts[warp] = upto;
  __syncthreads();
  int before = 0, count = 0;
#pragma unroll
  for (int w = 0; w < kScatterWarps; ++w) {
    if (w < warp) before += memory.counts[w];
    count += memory.counts[w];
  }
  if (found) memory.hits[before + upto - 1] = hit;
  __syncthreads();
  return count;
}

// Adds the hits to the sums. Each warp owns every eighth pixel of the band, so no two warps
// write the same element.
template <typename T>
__device__ __forceinline__ void add_hits(const ScatterMemory<T>& memory, const Bands& all,
                                         const Band& band, int count, const T* grad,
                                         int64_t token_stride) {
  constexpr int kAhead = 4;  // loads in flight
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const auto is_mine = [&](const Hit<T>& hit, int tap) {
    return hit.pixel[tap] >= 0 && hit.pixel[tap] % kScatterWarps == warp;
  };
  for (int first = 0; first < count; first += kAhead)
    for (int r = lane; r < band.channels; r += kWarp) {
      T incoming[kAhead];
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        incoming[i] = T(0);
        if (first + i >= count) continue;
        const Hit<T>& hit = memory.hits[first + i];
        if (is_mine(hit, 0) || is_mine(hit, 1) || is_mine(hit, 2) || is_mine(hit, 3))
          incoming[i] = grad[hit.token * token_stride + r];
      }
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        if (first + i >= count) continue;
        const Hit<T>& hit = memory.hits[first + i];
#pragma unroll
        for (int tap = 0; tap < 4; ++tap)
          if (is_mine(hit, tap))
            memory.sums[hit.pixel[tap] * all.channels + r] += hit.share[tap] * incoming[i];
      }
    }
}

template <typename T>
__global__ void __launch_bounds__(kScatterThreads, 4)
    memory_select_states_kernel(const MemorySelect op, const MemorySelectGradients grads,
                                const Bands all) {
  const ScatterMemory<T> memory(all);
  const Band band(op, all);
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int64_t row = op.slices * op.row, places = op.slices * op.places;  // per pixel
  for (int64_t pixel = warp; pixel < band.pixels; pixel += kScatterWarps)
    for (int r = lane; r < band.channels; r += kWarp) memory.sums[pixel * all.channels + r] = 0;

  // Each thread checks one place of a token, or several in turn if a token has more
  // places than the block has threads.
  const bool many = op.places > kScatterThreads;
  const int here = threadIdx.x, few = static_cast<int>(many ? kScatterThreads : op.places);
  const int tokens = kScatterThreads / few, token = here / few, place = here % few;
  for (int64_t first = 0; first < op.pixels(); first += tokens)
    for (int64_t p = place; p - place < op.places; p += kScatterThreads) {
      Hit<T> hit;
      hit.token = token;
      const bool there = token < tokens && first + token < op.pixels() && p < op.places;
      const bool found = there && look(op, band, band.place + (first + token) * places + p, hit);
      const int count = gather_hits(memory, found, hit);
      const T* grad = static_cast<const T*>(grads.memory) + band.element + first * row;
      add_hits(memory, all, band, count, grad, row);
      __syncthreads();
    }
  T* states = static_cast<T*>(grads.states) + band.element + band.first * row;
  for (int64_t pixel = warp; pixel < band.pixels; pixel += kScatterWarps)
    for (int r = lane; r < band.channels; r += kWarp)
      states[pixel * row + r] = memory.sums[pixel * all.channels + r];
}

// Makes bands as large as possible while several blocks fit in the shared memory of a
// multiprocessor. The size of a band does not change the result (bit for bit).
template <typename T>
Bands plan_bands(const MemorySelect& op, const Target& target) {
  constexpr int64_t kMostChannels = 128;
  constexpr size_t kEnough = 48 * 1024;
  Bands bands;
  bands.row_parts = divide_up(op.row, kMostChannels);
  bands.channels = divide_up(op.row, bands.row_parts);
  const size_t most = target.shared_bytes < kEnough ? target.shared_bytes : kEnough;
  bands.pixels = 1;
  while (bands.pixels < op.pixels() &&
         ScatterMemory<T>::bytes(bands.pixels + 1, bands.channels) <= most)
    ++bands.pixels;
  bands.bands = divide_up(op.pixels(), bands.pixels);
  return bands;
}

template <typename T>
void launch_memory_select_backward(const T* type, const MemorySelect& op,
                                   const MemorySelectGradients& grads, const Target& target) {
  constexpr int kPiece = 16 / sizeof(T);
  const auto rows = RowGrid::over(op, type, op.states, grads.memory);
  launch(
      rows.piece == 1 ? memory_select_places_kernel<T, 1> : memory_select_places_kernel<T, kPiece>,
      rows.grid, rows.block, 0, target.stream, op, grads);
  const Bands bands = plan_bands<T>(op, target);
  launch(memory_select_states_kernel<T>, dim3(static_cast<unsigned>(bands.in_all(op))),
         dim3(kScatterThreads), ScatterMemory<T>::bytes(bands.pixels, bands.channels),
         target.stream, op, grads, bands);
}

template void launch_memory_select_backward(const float*, const MemorySelect&,
                                            const MemorySelectGradients&, const Target&);
template void launch_memory_select_backward(const double*, const MemorySelect&,
                                            const MemorySelectGradients&, const Target&);

}  // namespace mmadaptor::cuda
