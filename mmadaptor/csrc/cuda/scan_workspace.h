// SPDX-License-Identifier: Apache-2.0
// CUDA host code shared by both scans: the plan and its temporary tensors.
#pragma once

#include <initializer_list>
#include <limits>

#include "scan_launch.h"
#include "torch_device.h"

namespace mmadaptor::cuda {

// The plan of a call and its temporary memory.
class PreparedPlan {
 public:
  ScanExtra extra;
  Target target;

  // `incoming`: the gradients of y and of the states, in the backward pass.
  PreparedPlan(const ScanView& v, const Tensor& wide, bool backward,
               std::initializer_list<Strided> incoming = {})
      : target(current_target()) {
    require(v.states <= kMostStates, "selective scan on CUDA: `A` must have at most ", kMostStates,
            " states, got ", v.states);
    int64_t most = v.groups * v.channels * v.states;  // stride of the states
    for (const Strided& t : {v.u, v.delta, v.z, v.B, v.C})
      most = std::max({most, t.column, v.states > 1 ? t.state : 0});
    for (const Strided& t : incoming) most = std::max(most, t.column);
    const int64_t limit = kMostSteps / wide.element_size();
    require(v.length() < kMostSteps && most < limit,
            "selective scan on CUDA: a map must have fewer than ", kMostSteps,
            " pixels, and strides between pixels and states below ", limit, ", got ", v.length(),
            " and ", most);
    extra.plan = plan_scan(v, wide.element_size(), backward, target);
    const ScanPlan& plan = extra.plan;
    const size_t bytes = plan.shared_bytes(v, wide.element_size());
    require(bytes <= target.shared_bytes, "selective scan on CUDA: ", v.states, " states take ",
            bytes, " bytes of shared memory in a block, the device has ", target.shared_bytes);
    check_count("selective scan", "batch x paths x segments x blocks of channels",
                plan.all_blocks(v));
    if (backward) check_count("selective scan", "batch x segments x pieces", plan.parts(v));
    if (plan.segments == 1) return;
    steps_ = empty_tensor({plan.segments, v.batch, v.all_channels()}, dtype_of(wide), wide);
    states_ =
        empty_tensor({plan.segments, v.batch, v.states, v.all_channels()}, dtype_of(wide), wide);
    extra.segment_steps = steps_->mutable_data_ptr();
    extra.segment_states = states_->mutable_data_ptr();
  }

 private:
  // The kernels index pixels by int, and have strides in bytes in int.
  static constexpr int64_t kMostSteps = std::numeric_limits<int>::max() - (1 << 16);
  OptionalTensor steps_, states_;
};

// The per-thread parts of a gradient of shape (all channels) or, with states, (all
// channels, states); the parts of the latter are (states, all channels).
inline Parts parts_of(const Tensor& total, const PreparedPlan& prepared, const ScanView& v,
                      ScalarType wide, bool with_states) {
  const auto view = [&](const Sizes& sizes) { return torch::stable::view(total, sizes); };
  const Tensor target = with_states
                            ? torch::stable::transpose(view({v.all_channels(), v.states}), 0, 1)
                            : view({v.all_channels()});
  return {target, prepared.extra.plan.parts(v), wide};
}

}  // namespace mmadaptor::cuda
