// SPDX-License-Identifier: Apache-2.0
// CPU kernels of memory_readout, forward and backward, for any vector width. Equivalent
// to memory_select with places computed from the predicted offsets and logits, fused
// with the readout of the memory.
#pragma once

#include "memory_select_impl.h"

namespace mmadaptor::MMADAPTOR_ISA {

// The places of a tile, computed from the predicted offsets and logits.
template <typename T>
class PredictedPlaces {
 public:
  explicit PredictedPlaces(const MemoryReadout& op)
      : places(op), softmax(places.size()), coefficient(op.tile_tokens()) {}

  // Finds the places of a tile; their weight is softmax times coefficient.
  template <typename Row>
  MMADAPTOR_INLINE void read(const MemoryReadout& op, const Tile& tile, Row* map,
                             int64_t pixel_stride, Row* outside) {
    const int64_t direction = tile.slice / op.groups, group = tile.slice % op.groups;
    const T granularity = static_cast<T>(op.granularities[group]);
    for (int64_t t = 0; t < tile.tokens; ++t) {
      const int64_t pixel = tile.token + t, to = t * op.places;
      const T row = static_cast<T>(pixel / op.width), column = static_cast<T>(pixel % op.width);
      const T* offsets = offsets_at(op, tile, t, static_cast<const T*>(op.predicted));
      const T* logits = logits_of(op, group, offsets);
      offsets += 2 * group * op.places;
      T largest = logits[0];
      for (int64_t p = 1; p < op.places; ++p) largest = std::max(largest, logits[p]);
      for (int64_t p = 0; p < op.places; ++p) {
        places.row[to + p] = row + granularity * offsets[2 * p];
        places.column[to + p] = column + granularity * offsets[2 * p + 1];
        softmax[to + p] = logits[p] - largest;
      }
      coefficient[t] = static_cast<const T*>(
          op.coefficients)[(tile.batch * op.pixels() + pixel) * op.directions() + direction];
    }
    for (int64_t i = 0; i < places.size(); i += Places<T>::width)
      store(&softmax[i], exp(load(&softmax[i])));
    for (int64_t t = 0; t < tile.tokens; ++t) {
      T sum = 0;
      T* const shares = &softmax[t * op.places];
      for (int64_t p = 0; p < op.places; ++p) sum += shares[p];
      for (int64_t p = 0; p < op.places; ++p) {
        shares[p] /= sum;
        places.weight[t * op.places + p] = shares[p] * coefficient[t];
      }
    }
    places.find(op, tile, map, pixel_stride, outside);
  }

  // The predicted numbers of a token and direction: offsets of all groups, then logits.
  template <typename Pointer>
  static MMADAPTOR_INLINE Pointer offsets_at(const MemoryReadout& op, const Tile& tile, int64_t t,
                                             Pointer predicted) {
    const int64_t token = tile.batch * op.pixels() + tile.token + t;
    return predicted + (token * op.directions() + tile.slice / op.groups) * op.width_of_predicted();
  }
  template <typename Pointer>
  static MMADAPTOR_INLINE Pointer logits_of(const MemoryReadout& op, int64_t group,
                                            Pointer offsets) {
    return offsets + (2 * op.groups + group) * op.places;
  }

