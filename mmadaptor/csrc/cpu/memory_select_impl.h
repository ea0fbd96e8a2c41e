// SPDX-License-Identifier: Apache-2.0
// CPU kernels of memory_select, forward and backward, for any vector width. Lanes are
// neighboring elements of a row: sampling a place is a weighted sum of four rows.
#pragma once

#include "memory_select_places.h"
#include "simd_shuffle.h"

namespace mmadaptor::MMADAPTOR_ISA {

template <typename L, typename T>
MMADAPTOR_INLINE L load_lanes(const T* source) {
  L v;
  std::memcpy(&v, source, sizeof(v));
  return v;
}

// Samples N * L elements of a token's row, starting at element `at`; L is a vector or
// a scalar. With `add` the result is added to `out`, otherwise it overwrites `out`.
template <bool add, typename L, int N, typename T>
MMADAPTOR_INLINE void gather(const Places<T>& in, int64_t first, int64_t places, int64_t at,
                             T* out) {
  constexpr int step = sizeof(L) / sizeof(T);
  L sum[N] = {};
  if constexpr (add) std::memcpy(sum, out + at, sizeof(sum));
  for (int64_t p = first; p < first + places; ++p)
#pragma GCC unroll 4
    for (int tap = 0; tap < 4; ++tap) {
      const T* from = in.rows[4 * p + tap] + at;
      const T share = in.share(tap, p);
#pragma GCC unroll 8
      for (int i = 0; i < N; ++i) sum[i] += load_lanes<L>(from + i * step) * share;
    }
  std::memcpy(out + at, sum, sizeof(sum));
}

// The same for `count` < N vectors.
template <bool add, int N, typename T>
MMADAPTOR_INLINE void gather_vectors(const Places<T>& in, int64_t first, int64_t places, int64_t at,
                                     int64_t count, T* out) {
  if constexpr (N > 1) {
    if (count == N - 1)
      gather<add, Vec<T>, N - 1>(in, first, places, at, out);
    else
      gather_vectors<add, N - 1>(in, first, places, at, count, out);
  }
}

template <bool add, typename T>
MMADAPTOR_INLINE void gather_row(const MemorySelect& op, const Places<T>& in, int64_t token,
                                 T* out) {
  constexpr int width = Simd<T>::width, most = 8;  // sums that fit in registers
  const int64_t first = token * op.places;
  int64_t at = 0;
  for (; at + most * width <= op.row; at += most * width)
    gather<add, Vec<T>, most>(in, first, op.places, at, out);
  const int64_t rest = (op.row - at) / width;
  gather_vectors<add, most>(in, first, op.places, at, rest, out);
  for (at += rest * width; at < op.row; ++at) gather<add, T, 1>(in, first, op.places, at, out);
}

template <typename T>
void forward(const MemorySelect& op, void* memory, int64_t begin, int64_t end) {
  const int64_t pixel_stride = op.slices * op.row;
  T* const states = static_cast<T*>(const_cast<void*>(op.states));  // not written
  std::vector<T> outside(op.row);
  Places<T> places(op);
  for (int64_t task = begin; task < end; ++task) {
    Tile tile{task / op.tiles(), 0, task % op.tiles() * op.tile_tokens(), 0};
    tile.tokens = std::min(op.tile_tokens(), op.pixels() - tile.token);
    for (tile.slice = 0; tile.slice < op.slices; ++tile.slice) {
      T* map = states + tile.batch * op.pixels() * pixel_stride + tile.slice * op.row;
      places.read(op, tile, map, pixel_stride, outside.data());
      for (int64_t t = 0; t < tile.tokens; ++t)
        gather_row<false>(op, places, t, static_cast<T*>(memory) + tile.first_element(op, t));
    }
  }
}

// Prefetch distance in pixels. Software prefetch is needed: consecutive rows and places
// of a slice are a whole pixel apart in memory, too far for the hardware prefetcher.
constexpr int64_t kAhead = 12;

template <typename T>
MMADAPTOR_INLINE void prefetch(const T* data, int64_t count) {
  __builtin_prefetch(data);
  __builtin_prefetch(data + count - 1);
}

// A packed copy of one block of a slice's rows. Each pixel has its states next to the
// accumulator of their gradient, both zero-padded to whole vectors. One more entry
// after the last pixel stands for all pixels outside the map.
template <typename T>
class PackedSlice {
 public:
  static constexpr int width = Simd<T>::width;

