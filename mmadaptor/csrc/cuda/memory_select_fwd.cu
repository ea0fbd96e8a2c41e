// SPDX-License-Identifier: Apache-2.0
// CUDA forward kernel of memory_select: a few lanes of a warp share a token's row and keep
// it in registers over all places.
#include "memory_select_places.cuh"

namespace mmadaptor::cuda {

template <typename T, typename P>
__global__ void __launch_bounds__(kTokenThreads)
    memory_select_kernel(const MemorySelect op, const Tiles tiles, T* memory) {
  const Token here(op, tiles);
  if (!here.exists) return;
  const Map<T> map(op.states, here.batch, here.layer, op.slices, op);
  const int64_t token = here.index(op, tiles);
  const GivenPlaces<T> places(op, token);
  const int span = op.row / P::count;
  for (int r = threadIdx.x * P::width; r < span; r += blockDim.x * P::width) {
    P sum = {};
    for (int p = 0; p < op.places; ++p) {
      const Place<T> place = places.place(op, p);
      place.template each_tap<P>(map, r, span,
                                 [&](int tap, const P& from) { sum.add(from, place.share(tap)); });
    }
    sum.store(memory + token * op.row + r, span);
  }
}

template <typename T>
void launch_memory_select(const T*, const MemorySelect& op, void* memory, const Target& target) {
  for_pieces<T>(op, op.slices, [&](auto* pieces, const TileGrid& at) {
    using P = std::remove_pointer_t<decltype(pieces)>;
    launch(memory_select_kernel<T, P>, at.grid, at.block, 0, target.stream, op, at.tiles,
           static_cast<T*>(memory));
  });
}

template void launch_memory_select(const float*, const MemorySelect&, void*, const Target&);
template void launch_memory_select(const double*, const MemorySelect&, void*, const Target&);

}  // namespace mmadaptor::cuda
