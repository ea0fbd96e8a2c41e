// SPDX-License-Identifier: Apache-2.0
// Parts shared by the forward and backward passes of a scan: the channels of a
// task, the memory offsets of its steps, and the coefficients of a chunk.
#pragma once

#include <algorithm>
#include <atomic>
#include <limits>
#include <memory>

#include "scan_decay.h"
#include "scan_tile.h"

namespace mmadaptor::MMADAPTOR_ISA {

// Number of states processed together: interleaving independent recurrences hides
// the latency of each, and the states share the loads of a step.
constexpr int kTogether = 2;

// The channels of one task. All belong to one group.
struct Block {
  int64_t batch, group, index, first;
  int channels;

  template <typename T>
  int vectors() const {
    return static_cast<int>(divide_up(channels, Simd<T>::width));
  }
};

// The channels of one vector. `channel` is the index of the first within its group,
// `row` its index over all groups.
struct Lanes {
  int64_t batch, group, channel, row;
  int count;
};

template <typename T>
MMADAPTOR_INLINE Lanes lanes_of(const Scan& scan, const Block& block, int vector) {
  constexpr int width = Simd<T>::width;
  const int64_t channel = block.first + vector * width;
  return {block.batch, block.group, channel, block.group * scan.channels + channel,
          std::min(width, block.channels - vector * width)};
}

// An aligned array of `count` vectors of T.
template <typename T>
class Vectors {
 public:
  static constexpr int width = Simd<T>::width;
  explicit Vectors(int64_t count) : lines_(new Line[divide_up(count * width, kLine)]()) {}

  MMADAPTOR_INLINE T* at(int64_t i) { return lines_[0].values + i * width; }
  MMADAPTOR_INLINE Vec<T> operator[](int64_t i) const { return load(lines_[0].values + i * width); }
  MMADAPTOR_INLINE void set(int64_t i, Vec<T> v) { store(lines_[0].values + i * width, v); }

 private:
  static constexpr int kLine = 64 / sizeof(T);
  struct Line {
    alignas(64) T values[kLine];
  };
  std::unique_ptr<Line[]> lines_;
};

// Sums over any number of terms. The rounding errors of the additions are summed
// separately, so that the error does not grow with the number of terms.
template <typename T>
class LongSums {
 public:
  explicit LongSums(int64_t count) : sums_(count), rests_(count) {}

  void clear(int64_t i) {
    sums_.set(i, Vec<T>{});
    rests_.set(i, Vec<T>{});
  }
  MMADAPTOR_INLINE void add(int64_t i, Vec<T> term) {
    const Vec<T> before = sums_[i], sum = before + term, added = sum - before;
    rests_.set(i, rests_[i] + ((before - (sum - added)) + (term - added)));
    sums_.set(i, sum);
  }
  // The sum of finite terms; otherwise inf or NaN, as the plain sum.
  Vec<T> total(int64_t i) const {
    const Vec<T> total = sums_[i] + rests_[i];
    return total == total ? total : sums_[i];
  }
  // Replaces each sum by its total.
  Vectors<T>& totals(int64_t first, int64_t count) {
    for (int64_t i = first; i < first + count; ++i) sums_.set(i, total(i));
    return sums_;
  }

 private:
  Vectors<T> sums_, rests_;
};

// The sum over the steps of a chunk, in groups of 8: errors grow with the root of the
// number of terms that are added one after another.
template <typename T>
class ChunkSum {
 public:
  MMADAPTOR_INLINE void add(int64_t step, Vec<T> term) {
    part_ += term;
    if (step % 8 == 7) {
      whole_ += part_;
      part_ = Vec<T>{};
    }
  }
  MMADAPTOR_INLINE Vec<T> total() const { return whole_ + part_; }

 private:
  Vec<T> whole_{}, part_{};
};

// Reads one vector per state; the vector of a state has index vector * states + state.
template <typename T>
void read_states(Vectors<T>& to, int vector, const void* tensor, const Lanes& lanes,
                 int64_t states) {
  const T* from = static_cast<const T*>(tensor) + lanes.row * states;
  for (int64_t n = 0; n < states; ++n)
    for (int lane = 0; lane < Simd<T>::width; ++lane)
      to.at(vector * states + n)[lane] = lane < lanes.count ? from[lane * states + n] : T(0);
}

template <typename T>
void write_states(Vectors<T>& from, int vector, void* tensor, const Lanes& lanes, int64_t states) {
  T* to = static_cast<T*>(tensor) + lanes.row * states;
  for (int lane = 0; lane < lanes.count; ++lane)
    for (int64_t n = 0; n < states; ++n) to[lane * states + n] = from.at(vector * states + n)[lane];
}

template <typename T>
MMADAPTOR_INLINE void set_states(Vectors<T>& to, int vector, int64_t states, Vec<T> value) {
  for (int64_t n = 0; n < states; ++n) to.set(vector * states + n, value);
}

// The values of a parameter of shape (all channels) at these lanes; 0 if it is absent.
template <typename T>
MMADAPTOR_INLINE Vec<T> parameter(const void* tensor, const Lanes& lanes) {
  return tensor ? load_as<T>(static_cast<const T*>(tensor) + lanes.row, lanes.count) : Vec<T>{};
}

template <typename T>
MMADAPTOR_INLINE T* checkpoint(const void* checkpoints, const Scan& scan, const Lanes& lanes,
                               int64_t chunk, int64_t state) {
  return static_cast<T*>(const_cast<void*>(checkpoints)) +
         ((lanes.batch * scan.chunks() + chunk) * scan.states + state) * scan.all_channels() +
         lanes.row;
}

// Row and column of each pixel of a chunk of a path.
struct Pixels {
  int64_t row[kChunk], column[kChunk];
  int count;

