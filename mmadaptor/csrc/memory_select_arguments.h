// SPDX-License-Identifier: Apache-2.0
// Argument checks and result allocation of memory_select. Shared by all devices and by
// torch.compile, which calls them with fake tensors.
#pragma once

#include <limits>
#include <tuple>

#include "checks.h"

namespace mmadaptor {

inline void check_memory_select(const char* op, const Tensor& states, const Tensor& locations,
                                const Tensor& weights) {
  const Check check(op, states);
  const auto dtype = states.scalar_type();
  TORCH_CHECK_VALUE(dtype == at::kFloat || dtype == at::kDouble, op,
                    ": `states` must be float32 or float64, got ", dtype);
  const char* meaning = "(batch, height, width, directions, channels, states)";
  check.dtype("states", states, dtype, "its own dtype");
  check.rank("states", states, 6, meaning);
  constexpr const char* kSizes[] = {"batch", "rows", "columns", "directions", "channels", "states"};
  for (int64_t dim = 1; dim < 6; ++dim) check.not_empty("states", states, dim, kSizes[dim]);

  const char* like_states = "the dtype of `states`";
  const char* of_weights = "(batch, height, width, directions, groups, places)";
  check.dtype("weights", weights, dtype, like_states);
  check.rank("weights", weights, 6, of_weights);
  check.not_empty("weights", weights, 4, "groups");
  check.not_empty("weights", weights, 5, "places");
  const auto groups = weights.sym_size(4), places = weights.sym_size(5);
  const auto batch = states.sym_size(0), height = states.sym_size(1), width = states.sym_size(2),
             directions = states.sym_size(3), channels = states.sym_size(4);
  check.shape("weights", weights, {batch, height, width, directions, groups, places}, of_weights);
  TORCH_CHECK_VALUE(channels % groups == 0, op, ": the groups of `weights` must divide the ",
                    channels, " channels of `states`, got ", groups, " groups");
  check.dtype("locations", locations, dtype, like_states);
  check.shape("locations", locations, {batch, height, width, directions, groups, places, 2},
              "(batch, height, width, directions, groups, places, 2)");
}

inline void check_memory_select_gradient(const Tensor& grad_memory, const Tensor& states,
                                         const Tensor& locations, const Tensor& weights) {
  const char* op = "memory_select_backward";
  check_memory_select(op, states, locations, weights);
  const Check check(op, states);
  check.dtype("grad_memory", grad_memory, states.scalar_type(), "the dtype of `states`");
  check.shape("grad_memory", grad_memory, states.sym_sizes(), "(that of `states`)");
}

// The kernels index the pixels of a map with 32 bits. Not checked for fake tensors: it would
// add a guard on their symbolic sizes.
inline void check_map_fits(const char* argument, const Tensor& map) {
  TORCH_CHECK_VALUE(map.size(1) * map.size(2) < std::numeric_limits<int32_t>::max(), argument,
                    " must have fewer than 2^31 - 1 pixels per map, got ", map.size(1), " x ",
                    map.size(2));
}

// Gradients of states, locations and weights.
inline std::tuple<Tensor, Tensor, Tensor> empty_memory_select_gradients(const Tensor& states,
                                                                        const Tensor& locations,
                                                                        const Tensor& weights) {
  return {empty_contiguous(states), empty_contiguous(locations), empty_contiguous(weights)};
}

}  // namespace mmadaptor
