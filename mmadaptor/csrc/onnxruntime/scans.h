// SPDX-License-Identifier: Apache-2.0
// The scans and their readout as custom ops of onnxruntime; float32, forward.
#pragma once

#include <atomic>
#include <memory>

#include "../cpu/scan_kernel.h"
#include "op.h"

namespace mmadaptor::onnxruntime {

constexpr int64_t kDirections = 4;

inline Scan new_scan(bool delta_softplus) {
  Scan scan{};
  scan.dtype = scan.sum_dtype = ScalarType::Float;
  scan.delta_softplus = delta_softplus;
  return scan;
}

inline void* pointer(const Array& t) { return const_cast<float*>(t.data); }

// Runs the forward pass. A gradient would need the checkpoints; here they are dropped.
inline void run(const Call& call, const Scan& scan, ScanResults results) {
  if (scan.batch == 0) return;
  const int64_t size = scan.batch * scan.chunks() * scan.states * scan.all_channels();
  const std::unique_ptr<float[]> checkpoints(new float[size]);
  results.checkpoints = checkpoints.get();
  std::atomic<int64_t> next_task{0};
  call.parallel(std::min(scan.tasks(), Call::processors()),
                [&](int64_t, int64_t) { scan_kernels().forward(scan, results, next_task); });
}

// selective_scan: u, delta, A, B, C, D?, z?, delta_bias? -> y, last state; and
// selective_scan_states: u, delta, A, B, delta_bias? -> states. All groups are given.
template <bool reads_out>
class SequenceScan {
 public:
  static constexpr const char* kName = reads_out ? "SelectiveScan" : "SelectiveScanStates";
  static constexpr size_t kInputs = reads_out ? 8 : 5, kRequiredInputs = reads_out ? 5 : 4;
  static constexpr size_t kOutputs = reads_out ? 2 : 1;

  explicit SequenceScan(const Attributes& attributes)
      : delta_softplus_(attributes.integer("delta_softplus")) {}

  void operator()(const Call& call) const {
    const Array u = call.rank(0, "u", 3), A = call.rank(2, "A", 2);
    const int64_t batch = u.size(0), channels = u.size(1), length = u.size(2), states = A.size(1);
    Scan scan = new_scan(delta_softplus_);
    const Array delta = call.shape(1, "delta", u.sizes);
    call.shape(2, "A", {channels, states});
    const Array B = call.required(3, "B"), C = reads_out ? call.required(4, "C") : Array{};
    const auto groups_of = [](const Array& t) { return t.sizes.size() == 4 ? t.size(1) : 1; };
    scan.groups = std::max(groups_of(B), reads_out ? groups_of(C) : 1);
    require(B.sizes.size() == 2 || C.sizes.size() <= 2 || groups_of(B) == groups_of(C), call.op(),
            ": `B` and `C` must have the same groups, got ", groups_of(B), " and ", groups_of(C));
    require(scan.groups > 0 && channels % scan.groups == 0, call.op(),
            ": the groups of `B` and `C` must divide the channels of `u`, got ", scan.groups,
            " and ", channels);
    scan.batch = batch;
    scan.channels = channels / scan.groups;
    scan.states = states;
    scan.height = 1;
    scan.width = length;
    scan.reads_out = reads_out;
    scan.gives_states = !reads_out;
    const auto sequence = [&](const float* data) {
      return Strided{
          const_cast<float*>(data), channels * length, scan.channels * length, length, 0, 1};
    };
    scan.u = sequence(u.data);
    scan.delta = sequence(delta.data);
    scan.A = A.data;
    scan.B = coefficients(call, 3, "B", B, scan);
    scan.B_varies = B.sizes.size() > 2;
    if constexpr (reads_out) {
      scan.C = coefficients(call, 4, "C", C, scan);
      scan.C_varies = C.sizes.size() > 2;
      scan.D = call.optional(5, "D", {channels}).data;
      scan.z = sequence(call.optional(6, "z", u.sizes).data);
    }
    scan.delta_bias = call.optional(kInputs - 1, "delta_bias", {channels}).data;
    ScanResults results{};
    if constexpr (reads_out) {
      results.y = sequence(call.output(0, u.sizes));
      results.last_state = call.output(1, {batch, channels, states});
    } else {
      results.h = {call.output(0, {batch, channels, states, length}),
                   channels * states * length,
                   scan.channels * states * length,
                   states * length,
                   0,
                   1,
                   length};
    }
    run(call, scan, results);
  }

 private:
  // (channels, states), (batch, states, length) or (batch, groups, states, length).
  static Strided coefficients(const Call& call, size_t index, const char* name, const Array& t,
                              const Scan& scan) {
    const int64_t states = scan.states, length = scan.width;
    if (t.sizes.size() == 2) {
      call.shape(index, name, {scan.all_channels(), states});
      return {pointer(t), 0, scan.channels * states, states, 0, 0, 1};
    }
    if (t.sizes.size() == 3)
      call.shape(index, name, {scan.batch, states, length});
    else
      call.shape(index, name, {scan.batch, scan.groups, states, length});
    const bool shared = t.sizes.size() == 3;
    return {pointer(t),
            (shared ? 1 : scan.groups) * states * length,
            shared ? 0 : states * length,
            0,
            0,
            1,
            length};
  }

