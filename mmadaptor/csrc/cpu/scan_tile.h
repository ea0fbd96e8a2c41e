// SPDX-License-Identifier: Apache-2.0
// Tiles (one chunk of steps by one vector of channels, laid out [step][lane]) and their
// conversion from and to tensors of any strides and dtype.
#pragma once

#include <type_traits>

#include "scan_kernel.h"
#include "simd_shuffle.h"

namespace mmadaptor::MMADAPTOR_ISA {

template <typename T>
struct Tile {
  static constexpr int width = Simd<T>::width;
  // One step more than a chunk, for the state before it. The padding avoids a size that
  // is a multiple of 4096, which would map the same step of all tiles to one cache set.
  alignas(64) T values[(kChunk + 1) * width + 64 / sizeof(T)];

  MMADAPTOR_INLINE Vec<T> operator[](int64_t step) const { return load(values + step * width); }
  MMADAPTOR_INLINE void set(int64_t step, Vec<T> v) { store(values + step * width, v); }
};

// Offsets of the steps of a chunk in a tensor, in elements.
struct Offsets {
  int64_t at[kChunk];
  bool consecutive;
};

// The region of a tensor that a tile covers.
struct Window {
  char* data;
  int item;  // log2 of the element size in bytes
  int64_t channel;
  const Offsets* steps;
  int lanes, count;  // number of channels and of steps

  // Prefetches one cache line of the window; called once for each step of the walk.
  template <int for_writing>
  MMADAPTOR_INLINE void fetch(int64_t step) const {
    static_assert(kChunk == 64, "a channel's steps are as many lines as an element has bytes");
    int64_t element = steps->at[step];
    if (steps->consecutive && channel != 1) {
      const int64_t line = step & ((1 << item) - 1);
      element = steps->at[0] + (line << (6 - item)) + (step >> item) * channel;
    }
    __builtin_prefetch(data + (element << item), for_writing, 2);
  }
};

template <typename T, typename scalar_t>
void read_from(Tile<T>& tile, const scalar_t* data, const Window& from) {
  constexpr int width = Tile<T>::width;
  const int64_t* at = from.steps->at;
  int64_t step = 0;
  if (from.channel == 1 && from.lanes == width) {
    for (; step < from.count; ++step) tile.set(step, load_as<T>(data + at[step], width));
  } else if (from.channel == 1) {
    for (; step < from.count; ++step) tile.set(step, load_as<T>(data + at[step], from.lanes));
  } else if (from.steps->consecutive) {
    for (; step + width <= from.count; step += width) {
      const scalar_t* corner = data + at[step];
      Vec<T> square[width];
#pragma GCC unroll 16
      for (int lane = 0; lane < width; ++lane)
        square[lane] =
            lane < from.lanes ? load_as<T>(corner + lane * from.channel, width) : Vec<T>{};
      transpose<T>(square);
#pragma GCC unroll 16
      for (int i = 0; i < width; ++i) tile.set(step + i, square[i]);
    }
  }
  for (; step < from.count; ++step) {
    alignas(64) T lanes[width] = {};
    for (int lane = 0; lane < from.lanes; ++lane)
      lanes[lane] = static_cast<T>(data[lane * from.channel + at[step]]);
    tile.set(step, load(lanes));
  }
}

template <bool adds, typename T, typename scalar_t>
MMADAPTOR_INLINE void put(scalar_t* target, Vec<T> v, int count) {
  if constexpr (adds) v = load_as<T>(target, count) + v;
  store_as<T>(target, v, count);
}

template <bool adds, typename T, typename scalar_t>
void write_to(const Tile<T>& tile, scalar_t* data, const Window& to) {
  constexpr int width = Tile<T>::width;
  const int64_t* at = to.steps->at;
  int64_t step = 0;
  if (to.channel == 1 && to.lanes == width) {
    for (; step < to.count; ++step) put<adds, T>(data + at[step], tile[step], width);
  } else if (to.channel == 1) {
    for (; step < to.count; ++step) put<adds, T>(data + at[step], tile[step], to.lanes);
  } else if (to.steps->consecutive) {
    for (; step + width <= to.count; step += width) {
      Vec<T> square[width];
#pragma GCC unroll 16
      for (int i = 0; i < width; ++i) square[i] = tile[step + i];
      transpose<T>(square);
#pragma GCC unroll 16
      for (int lane = 0; lane < width; ++lane)
        if (lane < to.lanes) put<adds, T>(data + lane * to.channel + at[step], square[lane], width);
    }
  }
  for (; step < to.count; ++step)
    for (int lane = 0; lane < to.lanes; ++lane) {
      scalar_t& target = data[lane * to.channel + at[step]];
      const T value = tile.values[step * width + lane];
      target = static_cast<scalar_t>(adds ? static_cast<T>(target) + value : value);
    }
}

template <typename T>
void read(Tile<T>& tile, ScalarType dtype, const Window& from) {
  if constexpr (std::is_same_v<T, double>)
    read_from(tile, reinterpret_cast<const double*>(from.data), from);
  else if (dtype == ScalarType::Float)
    read_from(tile, reinterpret_cast<const float*>(from.data), from);
  else if (dtype == ScalarType::BFloat16)
    read_from(tile, reinterpret_cast<const torch::headeronly::BFloat16*>(from.data), from);
  else
    read_from(tile, reinterpret_cast<const torch::headeronly::Half*>(from.data), from);
}

template <typename T>
void write(const Tile<T>& tile, ScalarType dtype, const Window& to) {
  if constexpr (std::is_same_v<T, double>)
    write_to<false>(tile, reinterpret_cast<double*>(to.data), to);
  else if (dtype == ScalarType::Float)
    write_to<false>(tile, reinterpret_cast<float*>(to.data), to);
  else if (dtype == ScalarType::BFloat16)
    write_to<false>(tile, reinterpret_cast<torch::headeronly::BFloat16*>(to.data), to);
  else
    write_to<false>(tile, reinterpret_cast<torch::headeronly::Half*>(to.data), to);
}

// Accumulates into memory of type T.
template <typename T>
void add(const Tile<T>& tile, const Window& to) {
  write_to<true>(tile, reinterpret_cast<T*>(to.data), to);
}

// sums[step] += sum over the lanes of a[step] * b[step].
template <typename T>
MMADAPTOR_INLINE void add_lane_sums(const T* a, const T* b, int steps, T* sums) {
  constexpr int width = Simd<T>::width;
  for (int64_t step = 0; step < steps; step += width) {
    Vec<T> rows[width];
#pragma GCC unroll 16
    for (int i = 0; i < width; ++i)
      rows[i] = load(a + (step + i) * width) * load(b + (step + i) * width);
    store<T>(sums + step, load(sums + step) + lane_sums<T>(rows));
  }
}

}  // namespace mmadaptor::MMADAPTOR_ISA
