// SPDX-License-Identifier: Apache-2.0
// CUDA kernels of the gradients of memory_select. Those of locations and weights are sums
// over a row, computed by warp shuffles. That of the states is a scatter, turned round:
// with the places listed by cell (memory_select_lists.cu), a pixel sums over the places in
// the four cells around it, in a fixed order and without atomics.
#include "memory_select_bwd.cuh"

namespace mmadaptor::cuda {

template <typename T, typename P>
__global__ void __launch_bounds__(kTokenThreads)
    memory_select_places_kernel(const MemorySelect op, const Tiles tiles,
                                const MemorySelectGradients grads) {
  const Token here(op, tiles);
  const Map<T> map(op.states, here.batch, here.layer, op.slices, op);
  const int64_t token = here.index(op, tiles);
  const GivenPlaces<T> places(op, token);
  Incoming<T, P> incoming(static_cast<const T*>(grads.memory) + token * op.row, op.row / P::count);
  auto* const locations = static_cast<Piece<T, 2>*>(grads.locations) + token * op.places;
  T* const weights = static_cast<T*>(grads.weights) + token * op.places;
  for (int p = 0; p < op.places; ++p) {
    const Derivatives<T> of = incoming.derivatives(places.place(op, p), map);
    if (threadIdx.x == (p & (blockDim.x - 1)) && here.exists) {
      locations[p] = {of.row, of.column};
      weights[p] = of.product;
    }
  }
}

template <typename T, typename P>
__global__ void __launch_bounds__(kTokenThreads)
    memory_select_states_kernel(const MemorySelect op, const Tiles tiles, const PlaceLists lists,
                                const void* incoming, T* states) {
  const Token here(op, tiles);
  if (!here.exists) return;
  const Map<T> grad(incoming, here.batch, here.layer % op.incoming_slices, op.incoming_slices, op);
  const int64_t slice = here.batch * op.slices + here.layer;
  const unsigned* const entries = lists.entries + slice * lists.items;
  const unsigned* const first = lists.first + slice * (lists.cells + 1);
  const int64_t first_token = here.batch * op.pixels() * op.slices + here.layer;
  const GivenPlaces<T> places(op, first_token);
  const int stride = op.slices * op.places, span = op.row / P::count;
  for (int r = threadIdx.x * P::width; r < span; r += blockDim.x * P::width) {
    P sum = {};
    for (int below = 0; below < 2; ++below) {  // cells above the pixel, cells below it
      const unsigned* const cell = first + (here.y + below) * (op.width + 1) + here.x;
      const unsigned right = cell[1], end = cell[2];
      for (unsigned i = cell[0]; i < end; ++i) {
        const unsigned entry = entries[i], token = entry >> lists.bits;
        const int64_t at =
            static_cast<int64_t>(token) * stride + (entry & ((1u << lists.bits) - 1));
        const Piece<T, 2> location = places.locations[at];
        // The distances from the pixels before the place, as in Coordinate.
        const T down = location.at[0] - T(here.y - 1 + below);
        const T across = location.at[1] - T(here.x - (i < right));
        const T vertical = below ? T(1) - down : down;
        const T horizontal = i < right ? across : T(1) - across;
        P from;
        from.load(grad.row(token) + r, span);
        sum.add(from, vertical * horizontal * places.weights[at]);
      }
    }
    sum.store(
        states +
            (first_token + static_cast<int64_t>(here.y * op.width + here.x) * op.slices) * op.row +
            r,
        span);
  }
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
           lists, incoming, static_cast<T*>(states));
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
