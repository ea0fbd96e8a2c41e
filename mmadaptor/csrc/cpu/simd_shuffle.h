// SPDX-License-Identifier: Apache-2.0
// Transposes and horizontal sums of SIMD vectors.
#pragma once

#include "simd.h"

namespace mmadaptor::MMADAPTOR_ISA {

// Shuffles of two vectors; Pick::lane(i) is the source of lane i of the result. Float
// shuffles either stay within 16-byte lanes or move whole 16-byte lanes: any other
// shuffle is several times as expensive.
template <typename V, typename Pick, std::size_t... lane>
MMADAPTOR_INLINE V shuffle(V a, V b, Pick, std::index_sequence<lane...>) {
#if defined(__clang__) || __GNUC__ >= 12
  return __builtin_shufflevector(a, b, Pick::lane(static_cast<int>(lane))...);
#else
  using Index = std::conditional_t<sizeof(V) / sizeof...(lane) == 4, int32_t, int64_t>;
  typedef Index Indices __attribute__((vector_size(sizeof(V))));
  return __builtin_shuffle(a, b, Indices{Pick::lane(static_cast<int>(lane))...});
#endif
}

template <typename Pick, typename T>
MMADAPTOR_INLINE Vec<T> shuffle(Vec<T> a, Vec<T> b) {
  return shuffle(a, b, Pick{}, std::make_index_sequence<Simd<T>::width>{});
}

// Within each quarter of four lanes: a0 b0 a1 b1 (half 0) or a2 b2 a3 b3 (half 1).
template <int half, int width>
struct Interleave {
  static constexpr int lane(int i) { return i / 4 * 4 + half * 2 + i % 4 / 2 + (i % 2) * width; }
};

// Within each quarter: a0 a1 b0 b1, or a2 a3 b2 b3.
template <int half, int width>
struct InterleavePairs {
  static constexpr int lane(int i) { return i / 4 * 4 + half * 2 + i % 2 + (i % 4 / 2) * width; }
};

// Within each quarter: a0 a2 b0 b2, or a1 a3 b1 b3.
template <int odd, int width>
struct EverySecond {
  static constexpr int lane(int i) { return i / 4 * 4 + i % 2 * 2 + odd + (i % 4 / 2) * width; }
};

// Even (odd = 0) or odd (odd = 1) pieces of `size` lanes of both vectors.
template <int odd, int width, int size>
struct EverySecondPiece {
  static constexpr int lane(int i) { return (i / size * 2 + odd) * size + i % size; }
};

template <int odd, typename T, int size>
MMADAPTOR_INLINE Vec<T> every_second_piece(Vec<T> a, Vec<T> b) {
  return shuffle<EverySecondPiece<odd, Simd<T>::width, size>, T>(a, b);
}

// Transposes squares of pieces: each pass pairs the rows and separates their even and
// odd pieces. Row i of the `count` rows ends up as piece i of every row.
template <typename T, int size, int count>
MMADAPTOR_INLINE void transpose_pieces(Vec<T>* rows, int stride) {
  if constexpr (count > 1) {
    Vec<T> even[count / 2], odd[count / 2];
#pragma GCC unroll 16
    for (int i = 0; i < count / 2; ++i) {
      const Vec<T> a = rows[2 * i * stride], b = rows[(2 * i + 1) * stride];
      even[i] = every_second_piece<0, T, size>(a, b);
      odd[i] = every_second_piece<1, T, size>(a, b);
    }
    transpose_pieces<T, size, count / 2>(even, 1);
    transpose_pieces<T, size, count / 2>(odd, 1);
#pragma GCC unroll 16
    for (int i = 0; i < count / 2; ++i) {
      rows[2 * i * stride] = even[i];
      rows[(2 * i + 1) * stride] = odd[i];
    }
  }
}

// Transposes a square of `width` rows. Unrolled so that the rows stay in registers.
template <typename T>
MMADAPTOR_INLINE void transpose(Vec<T>* rows) {
  constexpr int width = Simd<T>::width;
  if constexpr (std::is_same_v<T, float>) {
#pragma GCC unroll 4
    for (int i = 0; i < width; i += 4) {
      const Vec<T> low01 = shuffle<Interleave<0, width>, T>(rows[i], rows[i + 1]);
      const Vec<T> high01 = shuffle<Interleave<1, width>, T>(rows[i], rows[i + 1]);
      const Vec<T> low23 = shuffle<Interleave<0, width>, T>(rows[i + 2], rows[i + 3]);
      const Vec<T> high23 = shuffle<Interleave<1, width>, T>(rows[i + 2], rows[i + 3]);
      rows[i] = shuffle<InterleavePairs<0, width>, T>(low01, low23);
      rows[i + 1] = shuffle<InterleavePairs<1, width>, T>(low01, low23);
      rows[i + 2] = shuffle<InterleavePairs<0, width>, T>(high01, high23);
      rows[i + 3] = shuffle<InterleavePairs<1, width>, T>(high01, high23);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) transpose_pieces<T, 4, width / 4>(rows + i, 4);
  } else {
    transpose_pieces<T, 1, width>(rows, 1);
  }
}

// Horizontal sums: lane i of the result is the sum over the lanes of rows[i]. Each
// level adds neighboring lanes and halves the number of rows.
template <typename T, int size = std::is_same_v<T, float> ? 4 : 1, int count = Simd<T>::width>
MMADAPTOR_INLINE Vec<T> lane_sums(const Vec<T>* rows) {
  constexpr int width = Simd<T>::width;
  if constexpr (count == 1) {
    return rows[0];
  } else {
    Vec<T> half[count / 2];
#pragma GCC unroll 16
    for (int i = 0; i < count / 2; ++i) {
      const Vec<T> a = rows[2 * i], b = rows[2 * i + 1];
      if constexpr (size == 4 && count * 4 > width)
        half[i] = shuffle<EverySecond<0, width>, T>(a, b) + shuffle<EverySecond<1, width>, T>(a, b);
      else
        half[i] = every_second_piece<0, T, size>(a, b) + every_second_piece<1, T, size>(a, b);
    }
    return lane_sums<T, size, count / 2>(half);
  }
}

}  // namespace mmadaptor::MMADAPTOR_ISA
