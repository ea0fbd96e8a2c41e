// Tiles: a chunk of time by one vector of channels, laid out [time][lane], and
// their way from and to tensors of any strides and dtype.
#pragma once

#include <type_traits>

#include "selective_scan_kernel.h"
#include "simd.h"

namespace mmadaptor::MMADAPTOR_ISA {

template <typename T>
struct Tile {
  static constexpr int width = Simd<T>::width;
  alignas(MMADAPTOR_VECTOR_BYTES) T values[kChunk * width];

  MMADAPTOR_INLINE Vec<T> operator[](int step) const { return load(values + step * width); }
  MMADAPTOR_INLINE void set(int step, Vec<T> v) { store(values + step * width, v); }
};

// The part of a tensor that a tile covers: its first element and its strides.
struct Window {
  void* data;
  int64_t channel, time;
  int lanes, steps;
};

template <typename T, typename scalar_t>
void read_from(Tile<T>& tile, const scalar_t* data, const Window& from) {
  constexpr int width = Tile<T>::width;
  int step = 0;
  if (from.channel == 1) {
    for (; step < from.steps; ++step)
      tile.set(step, load_as<T>(data + step * from.time, from.lanes));
  } else if (from.time == 1) {
    for (; step + width <= from.steps; step += width) {
      Vec<T> square[width];
#pragma GCC unroll 16
      for (int lane = 0; lane < width; ++lane)
        square[lane] = lane < from.lanes
            ? load_as<T>(data + lane * from.channel + step, width) : Vec<T>{};
      transpose<T>(square);
#pragma GCC unroll 16
      for (int i = 0; i < width; ++i) tile.set(step + i, square[i]);
    }
  }
  for (; step < from.steps; ++step) {
    alignas(MMADAPTOR_VECTOR_BYTES) T lanes[width] = {};
    for (int lane = 0; lane < from.lanes; ++lane)
      lanes[lane] = static_cast<T>(data[lane * from.channel + step * from.time]);
    tile.set(step, load(lanes));
  }
}

template <typename T, typename scalar_t>
void write_to(const Tile<T>& tile, scalar_t* data, const Window& to) {
  constexpr int width = Tile<T>::width;
  int step = 0;
  if (to.channel == 1) {
    for (; step < to.steps; ++step)
      store_as<T>(data + step * to.time, tile[step], to.lanes);
  } else if (to.time == 1) {
    for (; step + width <= to.steps; step += width) {
      Vec<T> square[width];
      for (int i = 0; i < width; ++i) square[i] = tile[step + i];
      transpose<T>(square);
      for (int lane = 0; lane < to.lanes; ++lane)
        store_as<T>(data + lane * to.channel + step, square[lane], width);
    }
  }
  for (; step < to.steps; ++step)
    for (int lane = 0; lane < to.lanes; ++lane)
      data[lane * to.channel + step * to.time] =
          static_cast<scalar_t>(tile.values[step * width + lane]);
}

template <typename T>
void read(Tile<T>& tile, c10::ScalarType dtype, const Window& from) {
  if constexpr (std::is_same_v<T, double>)
    read_from(tile, static_cast<const double*>(from.data), from);
  else if (dtype == c10::ScalarType::Float)
    read_from(tile, static_cast<const float*>(from.data), from);
  else if (dtype == c10::ScalarType::BFloat16)
    read_from(tile, static_cast<const c10::BFloat16*>(from.data), from);
  else
    read_from(tile, static_cast<const c10::Half*>(from.data), from);
}

template <typename T>
void write(const Tile<T>& tile, c10::ScalarType dtype, const Window& to) {
  if constexpr (std::is_same_v<T, double>)
    write_to(tile, static_cast<double*>(to.data), to);
  else if (dtype == c10::ScalarType::Float)
    write_to(tile, static_cast<float*>(to.data), to);
  else if (dtype == c10::ScalarType::BFloat16)
    write_to(tile, static_cast<c10::BFloat16*>(to.data), to);
  else
    write_to(tile, static_cast<c10::Half*>(to.data), to);
}

// Adds each step's sum over the lanes to sums[step]. Lanes without a channel are 0.
template <typename T>
void add_lane_sums(const Tile<T>& tile, int steps, T* sums) {
  constexpr int width = Tile<T>::width;
  int step = 0;
  for (; step + width <= steps; step += width) {
    Vec<T> square[width];
#pragma GCC unroll 16
    for (int i = 0; i < width; ++i) square[i] = tile[step + i];
    transpose<T>(square);
    Vec<T> total = load(sums + step);
#pragma GCC unroll 16
    for (int lane = 0; lane < width; ++lane) total += square[lane];
    store<T>(sums + step, total);
  }
  for (; step < steps; ++step)
    for (int lane = 0; lane < width; ++lane) sums[step] += tile.values[step * width + lane];
}

}  // namespace mmadaptor::MMADAPTOR_ISA
