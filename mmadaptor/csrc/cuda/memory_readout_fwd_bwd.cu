// SPDX-License-Identifier: Apache-2.0
// CUDA kernels of memory_readout. Places and weights are computed from the predictions
// where they are needed; neither they nor the memory are written in the forward pass.
#include "memory_readout_launch.h"
#include "memory_select_bwd.cuh"

namespace mmadaptor::cuda {

// The places of one token, direction and group, as they are predicted.
template <typename T>
class PredictedPlaces {
 public:
  // `token` counts the directions of all pixels.
  __device__ __forceinline__ PredictedPlaces(const MemoryReadout& op, int64_t token, int group)
      : start_(token * (3 * op.groups * op.places) + 2 * group * op.places),
        to_logits_((2 * op.groups - group) * op.places),
        granularity(static_cast<T>(op.granularities[group])),
        numbers_(static_cast<const T*>(op.predicted)) {
    for (int p = 0; p < op.places; ++p) {
      const T logit = numbers_[logit_at(p)];
      largest_ = p == 0 || logit > largest_ ? logit : largest_;
    }
    T total = 0;
    for (int p = 0; p < op.places; ++p) total += exp(numbers_[logit_at(p)] - largest_);
    scale_ = T(1) / total;
  }

  // Positions among the predicted numbers: of a place's row (its column is next), and
  // of its logit.
  __device__ __forceinline__ int64_t offset_at(int p) const { return start_ + 2 * p; }
  __device__ __forceinline__ int64_t logit_at(int p) const { return start_ + to_logits_ + p; }

  __device__ __forceinline__ T softmax(int p) const {
    return exp(numbers_[logit_at(p)] - largest_) * scale_;
  }
  __device__ __forceinline__ Piece<T, 2> location(const Token& here, int p) const {
    return {T(here.y) + granularity * numbers_[offset_at(p)],
            T(here.x) + granularity * numbers_[offset_at(p) + 1]};
  }

 private:
  const int64_t start_;
  const int to_logits_;

 public:
  const T granularity;

 private:
  const T* const numbers_;
  T largest_, scale_;
};

template <typename T, typename P>
__global__ void __launch_bounds__(kTokenThreads)
    memory_readout_kernel(const MemoryReadout op, const Tiles tiles, T* y) {
  const Token here(op, tiles);
  if (!here.exists) return;
  const int span = op.row / P::count;
  for (int r = threadIdx.x * P::width; r < span; r += blockDim.x * P::width) {
    P sum = {};
    for (int k = 0; k < op.directions(); ++k) {
      const int64_t token = here.pixel(op) * op.directions() + k;
      const PredictedPlaces<T> places(op, token, here.layer);
      const Map<T> map(op.states, here.batch, k * op.groups + here.layer, op.slices, op);
      const T coefficient = static_cast<const T*>(op.coefficients)[token];
      for (int p = 0; p < op.places; ++p) {
        const Piece<T, 2> at = places.location(here, p);
        const Place<T> place(op, at.at[0], at.at[1], coefficient * places.softmax(p));
        place.template each_tap<P>(
            map, r, span, [&](int tap, const P& from) { sum.add(from, place.share(tap)); });
      }
    }
    sum.store(y + here.index(op, tiles) * op.row + r, span);
  }
}

template <typename T, typename P>
__global__ void __launch_bounds__(kTokenThreads)
    memory_readout_places_kernel(const MemoryReadout op, const Tiles tiles,
                                 const MemoryReadoutGradients grads) {
  const Token here(op, tiles);
  const int64_t token = here.index(op, tiles);
  const T coefficient = static_cast<const T*>(op.coefficients)[token];
  T* const predicted = static_cast<T*>(grads.predicted);
  T total = 0;
  for (int s = 0; s < op.groups; ++s) {
    const PredictedPlaces<T> places(op, token, s);
    const Map<T> map(op.states, here.batch, here.layer * op.groups + s, op.slices, op);
    Incoming<T, P> incoming(
        static_cast<const T*>(grads.y) + here.pixel(op) * op.channels() + s * op.row,
        op.row / P::count);
    const int64_t first = (token * op.groups + s) * op.places;
    T mean = 0;
    for (int p = 0; p < op.places; ++p) {
      const T share = places.softmax(p), weight = coefficient * share;
      const Piece<T, 2> at = places.location(here, p);
      const auto of = incoming.derivatives({op, at.at[0], at.at[1], weight}, map);
      mean += share * of.product;
      if (threadIdx.x == (p & (blockDim.x - 1)) && here.exists) {
        predicted[places.offset_at(p)] = places.granularity * of.row;
        predicted[places.offset_at(p) + 1] = places.granularity * of.column;
        predicted[places.logit_at(p)] = of.product;  // until the mean is known
        static_cast<Piece<T, 2>*>(grads.locations)[first + p] = at;
        static_cast<T*>(grads.weights)[first + p] = weight;
      }
    }
    if (here.exists)
      for (int p = threadIdx.x; p < op.places; p += blockDim.x) {
        T& logit = predicted[places.logit_at(p)];
        logit = coefficient * places.softmax(p) * (logit - mean);
      }
    total += mean;
  }
  if (threadIdx.x == 0 && here.exists) static_cast<T*>(grads.coefficients)[token] = total;
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
