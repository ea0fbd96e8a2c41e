// SPDX-License-Identifier: Apache-2.0
// CPU kernels of dilated_depthwise, forward and backward, for any vector width. Lanes
// are neighboring channels; each channel has its own convolution kernels.
#pragma once

#include <algorithm>
#include <vector>

#include "dilated_depthwise_kernel.h"
#include "simd.h"

namespace mmadaptor::MMADAPTOR_ISA {

// A rectangle of an image for one vector of channels; the first `lanes` are valid.
struct Patch {
  int64_t number, batch, row, rows, column, columns, channel;
  int lanes;

  int64_t element(const DilatedDepthwise& op, int64_t r, int64_t c) const {
    return ((batch * op.height + row + r) * op.width + column + c) * op.channels + channel;
  }
};

template <typename Visit>
MMADAPTOR_INLINE void each_patch(const DilatedDepthwise& op, int width, int64_t begin, int64_t end,
                                 const Visit& visit) {
  const int64_t bands = op.bands(), strips = op.strips(), blocks = op.blocks();
  for (int64_t task = begin; task < end; ++task) {
    Patch p{};
    p.number = task / blocks;
    p.batch = p.number / (bands * strips);
    const int64_t band = p.number / strips % bands, strip = p.number % strips;
    p.row = op.height * band / bands;
    p.rows = op.height * (band + 1) / bands - p.row;
    p.column = op.width * strip / strips;
    p.columns = op.width * (strip + 1) / strips - p.column;
    p.channel = task % blocks * op.kChannels;
    const int64_t last = std::min(p.channel + op.kChannels, op.channels);
    for (; p.channel < last; p.channel += width) {
      p.lanes = static_cast<int>(std::min<int64_t>(width, last - p.channel));
      visit(p);
    }
  }
}

// A patch and its halo (the pixels around it that the taps reach), zero-padded outside
// the map. Each pixel is one vector in the type of the sums.
template <typename T>
class Padded {
 public:
  static constexpr int width = Simd<T>::width;

  explicit Padded(const DilatedDepthwise& op)
      : op_(op),
        above_(op.row_reach()),
        left_(op.column_reach()),
        pitch_((std::min(op.width, op.kColumns) + 2 * left_) * width),
        memory_((std::min(op.height, op.kRows) + 2 * above_) * pitch_ + kAlignment / sizeof(T)) {
    const auto address = reinterpret_cast<std::uintptr_t>(memory_.data());
    pixels_ = memory_.data() + (-address % kAlignment) / sizeof(T);
  }

  // Distance between the rows, in elements.
  int64_t pitch() const { return pitch_; }

  // The pixel at a row and column of the patch.
  MMADAPTOR_INLINE const T* at(int64_t row, int64_t column) const {
    return pixels_ + (row + above_) * pitch_ + (column + left_) * width;
  }

  template <typename scalar_t>
  void read(const scalar_t* maps, const Patch& patch) {
    const int64_t first = std::max(-left_, -patch.column);
    const int64_t last = std::min(patch.columns + left_, op_.width - patch.column);
    for (int64_t r = -above_; r < patch.rows + above_; ++r) {
      if (patch.row + r < 0 || patch.row + r >= op_.height) {
        clear(r, -left_, patch.columns + left_);
        continue;
      }
      clear(r, -left_, first);
      const scalar_t* from = maps + patch.element(op_, r, first);
      T* to = pixel(r, first);
      for (int64_t c = first; c < last; ++c, from += op_.channels, to += width)
        store<T>(to, load_as<T>(from, patch.lanes));
      clear(r, last, patch.columns + left_);
    }
  }

 private:
  static constexpr std::size_t kAlignment = 64;

  T* pixel(int64_t row, int64_t column) { return const_cast<T*>(at(row, column)); }

  void clear(int64_t row, int64_t begin, int64_t end) {
    std::memset(pixel(row, begin), 0, (end - begin) * width * sizeof(T));
  }