  Pixels(const Scan& scan, int64_t group, int64_t chunk) {
    const Path path = scan.path(group);
    const int64_t start = chunk * kChunk;
    count = static_cast<int>(std::min<int64_t>(kChunk, scan.length() - start));
    const int64_t run = path.by_columns ? scan.height : scan.width;
    const int64_t pixel = path.reversed ? scan.length() - 1 - start : start;
    int64_t outer = pixel / run, inner = pixel % run;
    int64_t* outers = path.by_columns ? column : row;
    int64_t* inners = path.by_columns ? row : column;
    for (int64_t t = 0; t < count; ++t) {
      outers[t] = outer;
      inners[t] = inner;
      if (path.reversed && inner-- == 0) {
        inner = run - 1;
        --outer;
      } else if (!path.reversed && ++inner == run) {
        inner = 0;
        ++outer;
      }
    }
  }
};

MMADAPTOR_INLINE void locate(const Pixels& pixels, const Strided& tensor, Offsets& offsets) {
  bool consecutive = true;
  for (int64_t t = 0; t < pixels.count; ++t)
    offsets.at[t] = pixels.row[t] * tensor.row + pixels.column[t] * tensor.column;
  for (int64_t t = 1; t < pixels.count; ++t) consecutive &= offsets.at[t] == offsets.at[0] + t;
  offsets.consecutive = consecutive;
}

// Iterates over the chunks of a path and gives the offsets of their steps in several
// tensors. The offsets of the next chunk are available too, for prefetching.
template <int tensors>
class Route {
 public:
  Route(const Scan& scan, int64_t group, const Strided* const (&of)[tensors], bool back)
      : scan_(scan), group_(group), back_(back), of_(of) {
    locate_all(back ? scan.chunks() - 1 : 0, next_);
  }

  // Moves to a chunk. Chunks must be entered in order.
  void enter(int64_t chunk) {
    std::swap(now_, next_);
    const int64_t next = chunk + (back_ ? -1 : 1);
    if (next >= 0 && next < scan_.chunks()) locate_all(next, next_);
  }
  int steps() const { return now_->count; }
  const Offsets& now(int tensor) const { return now_->offsets[tensor]; }
  const Offsets& next(int tensor) const { return next_->offsets[tensor]; }
  int next_steps() const { return next_->count; }

 private:
  struct Chunk {
    int count = 0;
    Offsets offsets[tensors];
  };

  void locate_all(int64_t chunk, Chunk* into) {
    const Pixels pixels(scan_, group_, chunk);
    into->count = pixels.count;
    for (int i = 0; i < tensors; ++i)
      if (of_[i]->data) locate(pixels, *of_[i], into->offsets[i]);
  }

  const Scan& scan_;
  const int64_t group_;
  const bool back_;
  const Strided* const (&of_)[tensors];
  Chunk chunks_[2]{};
  Chunk *now_ = &chunks_[0], *next_ = &chunks_[1];
};

MMADAPTOR_INLINE Window window(const Strided& tensor, ScalarType dtype, const Lanes& lanes,
                               const Offsets& steps, int count, int64_t state = 0) {
  const int item = dtype == ScalarType::Double ? 3 : dtype == ScalarType::Float ? 2 : 1;
  const int64_t element = lanes.batch * tensor.batch + lanes.group * tensor.group +
                          lanes.channel * tensor.channel + state * tensor.state;
  return {static_cast<char*>(tensor.data) + (element << item),
          item,
          tensor.channel,
          &steps,
          lanes.count,
          count};
}

// B or C over a chunk. If it varies over time: one row of scalars per state, one
// scalar per step. Otherwise: one vector per state for each vector of the block.
template <typename T>
class Coefficients {
 public:
  explicit Coefficients(int64_t states) : states_(states), values_(kBlockVectors * states) {}

  // Called once per chunk if the coefficients vary, otherwise once per walk.
  void read(const Strided& from, bool varies, const Block& block, const Offsets& steps, int count) {
    const T* data =
        static_cast<const T*>(from.data) + block.batch * from.batch + block.group * from.group;
    varies_ = varies;
    if (!varies) {
      for (int i = 0; i < block.channels; ++i)
        for (int64_t n = 0; n < states_; ++n)
          values_.at(i / width * states_ + n)[i % width] =
              data[(block.first + i) * from.channel + n * from.state];
    } else if (steps.consecutive) {
      for (int64_t n = 0; n < states_; ++n)
        std::copy_n(data + n * from.state + steps.at[0], count, row(n));
    } else {
      for (int64_t t = 0; t < count; ++t)
        for (int64_t n = 0; n < states_; ++n) row(n)[t] = data[steps.at[t] + n * from.state];
    }
  }

