// SPDX-License-Identifier: Apache-2.0
// CUDA kernels of the gradients of memory_select. Those of locations and weights are sums
// over a row, computed by warp shuffles. That of the states is a scatter, turned round:
// with the places listed by cell (memory_select_lists.cu), a pixel sums over the places in
// the four cells around it, in a fixed order and without atomics.
#include "memory_select_bwd.cuh"

namespace mmadaptor::cuda {

template <typename T, typename P>
__global__ void __launch_bounds__(kTokenThreads, kTokenBlocks)
    memory_select_places_kernel(const MemorySelect op, const Tiles tiles,
                                const MemorySelectGradients grads) {
  const Token here(op, tiles);
  const Rows<const T, P> map(static_cast<const T*>(op.states), op, here.batch, here.layer,
                             op.slices);
  Incoming<T, P> incoming(op, grads.memory, here, here.layer, op.slices);
  const GivenPlaces<const T> places(op, op.locations, op.weights, here.batch);
  const GivenPlaces<T> to(op, grads.locations, grads.weights, here.batch);
  const unsigned first = here.index(op, tiles) * op.places;
  for (int p = 0; p < op.places; ++p) {
    const Derivatives<T> of = incoming.derivatives(op, places.place(op, first + p), map);
    if (here.exists && is_turn_of(p)) to.store(first + p, {of.row, of.column}, of.product);
  }
}

template <typename T, typename P>
__global__ void __launch_bounds__(kTokenThreads, kTokenBlocks)
    memory_select_states_kernel(const MemorySelect op, const Tiles tiles, const PlaceLists lists,
                                const T* incoming, T* states) {
  const Token here(op, tiles);
  if (!here.exists) return;
  const Rows<const T, P> grad(incoming, op, here.batch, here.layer % op.incoming_slices,
                              op.incoming_slices);
  const Rows<T, P> to(states, op, here.batch, here.layer, op.slices);
  const int64_t slice = here.batch * op.slices + here.layer;
  const unsigned* const entries = opaque(lists.entries + slice * lists.items);
  const unsigned* const first = lists.first + slice * (lists.cells + 1);
  const GivenPlaces<const T> places(op, op.locations, op.weights, here.batch);
  const unsigned first_place = here.layer * op.places, stride = op.slices * op.places;
  const T left = T(here.x - 1), x = T(here.x);
  along_row<P>(op, [&](unsigned r) {
    P sum = {};
    for (int below = 0; below < 2; ++below) {  // cells above the pixel, cells below it
      const unsigned* const cell = first + ((here.y + below) * (op.width + 1) + here.x);
      const unsigned right = cell[1], end = cell[2];
      const T above = T(here.y - 1 + below);
      for (unsigned i = cell[0]; i < end; ++i) {
        const unsigned entry = entries[i], token = entry >> lists.bits;
        const unsigned at = token * stride + first_place + (entry & ((1u << lists.bits) - 1));
        const Piece<T, 2> location = places.locations[at];
        // Distances from the pixels before the place, as in Coordinate.
        const T down = location.at[0] - above;
        const T vertical = below ? T(1) - down : down;
        const T horizontal = i < right ? location.at[1] - left : T(1) - (location.at[1] - x);
        sum.add(grad.load(token * grad.stride + r), vertical * horizontal * places.weights[at]);
      }
    }
    to.store(here.pixel(op) * to.stride + r, sum);
  });
}

template <typename T>
void launch_memory_select_places(const T*, const MemorySelect& op,
                                 const MemorySelectGradients& grads, const Target& target) {
  for_pieces<T>(op, op.slices, [&](auto* pieces, const TileGrid& at) {
    using P = std::remove_pointer_t<decltype(pieces)>;
    launch(memory_select_places_kernel<T, P>, at.grid, at.block, 0, target.stream, op, at.tiles,
           grads);
  });
}

template <typename T>
void launch_memory_select_states(const T*, const MemorySelect& op, const PlaceLists& lists,
                                 const void* incoming, void* states, const Target& target) {
  for_pieces<T>(op, op.slices, [&](auto* pieces, const TileGrid& at) {
    using P = std::remove_pointer_t<decltype(pieces)>;
    launch(memory_select_states_kernel<T, P>, at.grid, at.block, 0, target.stream, op, at.tiles,
           lists, static_cast<const T*>(incoming), static_cast<T*>(states));
  });
}

#define MMADAPTOR_MEMORY_SELECT_BACKWARD(T)                                                   \
  template void launch_memory_select_places(const T*, const MemorySelect&,                    \
                                            const MemorySelectGradients&, const Target&);     \
  template void launch_memory_select_states(const T*, const MemorySelect&, const PlaceLists&, \
                                            const void*, void*, const Target&);
MMADAPTOR_MEMORY_SELECT_BACKWARD(float)
MMADAPTOR_MEMORY_SELECT_BACKWARD(double)

}  // namespace mmadaptor::cuda