  bool delta_softplus_;
};

// cross_selective_scan: x, delta, A, B, C, D?, delta_bias? -> y, states?; and
// cross_selective_scan_states: x, delta, A, B, delta_bias? -> states.
template <bool reads_out>
class CrossScan {
 public:
  static constexpr const char* kName =
      reads_out ? "CrossSelectiveScan" : "CrossSelectiveScanStates";
  static constexpr size_t kInputs = reads_out ? 7 : 5, kRequiredInputs = reads_out ? 5 : 4;
  static constexpr size_t kOutputs = reads_out ? 2 : 1;

  explicit CrossScan(const Attributes& attributes)
      : delta_softplus_(attributes.integer("delta_softplus")),
        gives_states_(!reads_out || attributes.integer("return_states")) {}

  void operator()(const Call& call) const {
    const Array x = call.rank(0, "x", 4), A = call.rank(2, "A", 3);
    const int64_t batch = x.size(0), height = x.size(1), width = x.size(2), channels = x.size(3),
                  states = A.size(2);
    Scan scan = new_scan(delta_softplus_);
    scan.batch = batch;
    scan.groups = scan.sharing = kDirections;
    scan.channels = channels;
    scan.states = states;
    scan.height = height;
    scan.width = width;
    scan.crosses = true;
    scan.reads_out = scan.C_varies = reads_out;
    scan.gives_states = gives_states_;
    scan.B_varies = true;
    // A task takes all four directions, unless this may leave threads idle.
    if (scan.tasks() < Call::processors()) scan.sharing = 1;
    // (batch, height, width, groups, inner), of which a channel has `states` numbers.
    const auto directed = [&](const float* data, int64_t inner, int64_t channel, int64_t state) {
      const int64_t pixel = kDirections * inner;
      return Strided{const_cast<float*>(data),
                     height * width * pixel,
                     inner,
                     channel,
                     width * pixel,
                     pixel,
                     state};
    };
    const auto map = [&](float* data) {
      return Strided{data, height * width * channels, 0, 1, width * channels, channels};
    };
    const Sizes coefficients{batch, height, width, kDirections, states};
    scan.u = map(const_cast<float*>(x.data));
    scan.delta = directed(
        call.shape(1, "delta", {batch, height, width, kDirections, channels}).data, channels, 1, 0);
    scan.A = call.shape(2, "A", {kDirections, channels, states}).data;
    scan.B = directed(call.shape(3, "B", coefficients).data, states, 0, 1);
    if constexpr (reads_out) {
      scan.C = directed(call.shape(4, "C", coefficients).data, states, 0, 1);
      scan.D = call.optional(5, "D", {kDirections, channels}).data;
    }
    scan.delta_bias = call.optional(kInputs - 1, "delta_bias", {kDirections, channels}).data;
    ScanResults results{};
    require(!gives_states_ || call.outputs() == kOutputs, call.op(), ": `states` is missing");
    if (gives_states_)
      results.h = directed(
          call.output(reads_out ? 1 : 0, {batch, height, width, kDirections, channels, states}),
          channels * states, states, 1);
    if constexpr (reads_out) {
      float* y = call.output(0, x.sizes);
      results.y = map(y);
      // Without sharing, a map for each direction, added up in their order.
      const int64_t size = batch * height * width * channels;
      const std::unique_ptr<float[]> parts(scan.sharing == 1 ? new float[kDirections * size]
                                                             : nullptr);
      if (parts) {
        results.y = map(parts.get());
        results.y.group = size;
      }
      run(call, scan, results);
      if (parts) add_up(call, parts.get(), size, y);
    } else {
      run(call, scan, results);
    }
  }

 private:
  static void add_up(const Call& call, const float* parts, int64_t size, float* total) {
    call.parallel(size, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        total[i] = ((parts[i] + parts[size + i]) + parts[2 * size + i]) + parts[3 * size + i];
    });
  }

  bool delta_softplus_, gives_states_;
};

// cross_readout: states, C -> y.
class CrossReadout {
 public:
  static constexpr const char* kName = "CrossReadout";
  static constexpr size_t kInputs = 2, kRequiredInputs = 2, kOutputs = 1;

  explicit CrossReadout(const Attributes&) {}

  void operator()(const Call& call) const {
    const Array h = call.rank(0, "states", 6);
    const int64_t batch = h.size(0), height = h.size(1), width = h.size(2);
    const Array C = call.shape(1, "C", {batch, height, width, h.size(3), h.size(5)});
    const Readout readout{ScalarType::Float,
                          h.size(3),
                          h.size(4),
                          h.size(5),
                          h.data,
                          C.data,
                          nullptr,
                          call.output(0, {batch, height, width, h.size(4)}),
                          nullptr,
                          nullptr};
    call.parallel(batch * height * width,
                  [&](int64_t begin, int64_t end) { scan_kernels().readout(readout, begin, end); });
  }
};

}  // namespace mmadaptor::onnxruntime
