// SPDX-License-Identifier: Apache-2.0
// Parts shared by the backward kernels of memory_select and memory_readout: derivatives of
// a sample at a place.
#pragma once

#include "memory_select_places.cuh"

namespace mmadaptor::cuda {

// The derivatives of the product of a sample with the incoming gradient: by the place's
// coordinates, times its weight, and the product itself.
template <typename T>
struct Derivatives {
  T row, column, product;

  // From the products of the four pixels' rows with the incoming gradient.
  __device__ __forceinline__ Derivatives(const Place<T>& place, const T* products) {
    const T down = place.row.part, right = place.column.part;
    const T above = products[0] + right * (products[1] - products[0]);
    const T below = products[2] + right * (products[3] - products[2]);
    const T left = products[0] + down * (products[2] - products[0]);
    const T right_side = products[1] + down * (products[3] - products[1]);
    // 0; NaN for both coordinates if either is not finite.
    const T poison = (down + right) * T(0);
    row = place.weight * (below - above) + poison;
    column = place.weight * (right_side - left) + poison;
    product = above + down * (below - above);
  }
};

// The incoming gradient of a token, kept in registers if the threads of the token hold its
// whole row.
template <typename T, typename P>
class Incoming {
 public:
  // `slices` are those of a pixel of the gradient.
  __device__ __forceinline__ Incoming(const MemorySelect& op, const void* grad, const Token& here,
                                      int slice, int slices)
      : data_(static_cast<const T*>(grad)),
        here_(here),
        slice_(slice),
        slices_(slices),
        in_registers_(op.row <= blockDim.x * P::width * P::count) {
    if (in_registers_) along_row<P>(op, [&](unsigned r) { load(op, r); });
  }

  // Called by all lanes of a warp; the result is in every lane of a token.
  __device__ __forceinline__ Derivatives<T> derivatives(const MemorySelect& op,
                                                        const Place<T>& place,
                                                        const Rows<const T, P>& map) {
    T products[4] = {};
    along_row<P>(op, [&](unsigned r) {
      if (!in_registers_) load(op, r);
      place.each_tap(op, map, r, [&](int tap, const P& from) {
        products[tap] = from.dot(grad_, products[tap]);
      });
    });
    for (int other = blockDim.x / 2; other > 0; other /= 2)
#pragma unroll
      for (int tap = 0; tap < 4; ++tap)
        products[tap] += __shfl_xor_sync(kAllLanes, products[tap], other);
    return {place, products};
  }

 private:
  __device__ __forceinline__ void load(const MemorySelect& op, unsigned r) {
    const Rows<const T, P> rows(data_, op, here_.batch, slice_, slices_);
    grad_ = rows.load(here_.pixel(op) * rows.stride + r);
  }

  const T* const data_;
  const Token& here_;
  const int slice_, slices_;
  const bool in_registers_;
  P grad_;
};

}  // namespace mmadaptor::cuda
