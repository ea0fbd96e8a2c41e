// SPDX-License-Identifier: Apache-2.0
// Parts shared by the kernels of memory_select and memory_readout: which threads process
// which tokens, pieces of a row, and the pixels and shares of a place.
#pragma once

#include <type_traits>

#include "device.cuh"
#include "memory_select_launch.h"

namespace mmadaptor::cuda {

constexpr int kTokenThreads = 256;  // per block
// Per multiprocessor; registers are then left for all loads of a place at once.
constexpr int kTokenBlocks = 2;

// A few neighboring elements of a row, loaded or stored by one instruction.
template <typename T, int width>
struct alignas(width * sizeof(T)) Piece {
  T at[width];
};

// What one thread holds of a row: `count` pieces, the same number of elements apart.
template <typename T, int width_, int count_>
struct Pieces {
  static constexpr int width = width_, count = count_;
  using Type = Piece<T, width>;
  Type piece[count];

  __device__ __forceinline__ void add(const Pieces& other, T share) {
#pragma unroll
    for (int j = 0; j < count; ++j)
#pragma unroll
      for (int i = 0; i < width; ++i) piece[j].at[i] += other.piece[j].at[i] * share;
  }
  __device__ __forceinline__ T dot(const Pieces& other, T sum) const {
#pragma unroll
    for (int j = 0; j < count; ++j)
#pragma unroll
      for (int i = 0; i < width; ++i) sum += piece[j].at[i] * other.piece[j].at[i];
    return sum;
  }
};

// How the work is divided. Each block takes a tile of the pixels of one layer (a slice, a
// group or a direction) of one image, so that places near their token are in the first
// cache. A few neighboring threads, a power of two, share a token's row.
struct Tiles {
  int layers;
  int bits;          // log2 of a tile's width
  int across, down;  // tiles per map
};

struct TileGrid {
  Tiles tiles;
  dim3 grid, block;

  // `busy` is the number of threads that a row has work for.
  TileGrid(const MemorySelect& op, int layers, int busy) {
    int lanes = 1, bits = 0;
    while (lanes < kWarp && lanes < busy) lanes *= 2;
    const int tokens = kTokenThreads / lanes;
    while ((1 << 2 * bits) < tokens) ++bits;
    while (bits > 0 && (1 << (bits - 1)) >= op.width) --bits;
    while ((1 << bits) < tokens && (tokens >> (bits + 1)) >= op.height) ++bits;
    tiles = {layers, bits, static_cast<int>(divide_up(op.width, 1 << bits)),
             static_cast<int>(divide_up(op.height, tokens >> bits))};
    grid = dim3(static_cast<unsigned>(op.batch * layers * tiles.across * tiles.down));
    block = dim3(lanes, tokens);
  }
};

// Calls `visit` with the pieces of a thread (a pointer to their type) and the grid. Only
// float rows have pieces of several elements.
template <typename T, typename Visit>
void for_pieces(const MemorySelect& op, int layers, const Visit& visit) {
  const auto run = [&](auto* pieces) {
    using P = std::remove_pointer_t<decltype(pieces)>;
    visit(pieces, TileGrid(op, layers, op.row / (P::width * P::count)));
  };
  if constexpr (std::is_same_v<T, float>) {
    if (op.row % 12 == 0) return run(static_cast<Pieces<T, 4, 3>*>(nullptr));
    if (op.row % 16 == 0) return run(static_cast<Pieces<T, 4, 4>*>(nullptr));
    if (op.row % 4 == 0) return run(static_cast<Pieces<T, 4, 1>*>(nullptr));
  }
  run(static_cast<Pieces<T, 1, 1>*>(nullptr));
}

// The token of a thread. Threads beyond the map repeat a token at its border, because
// shuffles need all lanes of a warp.
struct Token {
  int64_t batch;
  int layer, x, y;
  bool exists;

  __device__ __forceinline__ Token(const MemorySelect& op, const Tiles& tiles) {
    unsigned at = blockIdx.x;
    const auto split = [&at](int parts) {
      const unsigned count = static_cast<unsigned>(parts), part = at % count;
      at /= count;
      return static_cast<int>(part);
    };
    layer = split(tiles.layers);
    x = (split(tiles.across) << tiles.bits) + (threadIdx.y & ((1 << tiles.bits) - 1));
    y = split(tiles.down) * (blockDim.y >> tiles.bits) + (threadIdx.y >> tiles.bits);
    batch = at;
    exists = x < op.width && y < op.height;
    x = x < op.width ? x : op.width - 1;
    y = y < op.height ? y : op.height - 1;
  }

  // The index of its pixel, and of its layer of this pixel, in its image.
  __device__ __forceinline__ unsigned pixel(const MemorySelect& op) const {
    return y * op.width + x;
  }
  __device__ __forceinline__ unsigned index(const MemorySelect& op, const Tiles& tiles) const {
    return pixel(op) * tiles.layers + layer;
  }
};

// A pointer that the compiler does not take apart again. It would otherwise compute each
// address from the parts of the pointer, in 64 bits.
template <typename T>
__device__ __forceinline__ T* opaque(T* pointer) {
#ifdef __CUDA_ARCH__
  asm("" : "+l"(pointer));
  __builtin_assume(__isGlobal(pointer));
#endif
  return pointer;
}

// The first element of an image. From there on offsets are of 32 bits, so that an address
// takes one instruction.
template <typename T>
__device__ __forceinline__ T* of_image(T* data, const MemorySelect& op, int64_t batch, int pixel) {
  return opaque(data + batch * op.pixels() * pixel);
}

// The pieces of a thread in the rows of one slice of an image; T may be const.
template <typename T, typename P>
struct Rows {
  T* first[P::count];
  unsigned stride;  // between pixels

