// SPDX-License-Identifier: Apache-2.0
// CUDA forward kernel of memory_select: a few lanes of a warp share a token's row and keep
// it in registers over all places.
#include "memory_select_places.cuh"

namespace mmadaptor::cuda {

template <typename T, typename P>
__global__ void __launch_bounds__(kTokenThreads, kTokenBlocks)
    memory_select_kernel(const MemorySelect op, const Tiles tiles, T* memory) {
  const Token here(op, tiles);
  if (!here.exists) return;
  const Rows<const T, P> map(static_cast<const T*>(op.states), op, here.batch, here.layer,
                             op.slices);
  const Rows<T, P> to(memory, op, here.batch, here.layer, op.slices);
  const GivenPlaces<const T> places(op, op.locations, op.weights, here.batch);
  const unsigned first = here.index(op, tiles) * op.places;
  along_row<P>(op, [&](unsigned r) {
    P sum = {};
    for (int p = 0; p < op.places; ++p) {
      const Place<T> place = places.place(op, first + p);
      place.each_tap(op, map, r, [&](int tap, const P& from) { sum.add(from, place.share(tap)); });
    }
    to.store(here.pixel(op) * to.stride + r, sum);
  });
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