  const DilatedDepthwise& op_;
  int64_t above_, left_, pitch_;
  std::vector<T> memory_;
  T* pixels_;
};

constexpr int kRing = 8;    // taps of a dilation, excluding the center
constexpr int kCentre = 4;  // index of the center among the nine taps

// The kernels of a vector of channels, and the offsets of their taps in a padded patch.
// The centers of all dilations are merged into the first tap; then come 8 taps (a ring)
// for each dilation.
template <typename T>
struct Taps {
  static constexpr int width = Simd<T>::width;
  const DilatedDepthwise& op;
  int64_t count;
  std::vector<int64_t> offsets;
  std::vector<T> values;

  // With sign = -1 the kernels are rotated by 180 degrees, for the backward pass.
  Taps(const DilatedDepthwise& op_, int64_t pitch, int sign)
      : op(op_), count(1 + kRing * op.count), offsets(count), values(count * width) {
    each([&](int64_t r, int64_t tap, int64_t at) {
      const int64_t rows = (tap / 3 - 1) * op.row_step(op.dilations[r]);
      const int64_t columns = (tap % 3 - 1) * op.column_step(op.dilations[r]);
      offsets[at] = sign * (rows * pitch + columns * width);
    });
  }

  // Calls visit(dilation, its tap out of nine, index of this tap among all).
  template <typename Visit>
  MMADAPTOR_INLINE void each(const Visit& visit) const {
    for (int64_t r = 0, at = 1; r < op.count; ++r)
      for (int64_t tap = 0; tap < kRing + 1; ++tap) visit(r, tap, tap == kCentre ? 0 : at++);
  }