  explicit PackedSlice(const MemorySelect& op)
      : op_(op),
        slot_((std::min(op.row, op.kBlock) + width - 1) / width * width),
        memory_((op.pixels() + 1) * 2 * slot_ + kAlignment / sizeof(T)),
        token_(slot_) {
    const auto address = reinterpret_cast<std::uintptr_t>(memory_.data());
    map_ = memory_.data() + (-address % kAlignment) / sizeof(T);
  }

  // Packs the states and sets the gradients to 0.
  void start(int64_t batch, int64_t slice, int64_t block) {
    const int64_t at = block * op_.kBlock;
    count_ = std::min(op_.kBlock, op_.row - at);
    pitch_ = (count_ + width - 1) / width * width;
    offset_ = (batch * op_.pixels() * op_.slices + slice) * op_.row + at;
    incoming_ =
        (batch * op_.pixels() * op_.incoming_slices + slice % op_.incoming_slices) * op_.row + at;
    const T* from = static_cast<const T*>(op_.states) + offset_;
    for (int64_t pixel = 0; pixel < op_.pixels(); ++pixel, from += pixel_stride()) {
      prefetch(from + kAhead * pixel_stride(), count_);
      T* slot = map_ + pixel * stride();
      std::copy_n(from, count_, slot);
      std::fill(slot + count_, slot + stride(), T(0));
    }
    std::fill_n(outside(), stride(), T(0));
  }

  void finish(T* gradient) const {
    T* to = gradient + offset_;
    for (int64_t pixel = 0; pixel < op_.pixels(); ++pixel, to += pixel_stride()) {
      prefetch(to + kAhead * pixel_stride(), count_);
      std::copy_n(map_ + pixel * stride() + pitch_, count_, to);
    }
  }

  // A token's incoming gradient, zero-padded in the same way.
  MMADAPTOR_INLINE const T* token(const T* incoming, int64_t pixel) {
    const int64_t apart = op_.incoming_slices * op_.row;
    const T* from = incoming + incoming_ + pixel * apart;
    prefetch(from + kAhead * apart, count_);
    if (count_ == pitch_) return from;
    std::copy_n(from, count_, token_.data());
    return token_.data();
  }

  int64_t vectors() const { return pitch_ / width; }
  int64_t stride() const { return 2 * pitch_; }
  T* map() { return map_; }
  T* outside() { return map_ + op_.pixels() * stride(); }

 private:
  static constexpr std::uintptr_t kAlignment = 64;  // a cache line

  int64_t pixel_stride() const { return op_.slices * op_.row; }

