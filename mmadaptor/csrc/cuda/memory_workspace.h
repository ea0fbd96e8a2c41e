// SPDX-License-Identifier: Apache-2.0
// CUDA host code shared by memory_select and memory_readout: limits, aligned tensors, and
// the lists of places.
#pragma once

#include <cstdint>
#include <vector>

#include "../scan_view.h"
#include "memory_select_launch.h"
#include "torch_device.h"

namespace mmadaptor::cuda {

// The kernels index the numbers of an image by 32 bits.
inline void check_image_fits(const char* op, const char* name, const Tensor& t) {
  int64_t numbers = 1;
  for (int64_t dim = 1; dim < t.dim(); ++dim) numbers *= t.size(dim);
  require(numbers < int64_t{1} << 31, op, " on CUDA: `", name,
          "` must have fewer than 2^31 numbers per image, got ", numbers);
}

// A block takes one slice of a pixel at least.
inline void check_blocks_fit(const char* op, const Tensor& map, int64_t groups) {
  check_count(op, "batch x rows x columns x directions x groups",
              map.size(0) * map.size(1) * map.size(2) * map.size(3) * groups);
}

// Contiguous, and aligned for loads of 16 bytes; a copy if need be.
inline Tensor as_aligned(const Tensor& t) {
  const auto address = reinterpret_cast<uintptr_t>(t.const_data_ptr());
  if (t.is_contiguous() && address % MemorySelect::kAlignment == 0) return t;
  const Tensor copied = empty_contiguous(t);
  copy_to(t, copied);
  return copied;
}

// Calls `visit` with a null pointer whose type is a wide dtype.
template <typename Visit>
void for_wide(ScalarType dtype, const Visit& visit) {
  if (dtype == ScalarType::Double)
    visit(static_cast<double*>(nullptr));
  else
    visit(static_cast<float*>(nullptr));
}

// The lists of places and the memory that they take.
class PreparedLists {
 public:
  PlaceLists lists;

  PreparedLists(const MemorySelect& op, const Tensor& like) {
    int bits = 0;
    while (int64_t{1} << bits < op.places) ++bits;
    const int64_t items = op.pixels() << bits;
    const int64_t cells = (op.height + int64_t{1}) * (op.width + int64_t{1});
    int key_bits = 1;
    while (int64_t{1} << key_bits <= cells) ++key_bits;
    const int passes = static_cast<int>(divide_up(key_bits, kDigitBits));
    const int64_t slices = op.batch * op.slices;
    // Memory for numbers of 32 bits.
    const auto allocate = [&](int64_t count) {
      memory_.push_back(empty_tensor({slices, count}, ScalarType::Float, like));
      return static_cast<unsigned*>(memory_.back().mutable_data_ptr());
    };
    unsigned* const entries = allocate(items);
    unsigned* const scratch = passes > 1 ? allocate(items) : entries;
    lists = {bits,
             static_cast<int>(divide_up(key_bits, passes)),
             passes,
             static_cast<unsigned>(items),
             static_cast<unsigned>(cells),
             entries,
             scratch,
             allocate(cells + 1)};
  }

 private:
  static constexpr int kDigitBits = 8;
  std::vector<Tensor> memory_;
};

}  // namespace mmadaptor::cuda
