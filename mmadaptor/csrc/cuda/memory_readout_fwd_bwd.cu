// SPDX-License-Identifier: Apache-2.0
// CUDA kernels of memory_readout. Places and weights are computed from the predictions
// where they are needed; neither they nor the memory are written in the forward pass.
#include "memory_readout_launch.h"
#include "memory_select_bwd.cuh"

namespace mmadaptor::cuda {

// The predicted numbers of one token, direction and group, or their gradients. T is const if
// they are read.
template <typename T>
struct Predictions {
  T *offsets, *logits;  // of rows and columns in turn; of places

  // `token` counts the directions of the pixels of an image.
  __device__ __forceinline__ Predictions(const MemoryReadout& op, T* data, const Token& here,
                                         unsigned token, int group) {
    const unsigned places = op.groups * op.places;
    T* const numbers =
        of_image(data, op, here.batch, 3 * op.slices * op.places) + 3 * token * places;
    offsets = opaque(numbers + 2 * group * op.places);
    logits = opaque(numbers + 2 * places + group * op.places);
  }
};

// The places of one token, direction and group, from what is predicted.
template <typename T>
class PredictedPlaces {
 public:
  __device__ __forceinline__ PredictedPlaces(const MemoryReadout& op, const Token& here,
                                             unsigned token, int group)
      : in_(op, static_cast<const T*>(op.predicted), here, token, group),
        granularity_(static_cast<T>(op.granularities[group])),
        largest_(in_.logits[0]) {
    for (int p = 1; p < op.places; ++p) largest_ = fmax(largest_, in_.logits[p]);
    T total = 0;
    for (int p = 0; p < op.places; ++p) total += exp(in_.logits[p] - largest_);
    scale_ = T(1) / total;
  }

  __device__ __forceinline__ T granularity() const { return granularity_; }
  __device__ __forceinline__ T softmax(int p) const {
    return exp(in_.logits[p] - largest_) * scale_;
  }
  __device__ __forceinline__ Piece<T, 2> location(const Token& here, int p) const {
    return {fma(granularity_, in_.offsets[2 * p], T(here.y)),
            fma(granularity_, in_.offsets[2 * p + 1], T(here.x))};
  }

 private:
  const Predictions<const T> in_;
  const T granularity_;
  T largest_, scale_;
};

template <typename T, typename P>
__global__ void __launch_bounds__(kTokenThreads, kTokenBlocks)
    memory_readout_kernel(const MemoryReadout op, const Tiles tiles, T* y) {
  const Token here(op, tiles);
  if (!here.exists) return;
  const Rows<T, P> to(y, op, here.batch, here.layer, op.groups);
  const T* const coefficients =
      of_image(static_cast<const T*>(op.coefficients), op, here.batch, op.directions());
  along_row<P>(op, [&](unsigned r) {
    P sum = {};
    for (int k = 0; k < op.directions(); ++k) {
      const unsigned token = here.pixel(op) * op.directions() + k;
      const PredictedPlaces<T> places(op, here, token, here.layer);
      const Rows<const T, P> map(static_cast<const T*>(op.states), op, here.batch,
                                 k * op.groups + here.layer, op.slices);
      const T coefficient = coefficients[token];
      for (int p = 0; p < op.places; ++p) {
        const Piece<T, 2> at = places.location(here, p);
        const Place<T> place(op, at.at[0], at.at[1], coefficient * places.softmax(p));
        place.each_tap(op, map, r,
                       [&](int tap, const P& from) { sum.add(from, place.share(tap)); });
      }
    }
    to.store(here.pixel(op) * to.stride + r, sum);
  });
}

template <typename T, typename P>
__global__ void __launch_bounds__(kTokenThreads, kTokenBlocks)
    memory_readout_places_kernel(const MemoryReadout op, const Tiles tiles,
                                 const MemoryReadoutGradients grads) {
  const Token here(op, tiles);
  const unsigned token = here.index(op, tiles);
  const GivenPlaces<T> to(op, grads.locations, grads.weights, here.batch);
  const int64_t all_tokens = here.batch * op.pixels() * op.directions();
  const T coefficient = static_cast<const T*>(op.coefficients)[all_tokens + token];
  T total = 0;
  for (int s = 0; s < op.groups; ++s) {
    const PredictedPlaces<T> places(op, here, token, s);
    const Predictions<T> grad(op, static_cast<T*>(grads.predicted), here, token, s);
    const Rows<const T, P> map(static_cast<const T*>(op.states), op, here.batch,
                               here.layer * op.groups + s, op.slices);
    Incoming<T, P> incoming(op, grads.y, here, s, op.groups);
    const unsigned first = (token * op.groups + s) * op.places;
    T mean = 0;
    for (int p = 0; p < op.places; ++p) {
      const T share = places.softmax(p), weight = coefficient * share;
      const Piece<T, 2> at = places.location(here, p);
      const auto of = incoming.derivatives(op, {op, at.at[0], at.at[1], weight}, map);
      mean += share * of.product;
      if (here.exists && is_turn_of(p)) {
        grad.offsets[2 * p] = places.granularity() * of.row;
        grad.offsets[2 * p + 1] = places.granularity() * of.column;
        grad.logits[p] = of.product;  // until the mean is known
        to.store(first + p, at, weight);
      }
    }
    if (here.exists)
      for (int p = threadIdx.x; p < op.places; p += blockDim.x)
        grad.logits[p] = coefficient * places.softmax(p) * (grad.logits[p] - mean);
    total += mean;
  }
  if (here.exists && threadIdx.x == 0)
    static_cast<T*>(grads.coefficients)[all_tokens + token] = total;
}

template <typename T>
void launch_memory_readout(const T*, const MemoryReadout& op, void* y, const Target& target) {
  for_pieces<T>(op, op.groups, [&](auto* pieces, const TileGrid& at) {
    using P = std::remove_pointer_t<decltype(pieces)>;
    launch(memory_readout_kernel<T, P>, at.grid, at.block, 0, target.stream, op, at.tiles,
           static_cast<T*>(y));
  });
}

template <typename T>
void launch_memory_readout_places(const T*, const MemoryReadout& op,
                                  const MemoryReadoutGradients& grads, const Target& target) {
  for_pieces<T>(op, op.directions(), [&](auto* pieces, const TileGrid& at) {
    using P = std::remove_pointer_t<decltype(pieces)>;
    launch(memory_readout_places_kernel<T, P>, at.grid, at.block, 0, target.stream, op, at.tiles,
           grads);
  });
}

#define MMADAPTOR_MEMORY_READOUT(T)                                                          \
  template void launch_memory_readout(const T*, const MemoryReadout&, void*, const Target&); \
  template void launch_memory_readout_places(const T*, const MemoryReadout&,                 \
                                             const MemoryReadoutGradients&, const Target&);
MMADAPTOR_MEMORY_READOUT(float)
MMADAPTOR_MEMORY_READOUT(double)

}  // namespace mmadaptor::cuda
