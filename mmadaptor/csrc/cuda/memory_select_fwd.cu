// SPDX-License-Identifier: Apache-2.0
// CUDA forward kernel of memory_select: a few lanes of a warp share a token's row and keep
// it in registers over all places.
#include "memory_select_places.cuh"

namespace mmadaptor::cuda {

template <typename T, int count>
__global__ void __launch_bounds__(RowGrid::kThreads)
    memory_select_kernel(const MemorySelect op, T* memory) {
  const int64_t token = static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
  if (token >= op.tokens()) return;
  const int64_t batch = token / op.slices / op.pixels(), slice = token % op.slices;
  const int64_t map = (batch * op.pixels() * op.slices + slice) * op.row;
  for (int64_t r = threadIdx.x * count; r < op.row; r += blockDim.x * count) {
    Piece<T, count> sum = {};
    for (int64_t p = 0; p < op.places; ++p) {
      const Place<T> place(op, token * op.places + p);
#pragma unroll
      for (int tap = 0; tap < 4; ++tap) {
        const int64_t pixel = place.pixel(op, tap);
        const T share = place.share(tap);
        Piece<T, count> from = {};
        if (pixel >= 0)
          from = load_piece<T, count>(op.states, map + pixel * op.slices * op.row + r);
#pragma unroll
        for (int i = 0; i < count; ++i) sum.at[i] += from.at[i] * share;
      }
    }
    *reinterpret_cast<Piece<T, count>*>(memory + token * op.row + r) = sum;
  }
}

template <typename T>
void launch_memory_select(const T* type, const MemorySelect& op, void* memory,
                          const Target& target) {
  constexpr int kPiece = 16 / sizeof(T);
  const auto rows = RowGrid::over(op, type, op.states, memory);
  launch(rows.piece == 1 ? memory_select_kernel<T, 1> : memory_select_kernel<T, kPiece>, rows.grid,
         rows.block, 0, target.stream, op, static_cast<T*>(memory));
}

template void launch_memory_select(const float*, const MemorySelect&, void*, const Target&);
template void launch_memory_select(const double*, const MemorySelect&, void*, const Target&);

}  // namespace mmadaptor::cuda