  MMADAPTOR_INLINE T* row(int64_t n) { return values_.at(0) + n * kChunk; }

  // One vector per step of a state: a tile if it varies, otherwise the same vector
  // for all steps.
  struct General {
    const T* values;
    int stride;
    MMADAPTOR_INLINE Vec<T> operator[](int64_t step) const { return load(values + step * stride); }
  };
  MMADAPTOR_INLINE General general(int vector, int64_t n, Tile<T>& tile) {
    if (!varies_) return {values_.at(vector * states_ + n), 0};
    for (int64_t t = 0; t < kChunk; ++t) tile.set(t, splat(row(n)[t]));
    return {tile.values, width};
  }

  struct Shared {
    const T* values;
    MMADAPTOR_INLINE Vec<T> operator[](int64_t step) const { return splat(values[step]); }
  };
  MMADAPTOR_INLINE Shared shared(int64_t n) { return {row(n)}; }

 private:
  static constexpr int width = Simd<T>::width;
  static constexpr int kBlockVectors = Scan::kMostChannels / width;
  int64_t states_;
  bool varies_ = true;
  Vectors<T> values_;
};

template <typename Row, int count>
struct Rows {
  Row of[count];
};

// B or C of the `count` states starting at n. `shared` (by all channels) implies that
// they vary over time.
template <int count, bool shared, typename T>
MMADAPTOR_INLINE auto rows(Coefficients<T>& from, Tile<T>* tiles, int vector, int64_t n) {
  using All = Coefficients<T>;
  Rows<std::conditional_t<shared, typename All::Shared, typename All::General>, count> rows;
  for (int k = 0; k < count; ++k) {
    if constexpr (shared)
      rows.of[k] = from.shared(n + k);
    else
      rows.of[k] = from.general(vector, n + k, tiles[k]);
  }
  return rows;
}

template <typename T>
struct Input {
  Tile<T> u, step, drive;  // step d = softplus(delta + bias), drive = d u
  Tile<T> slope;           // derivative of softplus; backward pass only
  Vec<T> least, most;      // of the steps
};

// Computes the step and the drive from delta. `fetch` is called with each step of the
// sequence. It must be inlined: otherwise GCC treats it as a call without side effects
// and removes it.
template <typename T, bool backward, typename Fetch>
MMADAPTOR_INLINE void prepare_input(const Scan& scan, const Lanes& lanes, int steps, Input<T>& in,
                                    const Fetch& fetch) {
  const Vec<T> bias = parameter<T>(scan.delta_bias, lanes);
  Vec<T> least = splat(std::numeric_limits<T>::infinity()), most = -least;
  if (scan.delta_softplus) {
    least = Vec<T>{};
    for (int64_t t = 0; t < steps; ++t) {
      fetch(t);
      Vec<T> slope;
      const Vec<T> d = softplus<T, backward>(in.step[t] + bias, &slope);
      if constexpr (backward) in.slope.set(t, slope);
      most = maximum<T>(d, most);
      in.step.set(t, d);
      in.drive.set(t, d * in.u[t]);
    }
  } else {
    for (int64_t t = 0; t < steps; ++t) {
      fetch(t);
      const Vec<T> d = in.step[t] + bias;
      if constexpr (backward) in.slope.set(t, splat(T(1)));
      least = minimum<T>(d, least);
      most = maximum<T>(d, most);
      in.step.set(t, d);
      in.drive.set(t, d * in.u[t]);
    }
  }
  in.least = least;
  in.most = most;
}

// The way to compute the decays of `count` states over a chunk, the first of index i.
template <typename T, int count>
MMADAPTOR_INLINE Decay decay_of(const Vectors<T>& rate, int64_t i, const Input<T>& in,
                                bool careful) {
  if (careful) return Decay::careful;
  Decay decay = Decay::slow;
  for (int k = 0; k < count; ++k) decay = std::max(decay, decay_of(rate[i + k], in.least, in.most));
  return decay;
}

// Takes tasks until none are left and visits their blocks, one call per walk.
template <typename Visit>
MMADAPTOR_INLINE void each_walk(const Scan& scan, std::atomic<int64_t>& next, const Visit& visit) {
  for (int64_t task = next++; task < scan.tasks(); task = next++) {
    const int64_t index = task % scan.blocks(), set = task / scan.blocks();
    const int64_t sets = scan.groups / scan.sharing;
    const int64_t first = index * scan.block();
    const int channels = static_cast<int>(std::min(scan.block(), scan.channels - first));
    for (int64_t walk = 0; walk < scan.sharing; ++walk)
      visit(Block{set / sets, set % sets * scan.sharing + walk, index, first, channels}, walk == 0);
  }
}

}  // namespace mmadaptor::MMADAPTOR_ISA
