// SPDX-License-Identifier: Apache-2.0
// Argument checks and result allocation of memory_select, for all devices.
#pragma once

#include <limits>
#include <tuple>

#include "checks.h"

namespace mmadaptor {

// The kernels index the pixels of a map with 32 bits.
inline void check_map_fits(const char* op, const char* name, const Tensor& map) {
  require(map.size(1) * map.size(2) < std::numeric_limits<int32_t>::max(), op, ": `", name,
          "` must have fewer than 2^31 - 1 pixels per map, got ", map.size(1), " x ", map.size(2));
}

inline Check check_memory_select(const char* op, const Tensor& states, const Tensor& locations,
                                 const Tensor& weights) {
  const Check check(op, "states", states);
  const auto dtype = dtype_of(states);
  check.wide("states", states);
  check.rank("states", states, 6);
  check.only_batch_empty("states", states);
  check_map_fits(op, "states", states);
  check.dtype("weights", weights, dtype);
  check.rank("weights", weights, 6);
  check.only_batch_empty("weights", weights);
  const int64_t groups = weights.size(4), places = weights.size(5);
  const auto expected = [&](std::initializer_list<int64_t> inner) {
    Sizes sizes{states.size(0), states.size(1), states.size(2), states.size(3)};
    sizes.insert(sizes.end(), inner);
    return sizes;
  };
  check.shape("weights", weights, expected({groups, places}));
  require(states.size(4) % groups == 0, op,
          ": the groups of `weights` must divide the channels of `states`");
  check.dtype("locations", locations, dtype);
  check.shape("locations", locations, expected({groups, places, 2}));
  return check;
}

inline void check_memory_select_gradient(const Tensor& grad_memory, const Tensor& states,
                                         const Tensor& locations, const Tensor& weights) {
  const Check check = check_memory_select("memory_select_backward", states, locations, weights);
  check.dtype("grad_memory", grad_memory, dtype_of(states));
  check.shape("grad_memory", grad_memory, sizes_of(states));
}

// Gradients of states, locations and weights.
inline std::tuple<Tensor, Tensor, Tensor> empty_memory_select_gradients(const Tensor& states,
                                                                        const Tensor& locations,
                                                                        const Tensor& weights) {
  return {empty_contiguous(states), empty_contiguous(locations), empty_contiguous(weights)};
}

}  // namespace mmadaptor
