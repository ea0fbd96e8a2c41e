// SPDX-License-Identifier: Apache-2.0
// The scans on CUDA: how a call is divided into blocks, and the launch functions.
#pragma once

#include <algorithm>

#include "../scan_view.h"
#include "target.h"

namespace mmadaptor::cuda {

// Steps per thread in a tile; half as many for double, which needs more registers.
constexpr int steps_of(size_t wide) { return wide == sizeof(double) ? 4 : 8; }
template <typename W>
constexpr int kSteps = steps_of(sizeof(W));

// Maximum threads per block, so that each thread has enough registers.
constexpr int most_threads(size_t wide, bool backward) {
  return backward || wide == sizeof(double) ? 256 : 512;
}

constexpr int64_t kMostStates = 256;

// Numbers with which a piece says how it changes a state and a gradient: the decay in two
// parts, and what the piece adds to each.
constexpr int kSummary = 4;

// The maps whose offsets a block keeps. kResult: y, or the gradient of u. kSaved: the
// checkpoints.
enum { kU, kDelta, kZ, kResult, kSum, kGradY, kGradDelta, kGradZ, kGradB, kGradC, kSaved, kMaps };

// A block takes `lanes` channels of one group, or of all groups that share u and y, and
// walks their path tile by tile. It has lanes x pieces threads: a piece is `steps`
// consecutive steps, and all pieces together form a tile, a multiple of kChunk steps.
struct ScanPlan {
  int lanes = 32, pieces = 8, steps = 8;
  int sharing = 1;              // groups that a block walks in turn
  int blocks = 1;               // blocks of channels per group
  int segments = 1;             // segments per path, each processed by a separate block
  int segment = 0;              // steps per segment, a multiple of the tile
  bool sums_in_shared = false;  // the sum over the sharing groups is in shared memory

  MMADAPTOR_EVERYWHERE int tile() const { return pieces * steps; }
  MMADAPTOR_EVERYWHERE int threads() const { return lanes * pieces; }
  // Of a launch: its blocks, and the parts of a gradient that is summed over time.
  int64_t all_blocks(const ScanView& v) const {
    return v.batch * (v.groups / sharing) * blocks * segments;
  }
  int64_t parts(const ScanView& v) const { return v.batch * segments * pieces; }

  // Shared memory excluding the map, all double-buffered: carried states, summaries of the
  // pieces, and for each step B, C and the pixel; and the offsets of maps.
  size_t exchange_bytes(const ScanView& v, size_t wide) const {
    return 2 * (wide * lanes * (v.states + kSummary * pieces) + (2 * wide + sizeof(int)) * tile()) +
           kMaps * sizeof(int64_t);
  }
  size_t map_bytes(const ScanView& v, size_t wide) const { return wide * lanes * v.length(); }
  size_t shared_bytes(const ScanView& v, size_t wide) const {
    return exchange_bytes(v, wide) + (sums_in_shared ? map_bytes(v, wide) : 0);
  }
};

// Relative time of a plan: the rounds in which the device takes its blocks, times the work of
// a round. Threads per multiprocessor: 65,536 registers, 128 or 256 a thread.
inline int64_t cost_of(const ScanPlan& plan, const ScanView& v, size_t wide, bool backward,
                       const Target& target) {
  const int threads = backward && (wide == sizeof(double) || v.z.data) ? 256 : 512;
  const int64_t at_once = std::max<int64_t>(
      std::min<int64_t>(threads / plan.threads(), target.shared_bytes / plan.shared_bytes(v, wide)),
      1);
  const int64_t blocks = v.batch * (v.groups / plan.sharing) * plan.blocks;
  return divide_up(blocks, target.processors * at_once) * at_once * plan.lanes * plan.sharing;
}

// Depends only on the shapes and the device, so results are reproducible bit for bit.
inline ScanPlan plan_scan(const ScanView& v, size_t wide, bool backward, const Target& target) {
  const int most = most_threads(wide, backward);
  // The backward pass leaves shared memory for a second block, for which there are also
  // enough registers.
  const size_t room = target.shared_bytes / (backward ? 2 : 1);
  const int least_pieces = static_cast<int>(kChunk) / steps_of(wide);
  const auto fits = [&](ScanPlan& plan, int lanes, int pieces) {
    plan.steps = steps_of(wide);
    plan.lanes = lanes;
    plan.pieces = pieces;
    plan.blocks = static_cast<int>(divide_up(v.channels, lanes));
    return plan.threads() <= most && plan.shared_bytes(v, wide) <= room;
  };
  ScanPlan plan;
  if (!fits(plan, 32, least_pieces)) fits(plan, 16, least_pieces);
  const int64_t tiles = divide_up(v.length(), plan.tile());
  const int64_t taken = std::max<int64_t>(v.batch, 1) * v.groups * plan.blocks;
  plan.segments = static_cast<int>(std::clamp<int64_t>(2 * target.processors / taken, 1, tiles));
  const bool sums_groups = v.crosses && (backward || v.reads_out);
  if (sums_groups && plan.segments == 1) {
    ScanPlan together = plan;
    together.sharing = static_cast<int>(v.groups);
    together.sums_in_shared = true;
    if (!fits(together, 32, least_pieces) && !fits(together, 16, most / 16)) {
      together = plan;
      together.sharing = static_cast<int>(v.groups);
    }
    // Apart, each group writes a map of its own, and these are then added up. By an estimate
    // of the traffic, a step then takes 7/5 of its time with the sum on the chip, and as long
    // as with the sum in memory.
    const int weight = together.sums_in_shared ? 5 : 7;
    if (weight * cost_of(together, v, wide, backward, target) <=
        7 * cost_of(plan, v, wide, backward, target))
      plan = together;
  }
  plan.segment =
      static_cast<int>(divide_up(divide_up(v.length(), plan.tile()), plan.segments)) * plan.tile();
  plan.segments = static_cast<int>(divide_up(v.length(), plan.segment));
  return plan;
}

// The plan of a call and its temporary memory.
struct ScanExtra {
  ScanPlan plan;
  // Accumulator of y or of the gradient of u over groups, float or double: one map for the
  // groups that share, unless it is in shared memory; otherwise one map per group.
  Strided sum;
  // Summaries, if there is more than one segment: the sum of the step sizes of each,
  // (segments, batch, all channels), and the state (or gradient) that leaves it if 0
  // enters, (segments, batch, states, all channels). A first launch computes them
  // (finds_segments).
  void *segment_steps = nullptr, *segment_states = nullptr;
  bool finds_segments = false;
};

// The first argument is a (possibly null) pointer to float, double, __half or
// __nv_bfloat16. Its type is that of u, delta, z, B, C, y and of their gradients, except
// the gradients of B and C and except sums. In all maps except the states, channels are
// contiguous and rows follow one another. Layouts of gradients: A, and B and C that do not
// vary: (parts, states, all channels); D and delta_bias: (parts, all channels).
template <typename T>
void launch_scan(const T*, const ScanView&, const ScanResults&, const ScanExtra&, const Target&);
template <typename T>
void launch_scan_backward(const T*, const ScanView&, const ScanGradients&, const ScanExtra&,
                          const Target&);

}  // namespace mmadaptor::cuda
