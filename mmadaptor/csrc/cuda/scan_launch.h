// SPDX-License-Identifier: Apache-2.0
// The scans on a GPU: how a call is divided, and its launches.
#pragma once

#include <algorithm>

#include "../scan_view.h"
#include "target.h"

namespace mmadaptor::cuda {

// Steps of a thread in a tile; with double half as many, for want of registers.
constexpr int steps_of(size_t wide) { return wide == sizeof(double) ? 4 : 8; }
template <typename W>
constexpr int kSteps = steps_of(sizeof(W));

// Threads of a block at most, so that each has registers enough.
constexpr int most_threads(size_t wide, bool backward) {
  return backward || wide == sizeof(double) ? 256 : 512;
}

constexpr int64_t kMostStates = 256;

// A block takes `lanes` channels of one group, or of the groups that share, and
// walks their path tile by tile. Its threads are lanes x pieces: a piece is `steps`
// steps in a row, and all pieces together are a tile, a multiple of kChunk steps.
struct ScanPlan {
  int lanes = 32, pieces = 8, steps = 8;
  int sharing = 1;              // groups that a block walks one after the other
  int blocks = 1;               // of channels in a group
  int segments = 1;             // of a path, each for a block of its own
  int segment = 0;              // steps of one, whole tiles
  bool sums_in_shared = false;  // the sum over the groups that share is on the chip

  MMADAPTOR_EVERYWHERE int tile() const { return pieces * steps; }
  MMADAPTOR_EVERYWHERE int threads() const { return lanes * pieces; }
  int64_t parts(const ScanView& v) const { return v.batch * segments * pieces; }

  // Of what is shared but for the map: the states carried on, twice, and what
  // pieces tell one another of themselves, twice three numbers.
  size_t exchange_bytes(const ScanView& v, size_t wide) const {
    return wide * lanes * (2 * v.states + 6 * pieces);
  }
  size_t map_bytes(const ScanView& v, size_t wide) const { return wide * lanes * v.length(); }
  size_t shared_bytes(const ScanView& v, size_t wide) const {
    return exchange_bytes(v, wide) + (sums_in_shared ? map_bytes(v, wide) : 0);
  }
};

// A function of the shapes and the device alone: so are the bits of the results.
inline ScanPlan plan_scan(const ScanView& v, size_t wide, bool backward, const Target& target) {
  const int most = most_threads(wide, backward);
  // The backward pass leaves room for a second block, which has registers too.
  const size_t room = target.shared_bytes / (backward ? 2 : 1);
  ScanPlan plan;
  plan.steps = steps_of(wide);
  const int least_pieces = static_cast<int>(kChunk) / plan.steps;
  const auto fits = [&](int lanes, int pieces) {
    plan.lanes = lanes;
    plan.pieces = pieces;
    return plan.threads() <= most && plan.shared_bytes(v, wide) <= room;
  };
  if (v.crosses && v.batch * divide_up(v.channels, 32) >= target.processors) {
    plan.sharing = static_cast<int>(v.groups);
    plan.sums_in_shared = true;
    plan.sums_in_shared = fits(32, least_pieces) || fits(16, most / 16);
  }
  if (!plan.sums_in_shared && !fits(32, least_pieces)) fits(16, least_pieces);
  plan.blocks = static_cast<int>(divide_up(v.channels, plan.lanes));
  const int64_t tiles = divide_up(v.length(), plan.tile());
  if (plan.sharing == 1) {
    const int64_t taken = std::max<int64_t>(v.batch, 1) * v.groups * plan.blocks;
    plan.segments = static_cast<int>(std::clamp<int64_t>(2 * target.processors / taken, 1, tiles));
  }
  plan.segment = static_cast<int>(divide_up(tiles, plan.segments)) * plan.tile();
  plan.segments = static_cast<int>(divide_up(v.length(), plan.segment));
  return plan;
}

// What the plan adds to a call.
struct ScanExtra {
  ScanPlan plan;
  // Where y or the gradient of u is summed over groups, float or double: a map for
  // those that share, unless it is on the chip, else one for each group.
  Strided sum;
  // For more than one segment: the steps of each added up, (segments, batch, all
  // channels), and how it leaves a state (or a gradient) that is 0 at first,
  // (segments, batch, states, all channels). A first launch finds them.
  void *segment_steps = nullptr, *segment_states = nullptr;
  bool finds_segments = false;
};

// For a pointer to float, double, __half or __nv_bfloat16, which may be null: the
// type of u, delta, z, B, C, y and of their gradients but for B's and C's, and but
// for sums. Neighbouring channels of all maps but the states are neighbours in
// memory, and their rows follow one another. In the gradients A, and a B and C that
// do not vary, are (parts, states, all channels), D and delta_bias (parts, all
// channels).
template <typename T>
void launch_scan(const T*, const ScanView&, const ScanResults&, const ScanExtra&, const Target&);
template <typename T>
void launch_scan_backward(const T*, const ScanView&, const ScanGradients&, const ScanExtra&,
                          const Target&);

}  // namespace mmadaptor::cuda
