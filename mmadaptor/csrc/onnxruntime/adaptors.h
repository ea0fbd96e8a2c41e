// SPDX-License-Identifier: Apache-2.0
// The ops of the adaptors as custom ops of onnxruntime; float32, forward.
#pragma once

#include <limits>

#include "../cpu/dilated_depthwise_kernel.h"
#include "../cpu/memory_select_kernel.h"
#include "../dilated_depthwise_limits.h"
#include "op.h"

namespace mmadaptor::onnxruntime {

// The kernels index the pixels of a map with 32 bits.
inline void require_pixels(const Call& call, int64_t height, int64_t width) {
  require(height * width < std::numeric_limits<int32_t>::max(), call.op(), ": got ", height, " x ",
          width, " pixels, more than the kernel can index");
}

// memory_select: states, locations, weights -> memory.
class MemorySelectOp {
 public:
  static constexpr const char* kName = "MemorySelect";
  static constexpr size_t kInputs = 3, kRequiredInputs = 3, kOutputs = 1;

  explicit MemorySelectOp(const Attributes&) {}

  void operator()(const Call& call) const {
    const Array states = call.rank(0, "states", 6), weights = call.rank(2, "weights", 6);
    const int64_t groups = weights.size(4), places = weights.size(5);
    MemorySelect op{};
    op.dtype = ScalarType::Float;
    op.batch = states.size(0);
    op.height = states.size(1);
    op.width = states.size(2);
    require_pixels(call, op.height, op.width);
    require(states.size(4) % groups == 0, call.op(),
            ": the groups of `weights` must divide the channels of `states`, got ", groups, " and ",
            states.size(4));
    Sizes expected(states.sizes.begin(), states.sizes.begin() + 4);
    expected.insert(expected.end(), {groups, places});
    call.shape(2, "weights", expected);
    expected.push_back(2);
    op.slices = op.incoming_slices = states.size(3) * groups;
    op.row = states.size(4) / groups * states.size(5);
    op.places = places;
    op.states = states.data;
    op.locations = call.shape(1, "locations", expected).data;
    op.weights = weights.data;
    float* memory = call.output(0, states.sizes);
    call.parallel(op.forward_tasks(), [&](int64_t begin, int64_t end) {
      memory_select_kernels().forward(op, memory, begin, end);
    });
  }
};

// memory_readout: values, predicted, coefficients -> y.
class MemoryReadoutOp {
 public:
  static constexpr const char* kName = "MemoryReadout";
  static constexpr size_t kInputs = 3, kRequiredInputs = 3, kOutputs = 1;

  explicit MemoryReadoutOp(const Attributes& attributes) {
    for (const float value : attributes.list<float>("granularities"))
      granularities_.push_back(value);
    require(!granularities_.empty(), kName, ": `granularities` must not be empty");
  }

  void operator()(const Call& call) const {
    const Array values = call.rank(0, "values", 5), predicted = call.rank(1, "predicted", 5);
    const auto groups = static_cast<int64_t>(granularities_.size());
    const int64_t numbers = predicted.size(4);
    MemoryReadout op{};
    op.dtype = ScalarType::Float;
    op.batch = values.size(0);
    op.height = values.size(1);
    op.width = values.size(2);
    require_pixels(call, op.height, op.width);
    require(values.size(4) % groups == 0 && numbers % (3 * groups) == 0, call.op(), ": ", groups,
            " groups must divide the channels of `values` and a third of the numbers of "
            "`predicted`, got ",
            values.size(4), " and ", numbers);
    const Sizes directed(values.sizes.begin(), values.sizes.begin() + 4);
    Sizes expected = directed;
    expected.push_back(numbers);
    call.shape(1, "predicted", expected);
    op.groups = op.incoming_slices = groups;
    op.slices = values.size(3) * groups;
    op.row = values.size(4) / groups;
    op.places = numbers / (3 * groups);
    op.states = values.data;
    op.granularities = granularities_.data();
    op.predicted = predicted.data;
    op.coefficients = call.shape(2, "coefficients", directed).data;
    float* y = call.output(0, {op.batch, op.height, op.width, values.size(4)});
    call.parallel(op.forward_tasks(), [&](int64_t begin, int64_t end) {
      memory_select_kernels().readout(op, y, begin, end);
    });
  }

 private:
  std::vector<double> granularities_;
};

// dilated_depthwise: y, kernels (dilations, 9, channels) -> out. The kernels are
// transposed, so that onnxruntime does it once.
class DilatedDepthwiseOp {
 public:
  static constexpr const char* kName = "DilatedDepthwise";
  static constexpr size_t kInputs = 2, kRequiredInputs = 2, kOutputs = 1;

  explicit DilatedDepthwiseOp(const Attributes& attributes)
      : dilations_(attributes.list<int64_t>("dilations")) {
    const auto not_positive = [](int64_t dilation) { return dilation < 1; };
    require(!dilations_.empty() && dilations_.size() <= kMostDilations &&
                std::none_of(dilations_.begin(), dilations_.end(), not_positive),
            kName, ": `dilations` must be positive, and 1 to ", kMostDilations, " of them");
  }

  void operator()(const Call& call) const {
    const Array y = call.rank(0, "y", 4);
    const auto count = static_cast<int64_t>(dilations_.size());
    const Array kernels = call.shape(1, "kernels", {count, 9, y.size(3)});
    const DilatedDepthwise op{ScalarType::Float, y.size(0),         y.size(1), y.size(2),
                              y.size(3),         dilations_.data(), count,     kernels.data};
    float* out = call.output(0, y.sizes);
    call.parallel(op.tasks(), [&](int64_t begin, int64_t end) {
      dilated_depthwise_kernels().forward(op, y.data, out, begin, end);
    });
  }

 private:
  std::vector<int64_t> dilations_;
};

}  // namespace mmadaptor::onnxruntime
