// SPDX-License-Identifier: Apache-2.0
// What memory_select's kernels share: a place's pixels and shares, a row's pieces.
#pragma once

#include "device.cuh"
#include "memory_select_launch.h"

namespace mmadaptor::cuda {

// A coordinate as the pixel before it and its distance from that pixel.
template <typename T>
struct Coordinate {
  int64_t first;
  T part;  // in [0, 1), NaN if the coordinate is not finite

  // A coordinate outside by a pixel or more is moved to where neither its first
  // pixel nor the next is on the map, so that any number becomes an index.
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

  // `at` counts places over all tokens and slices.
  __device__ __forceinline__ Place(const MemorySelect& op, int64_t at)
      : row(static_cast<const T*>(op.locations)[2 * at], op.height),
        column(static_cast<const T*>(op.locations)[2 * at + 1], op.width),
        weight(static_cast<const T*>(op.weights)[at]) {}

  // The tap's pixel; -1 if it is not on the map.
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

// A few neighbours of a row, which one instruction moves.
template <typename T, int count>
struct alignas(count * sizeof(T)) Piece {
  T at[count];
};

template <typename T, int count>
__device__ __forceinline__ Piece<T, count> load_piece(const void* data, int64_t at) {
  return *reinterpret_cast<const Piece<T, count>*>(static_cast<const T*>(data) + at);
}

// How threads are laid over the rows of tokens: `lanes` neighbours, a power of two
// up to a warp, share a row in pieces, so that a warp's shuffles add it up.
struct RowGrid {
  static constexpr int kThreads = 256;
  int piece;  // numbers
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
