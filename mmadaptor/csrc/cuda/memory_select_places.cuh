// SPDX-License-Identifier: Apache-2.0
// Parts shared by the kernels of memory_select and memory_readout: which threads process
// which tokens, pieces of a row, and the pixels and shares of a place.
#pragma once

#include <type_traits>

#include "device.cuh"
#include "memory_select_launch.h"

namespace mmadaptor::cuda {

constexpr int kTokenThreads = 256;  // per block

// A few neighboring elements of a row, loaded or stored by one instruction.
template <typename T, int width>
struct alignas(width * sizeof(T)) Piece {
  T at[width];
};

// What one thread holds of a row: `count` pieces, `span` elements apart.
template <typename T, int width_, int count_>
struct Pieces {
  static constexpr int width = width_, count = count_;
  Piece<T, width> piece[count];

  __device__ __forceinline__ void load(const T* row, int span) {
#pragma unroll
    for (int j = 0; j < count; ++j)
      piece[j] = *reinterpret_cast<const Piece<T, width>*>(row + j * span);
  }
  __device__ __forceinline__ void store(T* row, int span) const {
#pragma unroll
    for (int j = 0; j < count; ++j) *reinterpret_cast<Piece<T, width>*>(row + j * span) = piece[j];
  }
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

  // `span` is the number of threads that a row can keep busy.
  TileGrid(const MemorySelect& op, int layers, int span) {
    int lanes = 1, bits = 0;
    while (lanes < kWarp && lanes < span) lanes *= 2;
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

  // The index of its pixel, and of its layer of this pixel, over all images.
  __device__ __forceinline__ int64_t pixel(const MemorySelect& op) const {
    return batch * op.pixels() + (y * op.width + x);
  }
  __device__ __forceinline__ int64_t index(const MemorySelect& op, const Tiles& tiles) const {
    return pixel(op) * tiles.layers + layer;
  }
};

// The rows of one slice of an image.
template <typename T>
struct Map {
  const T* first;
  int height, width;
  int64_t stride;  // between pixels

  __device__ __forceinline__ Map(const void* states, int64_t batch, int slice, int slices,
                                 const MemorySelect& op)
      : first(static_cast<const T*>(states) + (batch * op.pixels() * slices + slice) * op.row),
        height(op.height),
        width(op.width),
        stride(static_cast<int64_t>(slices) * op.row) {}

  __device__ __forceinline__ const T* row(int pixel) const { return first + pixel * stride; }
};

// A coordinate, split into the pixel before it and the distance from that pixel.
template <typename T>
struct Coordinate {
  int first;
  T part;  // in [0, 1), NaN if the coordinate is not finite

  // Coordinates a pixel or more outside the map are clamped to positions where neither
  // `first` nor the next pixel is on the map, so that any number gives a valid index.
  __device__ __forceinline__ Coordinate(T x, int size) {
    T near = x > T(-2) ? x : T(-2);
    near = near < T(size) ? near : T(size);
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
  // row on. They are zero outside the map.
  template <typename P, typename Visit>
  __device__ __forceinline__ void each_tap(const Map<T>& map, int r, int span,
                                           const Visit& visit) const {
#pragma unroll
    for (int tap = 0; tap < 4; ++tap) {
      const int y = row.first + tap / 2, x = column.first + tap % 2;
      P from = {};
      if (static_cast<unsigned>(y) < static_cast<unsigned>(map.height) &&
          static_cast<unsigned>(x) < static_cast<unsigned>(map.width))
        from.load(map.row(y * map.width + x) + r, span);
      visit(tap, from);
    }
  }
};

// The places of one token and slice, as memory_select is given them.
template <typename T>
struct GivenPlaces {
  const Piece<T, 2>* locations;
  const T* weights;

  __device__ __forceinline__ GivenPlaces(const MemorySelect& op, int64_t token)
      : locations(static_cast<const Piece<T, 2>*>(op.locations) + token * op.places),
        weights(static_cast<const T*>(op.weights) + token * op.places) {}

  __device__ __forceinline__ Place<T> place(const MemorySelect& op, int p) const {
    const Piece<T, 2> at = locations[p];
    return {op, at.at[0], at.at[1], weights[p]};
  }
};

}  // namespace mmadaptor::cuda