  Places<T> places;
  std::vector<T> softmax;      // of each place
  std::vector<T> coefficient;  // of each token
};

// Fetches the rows of a slice a few rows of pixels ahead of a tile. Places near their
// tokens then find them in the cache.
template <typename T>
MMADAPTOR_INLINE void fetch_ahead(const MemoryReadout& op, const Tile& tile, const T* map,
                                  int64_t pixel_stride) {
  constexpr int64_t kLine = 64 / sizeof(T), kRowsAhead = 3;
  const int64_t first = tile.token + kRowsAhead * op.width;
  const int64_t last = std::min(first + tile.tokens, op.pixels());
  for (int64_t pixel = first; pixel < last; ++pixel)
    for (int64_t i = 0; i < op.row; i += kLine) __builtin_prefetch(map + pixel * pixel_stride + i);
}

template <typename T>
void readout(const MemoryReadout& op, void* y, int64_t begin, int64_t end) {
  const int64_t pixel_stride = op.slices * op.row;
  T* const values = static_cast<T*>(const_cast<void*>(op.states));  // not written
  std::vector<T> outside(op.row);
  PredictedPlaces<T> in(op);
  for (int64_t task = begin; task < end; ++task) {
    Tile tile{task / op.tiles(), 0, task % op.tiles() * op.tile_tokens(), 0};
    tile.tokens = std::min(op.tile_tokens(), op.pixels() - tile.token);
    T* const sums = static_cast<T*>(y) + (tile.batch * op.pixels() + tile.token) * op.channels();
    std::fill_n(sums, tile.tokens * op.channels(), T(0));
    for (tile.slice = 0; tile.slice < op.slices; ++tile.slice) {
      T* map = values + tile.batch * op.pixels() * pixel_stride + tile.slice * op.row;
      fetch_ahead(op, tile, map, pixel_stride);
      in.read(op, tile, map, pixel_stride, outside.data());
      for (int64_t t = 0; t < tile.tokens; ++t)
        gather_row<true>(op, in.places, t,
                         sums + t * op.channels() + tile.slice % op.groups * op.row);
    }
  }
}

template <int N, typename T>
void readout_backward_slice(const MemoryReadout& op, const MemoryReadoutGradients& grads, Tile tile,
                            int64_t block, PackedSlice<T>& slice, PredictedPlaces<T>& in,
                            T* products) {
  const int64_t tokens = op.batch * op.pixels() * op.directions();
  const int64_t group = tile.slice % op.groups, direction = tile.slice / op.groups;
  const T granularity = static_cast<T>(op.granularities[group]);
  T* const predicted = static_cast<T*>(grads.predicted) + block * tokens * op.width_of_predicted();
  T* const coefficients =
      static_cast<T*>(grads.coefficients) + (block * op.groups + group) * tokens;
  for (tile.token = 0; tile.token < op.pixels(); tile.token += op.tile_tokens()) {
    tile.tokens = std::min(op.tile_tokens(), op.pixels() - tile.token);
    in.read(op, tile, slice.map(), slice.stride(), slice.outside());
    for (int64_t t = 0; t < tile.tokens; ++t) {
      const int64_t ahead = kAhead * op.directions() * op.width_of_predicted();
      prefetch(in.offsets_at(op, tile, t, static_cast<const T*>(op.predicted)) + ahead,
               op.width_of_predicted());
      prefetch(in.offsets_at(op, tile, t, predicted), op.width_of_predicted());
      const T* incoming = slice.token(static_cast<const T*>(grads.y), tile.token + t);
      for (int64_t p = 0; p < op.places; ++p)
        scatter<N>(in.places, t * op.places + p, incoming, slice.vectors(), products);
    }
    // Now `row` and `column` are gradients, and `weight` is the product of the sample
    // at the place with the incoming gradient.
    differentiate(in.places, products);
    for (int64_t t = 0; t < tile.tokens; ++t) {
      const int64_t from = t * op.places;
      const T* shares = &in.softmax[from];
      const T* held = &in.places.weight[from];
      T mean = 0;
      for (int64_t p = 0; p < op.places; ++p) mean += shares[p] * held[p];
      T* offsets = in.offsets_at(op, tile, t, predicted);
      T* logits = in.logits_of(op, group, offsets);
      offsets += 2 * group * op.places;
      for (int64_t p = 0; p < op.places; ++p) {
        offsets[2 * p] = granularity * in.places.row[from + p];
        offsets[2 * p + 1] = granularity * in.places.column[from + p];
        logits[p] = in.coefficient[t] * shares[p] * (held[p] - mean);
      }
      const int64_t token = tile.batch * op.pixels() + tile.token + t;
      coefficients[token * op.directions() + direction] = mean;
    }
  }
}

template <typename T>
void readout_backward(const MemoryReadout& op, const MemoryReadoutGradients& grads, int64_t begin,
                      int64_t end) {
  PackedSlice<T> slice(op);
  PredictedPlaces<T> in(op);
  std::vector<T> products(4 * in.places.size() * Simd<T>::width);
  for (int64_t task = begin; task < end; ++task) {
    const int64_t block = task % op.blocks(), of = task / op.blocks();
    const Tile tile{of / op.slices, of % op.slices, 0, 0};
    slice.start(tile.batch, tile.slice, block);
    const auto run = slice.vectors() % 4 == 0   ? readout_backward_slice<4, T>
                     : slice.vectors() % 3 == 0 ? readout_backward_slice<3, T>
                     : slice.vectors() % 2 == 0 ? readout_backward_slice<2, T>
                                                : readout_backward_slice<1, T>;
    run(op, grads, tile, block, slice, in, products.data());
    slice.finish(static_cast<T*>(grads.values));
  }
}

void readout_any(const MemoryReadout& op, void* y, int64_t begin, int64_t end) {
  if (op.dtype == ScalarType::Double)
    readout<double>(op, y, begin, end);
  else
    readout<float>(op, y, begin, end);
}

void readout_backward_any(const MemoryReadout& op, const MemoryReadoutGradients& grads,
                          int64_t begin, int64_t end) {
  if (op.dtype == ScalarType::Double)
    readout_backward<double>(op, grads, begin, end);
  else
    readout_backward<float>(op, grads, begin, end);
}

const MemorySelectKernels memory_select_kernels = {forward_any, backward_any, readout_any,
                                                   readout_backward_any};

}  // namespace mmadaptor::MMADAPTOR_ISA