  // `slices` are those of a pixel.
  __device__ __forceinline__ Rows(T* data, const MemorySelect& op, int64_t batch, int slice,
                                  int slices)
      : stride(slices * op.row) {
    T* const row = of_image(data, op, batch, slices * op.row) + slice * op.row;
#pragma unroll
    for (int j = 0; j < P::count; ++j)
      first[j] = opaque(row + (threadIdx.x * P::width + j * (op.row / P::count)));
  }

  // `at` is the offset of a pixel, plus that of the pieces in a row that is longer than what
  // the threads hold at once.
  __device__ __forceinline__ P load(unsigned at, bool exists = true) const {
    P pieces = {};
#pragma unroll
    for (int j = 0; j < P::count; ++j)
      if (exists) pieces.piece[j] = *reinterpret_cast<const typename P::Type*>(first[j] + at);
    return pieces;
  }
  __device__ __forceinline__ void store(unsigned at, const P& pieces) const {
#pragma unroll
    for (int j = 0; j < P::count; ++j)
      *reinterpret_cast<typename P::Type*>(first[j] + at) = pieces.piece[j];
  }
};

// Visits the offsets of a thread's pieces in a row; more than one only if the row is longer
// than what the threads hold at once.
template <typename P, typename Visit>
__device__ __forceinline__ void along_row(const MemorySelect& op, const Visit& visit) {
  const unsigned span = op.row / P::count, step = blockDim.x * P::width;
  for (unsigned r = 0; r + threadIdx.x * P::width < span; r += step) visit(r);
}

// A coordinate, split into the pixel before it and the distance from that pixel.
template <typename T>
struct Coordinate {
  int first;
  T part;  // in [0, 1), NaN if the coordinate is not finite

  // Coordinates a pixel or more outside the map are clamped to positions where neither
  // `first` nor the next pixel is on the map, so that any number gives a valid index.
  __device__ __forceinline__ Coordinate(T x, int size) {
    const T near = fmin(fmax(x, T(-2)), T(size));
    const T below = floor(near);
    first = static_cast<int>(below);
    part = (near - below) + (x - x);
  }
};

// One place of one token. Its taps are the pixels above left, above right, below
// left and below right of it.
template <typename T>
struct Place {
  Coordinate<T> row, column;
  T weight;

  __device__ __forceinline__ Place(const MemorySelect& op, T row_, T column_, T weight_)
      : row(row_, op.height), column(column_, op.width), weight(weight_) {}

  __device__ __forceinline__ T share(int tap) const {
    const T vertical = tap / 2 ? row.part : T(1) - row.part;
    const T horizontal = tap % 2 ? column.part : T(1) - column.part;
    return vertical * horizontal * weight;
  }

  // Calls visit(tap, pieces) with the pieces of the four pixels, from element r of the
  // row on. They are zero outside the map. As many are loaded at once as registers hold.
  template <typename P, typename Visit>
  __device__ __forceinline__ void each_tap(const MemorySelect& op, const Rows<const T, P>& map,
                                           unsigned r, const Visit& visit) const {
    constexpr int kAtOnce = P::count > 3 ? 2 : 4;
    const unsigned above = row.first, left = column.first, height = op.height, width = op.width;
    const unsigned at = (above * width + left) * map.stride + r;
#pragma unroll
    for (int first = 0; first < 4; first += kAtOnce) {
      P from[kAtOnce];
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        const int down = (first + i) / 2, right = (first + i) % 2;
        from[i] = map.load(at + (down * width + right) * map.stride,
                           above + down < height && left + right < width);
      }
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) visit(first + i, from[i]);
    }
  }
};

// The places of an image, as memory_select is given them, or gradients of theirs. T is
// const if they are read.
template <typename T>
struct GivenPlaces {
  using Number = std::remove_const_t<T>;
  using Location = Piece<Number, 2>;
  std::conditional_t<std::is_const_v<T>, const Location, Location>* locations;
  T* weights;

  template <typename Data>
  __device__ __forceinline__ GivenPlaces(const MemorySelect& op, Data* locations_, Data* weights_,
                                         int64_t batch)
      : locations(of_image(static_cast<decltype(locations)>(locations_), op, batch,
                           op.slices * op.places)),
        weights(of_image(static_cast<T*>(weights_), op, batch, op.slices * op.places)) {}

  __device__ __forceinline__ Place<Number> place(const MemorySelect& op, unsigned at) const {
    const Location location = locations[at];
    return {op, location.at[0], location.at[1], weights[at]};
  }
  __device__ __forceinline__ void store(unsigned at, const Location& location, T weight) const {
    locations[at] = location;
    weights[at] = weight;
  }
};

// Whether this thread, of those that share a token, writes what belongs to place p.
__device__ __forceinline__ bool is_turn_of(int p) { return threadIdx.x == (p & (blockDim.x - 1)); }

}  // namespace mmadaptor::cuda
