// SPDX-License-Identifier: Apache-2.0
// The places of a tile of tokens: converts locations to pixels and bilinear shares.
#pragma once

#include <algorithm>
#include <type_traits>
#include <vector>

#include "memory_select_kernel.h"
#include "simd.h"

namespace mmadaptor::MMADAPTOR_ISA {

template <typename T>
using Bits = typename Simd<T>::Bits;

// The places of one slice at a few consecutive tokens.
struct Tile {
  int64_t batch, slice;
  int64_t token;  // the first
  int64_t tokens;

  // Index of the first place of token t among all places.
  int64_t first_place(const MemorySelect& op, int64_t t) const {
    return ((batch * op.pixels() + token + t) * op.slices + slice) * op.places;
  }
  // Index of the first element of the row of token t among all elements.
  int64_t first_element(const MemorySelect& op, int64_t t) const {
    return ((batch * op.pixels() + token + t) * op.slices + slice) * op.row;
  }
};

template <typename T>
MMADAPTOR_INLINE Vec<T> to_float(Bits<T> v) {
  return __builtin_convertvector(v, Vec<T>);
}

// A coordinate, split into the pixel before it and the distance from that pixel.
template <typename T>
struct Coordinate {
  Bits<T> first;
  Vec<T> part;  // in [0, 1), NaN if the coordinate is not finite

  // Coordinates a pixel or more outside the map are clamped to positions where neither
  // `first` nor the next pixel is on the map, so that any number gives a valid index.
  MMADAPTOR_INLINE Coordinate(Vec<T> x, int64_t size) {
    Vec<T> near = x > splat(T(-2)) ? x : splat(T(-2));
    near = near < splat(T(size)) ? near : splat(T(size));
    first = __builtin_convertvector(near, Bits<T>);  // rounds toward zero
    first += to_float<T>(first) > near;              // a true comparison gives -1
    part = (near - to_float<T>(first)) + (x - x);
  }

  MMADAPTOR_INLINE Bits<T> is_inside(int64_t size, int next) const {
    using Index = std::remove_reference_t<decltype(first[0])>;
    return (first >= -next) & (first < static_cast<Index>(size - next));
  }
};

// The places of a tile as arrays, each padded to whole vectors.
template <typename T>
class Places {
 public:
  using Index = std::conditional_t<std::is_same_v<T, float>, int32_t, int64_t>;
  static constexpr int width = Simd<T>::width;

  explicit Places(const MemorySelect& op)
      : size_((op.tile_tokens() * op.places + width - 1) / width * width),
        row(size_),
        column(size_),
        weight(size_),
        rows(4 * size_),
        pixel_(4 * size_),
        share_(4 * size_) {}

  int64_t size() const { return size_; }
  T share(int tap, int64_t place) const { return share_[tap * size_ + place]; }

  // Reads a tile and finds the four pixels of each place: pointers to their rows
  // (`outside` for pixels off the map) and their bilinear shares times the weight.
  template <typename Row>
  MMADAPTOR_INLINE void read(const MemorySelect& op, const Tile& tile, Row* map,
                             int64_t pixel_stride, Row* outside) {
    const T* locations = static_cast<const T*>(op.locations);
    const T* weights = static_cast<const T*>(op.weights);
    for (int64_t t = 0; t < tile.tokens; ++t) {
      const int64_t from = tile.first_place(op, t), to = t * op.places;
      for (int64_t p = 0; p < op.places; ++p) {
        row[to + p] = locations[2 * (from + p)];
        column[to + p] = locations[2 * (from + p) + 1];
        weight[to + p] = weights[from + p];
      }
    }
    find(op, tile, map, pixel_stride, outside);
  }

  // Finds the four pixels of each place; row, column and weight must already be set.
  template <typename Row>
  MMADAPTOR_INLINE void find(const MemorySelect& op, const Tile& tile, Row* map,
                             int64_t pixel_stride, Row* outside) {
    for (int64_t i = 0; i < size_; i += width) locate(op, i);
    const Index off = static_cast<Index>(op.pixels());
    for (int tap = 0; tap < 4; ++tap)
      for (int64_t i = 0; i < tile.tokens * op.places; ++i) {
        const Index pixel = pixel_[tap * size_ + i];
        rows[4 * i + tap] = pixel == off ? outside : map + pixel * pixel_stride;
      }
  }

 private:
  const int64_t size_;

 public:
  std::vector<T> row, column;  // in pixels; after read() distance from the first pixel
  std::vector<T> weight;
  std::vector<T*> rows;  // four for each place: of the pixels above left, above
                         // right, below left, below right

 private:
  // Locates one vector of places.
  MMADAPTOR_INLINE void locate(const MemorySelect& op, int64_t i) {
    const Coordinate<T> r(load(&row[i]), op.height), c(load(&column[i]), op.width);
    const Index map_width = static_cast<Index>(op.width), off = static_cast<Index>(op.pixels());
    const Vec<T> w = load(&weight[i]);
    for (int tap = 0; tap < 4; ++tap) {
      const int below = tap / 2, right = tap % 2;
      const Bits<T> inside = r.is_inside(op.height, below) & c.is_inside(op.width, right);
      const Bits<T> pixel = (r.first + below) * map_width + (c.first + right);
      const Bits<T> chosen = (pixel & inside) | (off & ~inside);
      std::memcpy(&pixel_[tap * size_ + i], &chosen, sizeof(chosen));
      const Vec<T> vertical = below ? r.part : T(1) - r.part;
      const Vec<T> horizontal = right ? c.part : T(1) - c.part;
      store(&share_[tap * size_ + i], vertical * horizontal * w);
    }
    store(&row[i], r.part);
    store(&column[i], c.part);
  }

  std::vector<Index> pixel_;
  std::vector<T> share_;
};

}  // namespace mmadaptor::MMADAPTOR_ISA