  void read(const Patch& patch) {
    store<T>(values.data(), Vec<T>{});
    const T* kernels = static_cast<const T*>(op.kernels) + patch.channel;
    each([&](int64_t r, int64_t tap, int64_t at) {
      Vec<T> kernel = load_as<T>(kernels + (r * (kRing + 1) + tap) * op.channels, patch.lanes);
      if (at == 0) kernel += load(values.data());
      store<T>(&values[at * width], kernel);
    });
  }
};

// Convolves `pixels` neighboring pixels of a row: the pixel itself plus the sum over all
// taps.
template <int pixels, typename T, typename scalar_t>
MMADAPTOR_INLINE void convolve_pixels(const T* seen, const Taps<T>& taps, scalar_t* out,
                                      int lanes) {
  constexpr int width = Simd<T>::width;
  const int64_t channels = taps.op.channels;
  // The lines written are too far apart for the hardware prefetcher.
#pragma GCC unroll 8
  for (int i = 0; i < pixels; ++i) __builtin_prefetch(out + i * channels, 1);
  Vec<T> sums[pixels] = {};
  for (int64_t t = 0; t < taps.count; ++t) {
    const T* from = seen + taps.offsets[t];
    const Vec<T> kernel = load(&taps.values[t * width]);
#pragma GCC unroll 8
    for (int i = 0; i < pixels; ++i) sums[i] += load(from + i * width) * kernel;
  }
#pragma GCC unroll 8
  for (int i = 0; i < pixels; ++i)
    store_as<T>(out + i * channels, load(seen + i * width) + sums[i], lanes);
}

template <int most, typename T, typename scalar_t>
MMADAPTOR_INLINE void convolve_at_most(int64_t pixels, const T* seen, const Taps<T>& taps,
                                       scalar_t* out, int lanes) {
  if constexpr (most > 1)
    if (pixels < most) return convolve_at_most<most - 1>(pixels, seen, taps, out, lanes);
  convolve_pixels<most>(seen, taps, out, lanes);
}

template <typename T, typename scalar_t>
void convolve(const Padded<T>& padded, const Taps<T>& taps, const Patch& patch, scalar_t* out) {
  constexpr int kMost = 8;  // sums that fit in registers
  const int64_t runs = (patch.columns + kMost - 1) / kMost;
  for (int64_t r = 0; r < patch.rows; ++r)
    for (int64_t run = 0; run < runs; ++run) {
      const int64_t c = patch.columns * run / runs, end = patch.columns * (run + 1) / runs;
      convolve_at_most<kMost>(end - c, padded.at(r, c), taps, out + patch.element(taps.op, r, c),
                              patch.lanes);
    }
}

// Gradients of `count` taps: correlates a patch of y with the incoming gradient. Pixels
// are summed in a fixed order.
template <int count, typename T, typename scalar_t>
void correlate(const Padded<T>& padded, const scalar_t* y, const Patch& patch,
               const DilatedDepthwise& op, const int64_t* offsets, T* results) {
  constexpr int width = Simd<T>::width;
  Vec<T> sums[count] = {};
  for (int64_t r = 0; r < patch.rows; ++r) {
    const scalar_t* row = y + patch.element(op, r, 0);
    const T* seen = padded.at(r, 0);
    for (int64_t c = 0; c < patch.columns; ++c, row += op.channels, seen += width) {
      const Vec<T> value = load_as<T>(row, patch.lanes);
#pragma GCC unroll 9
      for (int i = 0; i < count; ++i) sums[i] += load(seen + offsets[i]) * value;
    }
  }
  std::memcpy(results, sums, sizeof(sums));
}

template <typename T, typename scalar_t>
void convolve_maps(const DilatedDepthwise& op, const void* y, void* out, int64_t begin,
                   int64_t end) {
  Padded<T> padded(op);
  Taps<T> taps(op, padded.pitch(), 1);
  each_patch(op, Simd<T>::width, begin, end, [&](const Patch& patch) {
    taps.read(patch);
    padded.read(static_cast<const scalar_t*>(y), patch);
    convolve(padded, taps, patch, static_cast<scalar_t*>(out));
  });
}

template <typename T, typename scalar_t>
void convolve_maps_backward(const DilatedDepthwise& op, const DilatedDepthwiseGradients& grads,
                            int64_t begin, int64_t end) {
  constexpr int width = Simd<T>::width;
  const auto* y = static_cast<const scalar_t*>(grads.y);
  Padded<T> padded(op);
  Taps<T> taps(op, padded.pitch(), -1);
  std::vector<T> sums(taps.values.size());
  each_patch(op, width, begin, end, [&](const Patch& patch) {
    taps.read(patch);
    padded.read(static_cast<const scalar_t*>(grads.out), patch);
    convolve(padded, taps, patch, static_cast<scalar_t*>(grads.grad_y));
    const int64_t* offsets = taps.offsets.data();
    correlate<1 + kRing>(padded, y, patch, op, offsets, sums.data());
    for (int64_t t = 1 + kRing; t < taps.count; t += kRing)
      correlate<kRing>(padded, y, patch, op, offsets + t, &sums[t * width]);
    T* target = static_cast<T*>(grads.kernels) +
                patch.number * op.count * (kRing + 1) * op.channels + patch.channel;
    taps.each([&](int64_t r, int64_t tap, int64_t at) {
      store_as<T>(target + (r * (kRing + 1) + tap) * op.channels, load(&sums[at * width]),
                  patch.lanes);
    });
  });
}

// Calls `visit` with null pointers whose types are those of the sums and of the maps.
template <typename Visit>
void for_maps(ScalarType dtype, const Visit& visit) {
  float* const sums = nullptr;
  switch (dtype) {
    case ScalarType::Double:
      return visit(static_cast<double*>(nullptr), static_cast<double*>(nullptr));
    case ScalarType::Half:
      return visit(sums, static_cast<torch::headeronly::Half*>(nullptr));
    case ScalarType::BFloat16:
      return visit(sums, static_cast<torch::headeronly::BFloat16*>(nullptr));
    default:
      return visit(sums, sums);
  }
}

void dilated_depthwise(const DilatedDepthwise& op, const void* y, void* out, int64_t begin,
                       int64_t end) {
  for_maps(op.dtype, [&](auto* sums, auto* maps) {
    convolve_maps<std::remove_pointer_t<decltype(sums)>, std::remove_pointer_t<decltype(maps)>>(
        op, y, out, begin, end);
  });
}

void dilated_depthwise_backward(const DilatedDepthwise& op, const DilatedDepthwiseGradients& grads,
                                int64_t begin, int64_t end) {
  for_maps(op.dtype, [&](auto* sums, auto* maps) {
    convolve_maps_backward<std::remove_pointer_t<decltype(sums)>,
                           std::remove_pointer_t<decltype(maps)>>(op, grads, begin, end);
  });
}

const DilatedDepthwiseKernels dilated_depthwise_kernels = {dilated_depthwise,
                                                           dilated_depthwise_backward};

}  // namespace mmadaptor::MMADAPTOR_ISA