  const MemorySelect& op_;
  const int64_t slot_;
  int64_t count_, pitch_, offset_, incoming_;
  std::vector<T> memory_, token_;
  T* map_;
};

// Adds the contribution of a place to the gradients of its four rows. Stores the
// products of these rows with the incoming gradient, not yet summed over lanes.
template <int N, typename T>
MMADAPTOR_INLINE void scatter(const Places<T>& in, int64_t place, const T* incoming,
                              int64_t vectors, T* products) {
  constexpr int width = Simd<T>::width;
  const int64_t pitch = vectors * width;
  Vec<T> product[4] = {};
  for (int64_t at = 0; at < pitch; at += N * width) {
    Vec<T> grad[N];
#pragma GCC unroll 4
    for (int i = 0; i < N; ++i) grad[i] = load(incoming + at + i * width);
#pragma GCC unroll 4
    for (int tap = 0; tap < 4; ++tap) {
      T* row = in.rows[4 * place + tap] + at;
      const T share = in.share(tap, place);
#pragma GCC unroll 4
      for (int i = 0; i < N; ++i, row += width) {
        product[tap] += load(row) * grad[i];
        store(row + pitch, load(row + pitch) + grad[i] * share);
      }
    }
  }
  for (int tap = 0; tap < 4; ++tap)
    store(products + (tap * in.size() + place) * width, product[tap]);
}

// The horizontal sums of `width` consecutive vectors.
template <typename T>
MMADAPTOR_INLINE Vec<T> sums_of(const T* vectors) {
  constexpr int width = Simd<T>::width;
  Vec<T> v[width];
#pragma GCC unroll 16
  for (int i = 0; i < width; ++i) v[i] = load(vectors + i * width);
  return lane_sums<T>(v);
}

// Derivative of bilinear sampling: turns the products of the four rows into the
// gradients of row, column and weight, which overwrite these members of `places`.
template <typename T>
MMADAPTOR_INLINE void differentiate(Places<T>& places, const T* products) {
  constexpr int width = Simd<T>::width;
  const int64_t tap = places.size() * width;
  for (int64_t i = 0; i < places.size(); i += width) {
    const T* at = products + i * width;
    const Vec<T> above_left = sums_of<T>(at), above_right = sums_of<T>(at + tap),
                 below_left = sums_of<T>(at + 2 * tap), below_right = sums_of<T>(at + 3 * tap);
    const Vec<T> down = load(&places.row[i]), right = load(&places.column[i]);
    const Vec<T> weight = load(&places.weight[i]);
    const Vec<T> above = above_left + right * (above_right - above_left);
    const Vec<T> below = below_left + right * (below_right - below_left);
    const Vec<T> left = above_left + down * (below_left - above_left);
    const Vec<T> right_side = above_right + down * (below_right - above_right);
    // 0; NaN for both coordinates if either is not finite.
    const Vec<T> poison = (down + right) * T(0);
    store(&places.row[i], weight * (below - above) + poison);
    store(&places.column[i], weight * (right_side - left) + poison);
    store(&places.weight[i], above + down * (below - above));
  }
}

template <int N, typename T>
void backward_slice(const MemorySelect& op, const MemorySelectGradients& grads, Tile tile,
                    int64_t block, PackedSlice<T>& slice, Places<T>& places, T* products) {
  const int64_t part = block * op.batch * op.pixels() * op.slices * op.places;
  T* locations = static_cast<T*>(grads.locations) + 2 * part;
  T* weights = static_cast<T*>(grads.weights) + part;
  for (tile.token = 0; tile.token < op.pixels(); tile.token += op.tile_tokens()) {
    tile.tokens = std::min(op.tile_tokens(), op.pixels() - tile.token);
    places.read(op, tile, slice.map(), slice.stride(), slice.outside());
    for (int64_t t = 0; t < tile.tokens; ++t) {
      const int64_t now = tile.first_place(op, t), later = now + kAhead * op.slices * op.places;
      prefetch(static_cast<const T*>(op.locations) + 2 * later, 2 * op.places);
      prefetch(static_cast<const T*>(op.weights) + later, op.places);
      prefetch(locations + 2 * now, 2 * op.places);
      prefetch(weights + now, op.places);
      const T* incoming = slice.token(static_cast<const T*>(grads.memory), tile.token + t);
      for (int64_t p = 0; p < op.places; ++p)
        scatter<N>(places, t * op.places + p, incoming, slice.vectors(), products);
    }
    differentiate(places, products);
    for (int64_t t = 0; t < tile.tokens; ++t) {
      const int64_t to = tile.first_place(op, t), from = t * op.places;
      for (int64_t p = 0; p < op.places; ++p) {
        locations[2 * (to + p)] = places.row[from + p];
        locations[2 * (to + p) + 1] = places.column[from + p];
        weights[to + p] = places.weight[from + p];
      }
    }
  }
}

template <typename T>
void backward(const MemorySelect& op, const MemorySelectGradients& grads, int64_t begin,
              int64_t end) {
  PackedSlice<T> slice(op);
  Places<T> places(op);
  std::vector<T> products(4 * places.size() * Simd<T>::width);
  for (int64_t task = begin; task < end; ++task) {
    const int64_t block = task % op.blocks(), of = task / op.blocks();
    const Tile tile{of / op.slices, of % op.slices, 0, 0};
    slice.start(tile.batch, tile.slice, block);
    const auto run = slice.vectors() % 4 == 0   ? backward_slice<4, T>
                     : slice.vectors() % 3 == 0 ? backward_slice<3, T>
                     : slice.vectors() % 2 == 0 ? backward_slice<2, T>
                                                : backward_slice<1, T>;
    run(op, grads, tile, block, slice, places, products.data());
    slice.finish(static_cast<T*>(grads.states));
  }
}

void forward_any(const MemorySelect& op, void* memory, int64_t begin, int64_t end) {
  if (op.dtype == ScalarType::Double)
    forward<double>(op, memory, begin, end);
  else
    forward<float>(op, memory, begin, end);
}

void backward_any(const MemorySelect& op, const MemorySelectGradients& grads, int64_t begin,
                  int64_t end) {
  if (op.dtype == ScalarType::Double)
    backward<double>(op, grads, begin, end);
  else
    backward<float>(op, grads, begin, end);
}

}  // namespace mmadaptor::MMADAPTOR_ISA
