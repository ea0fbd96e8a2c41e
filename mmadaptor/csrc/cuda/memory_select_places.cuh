// SPDX-License-Identifier: Apache-2.0
// Parts shared by the memory_select kernels: pixels and shares of a place; pieces of a row.
#pragma once

#include "device.cuh"
#include "memory_select_launch.h"

namespace mmadaptor::cuda {

// A coordinate, split into the pixel before it and the distance from that pixel.
template <typename T>
struct Coordinate {
  int64_t first;
  T part;  // in [0, 1), NaN if the coordinate is not finite

  // Coordinates a pixel or more outside the map are clamped to positions where neither
  // `first` nor the next pixel is on the map, so that any number gives a valid index.
  __device__ __forceinline__ Coordinate(T x, int64_t size) {
    T near = x > T(-2) ? x : T(-2);
    near = near < T(size) ? near : T(size);
    const T below = floor(near);
    first = static_cast<int64_t>(below);
    part = (near - below) + (x - x);
  }
};

// One place of one token. Its taps are the pixels above left, above right, below
// left and below right of it.
template <typename T>
struct Place {
  Coordinate<T> row, column;
  T weight;

  // `at` is the index of the place over all tokens and slices.
  __device__ __forceinline__ Place(const MemorySelect& op, int64_t at)
      : row(static_cast<const T*>(op.locations)[2 * at], op.height),
        column(static_cast<const T*>(op.locations)[2 * at + 1], op.width),
        weight(static_cast<const T*>(op.weights)[at]) {}

  // The pixel of a tap; -1 if it is outside the map.
  __device__ __forceinline__ int64_t pixel(const MemorySelect& op, int tap) const {
    const int64_t y = row.first + tap / 2, x = column.first + tap % 2;
    return y >= 0 && y < op.height && x >= 0 && x < op.width ? y * op.width + x : -1;
  }

  __device__ __forceinline__ T share(int tap) const {
    const T vertical = tap / 2 ? row.part : T(1) - row.part;
    const T horizontal = tap % 2 ? column.part : T(1) - column.part;
    return vertical * horizontal * weight;
  }
};

// A few neighboring elements of a row, loaded or stored by one instruction.
template <typename T, int count>
struct alignas(count * sizeof(T)) Piece {
  T at[count];
};

template <typename T, int count>
__device__ __forceinline__ Piece<T, count> load_piece(const void* data, int64_t at) {
  return *reinterpret_cast<const Piece<T, count>*>(static_cast<const T*>(data) + at);
}

// Maps threads to the rows of tokens: `lanes` neighboring threads (a power of two, at most
// a warp) share a row in pieces, so that warp shuffles can sum over it.
struct RowGrid {
  static constexpr int kThreads = 256;
  int piece;  // elements per piece
  dim3 grid, block;

  template <typename T>
  static RowGrid over(const MemorySelect& op, const T*, const void* a, const void* b) {
    constexpr int64_t kBytes = 16;
    constexpr int64_t kPiece = kBytes / sizeof(T);
    const auto aligned = [](const void* p) { return reinterpret_cast<uintptr_t>(p) % kBytes == 0; };
    const int piece = op.row % kPiece == 0 && aligned(a) && aligned(b) ? kPiece : 1;
    int lanes = 1;
    while (lanes < kWarp && lanes * piece < op.row) lanes *= 2;
    const int rows = kThreads / lanes;
    return {piece, dim3(static_cast<unsigned>(divide_up(op.tokens(), rows))), dim3(lanes, rows)};
  }
};

}  // namespace mmadaptor::cuda
