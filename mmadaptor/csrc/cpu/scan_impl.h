// SPDX-License-Identifier: Apache-2.0
// CPU kernels of the scans, forward and backward, for any vector width.
//
// Lanes are channels: a vector holds one step of neighboring channels, so the
// recurrence is a chain of fused multiply-adds without shuffles between lanes. Its
// latency is hidden by the exponentials of the following steps.
#pragma once

#include <memory>

#include "cross_readout_impl.h"
#include "scan_bwd.h"
#include "scan_fwd.h"

namespace mmadaptor::MMADAPTOR_ISA {

struct Forward {
  template <typename T>
  using Scratch = ForwardScratch<T>;
  template <typename T, bool shared, bool reads_out, bool gives_states>
  using Walk = ForwardWalk<T, shared, reads_out, gives_states>;
};

struct Backward {
  template <typename T>
  using Scratch = BackwardScratch<T>;
  template <typename T, bool shared, bool reads_out, bool gives_states>
  using Walk = BackwardWalk<T, shared, reads_out, gives_states>;
};

template <typename Pass, typename T, bool shared, bool reads_out, bool gives_states,
          typename Tensors>
void run(const Scan& scan, const Tensors& tensors, std::atomic<int64_t>& next) {
  using Scratch = typename Pass::template Scratch<T>;
  using Walk = typename Pass::template Walk<T, shared, reads_out, gives_states>;
  const int vectors = static_cast<int>(divide_up(scan.block(), Simd<T>::width));
  const auto scratch = std::make_unique<Scratch>(scan.states, vectors);
  each_walk(scan, next, [&](const Block& block, bool first) {
    Walk{scan, tensors, block, first, *scratch}.run();
  });
}

// Dispatches from run-time options to template instances.
template <typename Pass, typename T, bool shared, typename Tensors>
void for_output(const Scan& scan, const Tensors& tensors, std::atomic<int64_t>& next) {
  if (!scan.gives_states)
    run<Pass, T, shared, true, false>(scan, tensors, next);
  else if (scan.reads_out)
    run<Pass, T, shared, true, true>(scan, tensors, next);
  else
    run<Pass, T, shared, false, true>(scan, tensors, next);
}

template <typename Pass, typename T, typename Tensors>
void for_form(const Scan& scan, const Tensors& tensors, std::atomic<int64_t>& next) {
  if (scan.B_varies && (scan.C_varies || !scan.reads_out))
    for_output<Pass, T, true>(scan, tensors, next);
  else
    for_output<Pass, T, false>(scan, tensors, next);
}

template <typename Pass, typename Tensors>
void for_dtype(const Scan& scan, const Tensors& tensors, std::atomic<int64_t>& next) {
  if (scan.dtype == ScalarType::Double)
    for_form<Pass, double>(scan, tensors, next);
  else
    for_form<Pass, float>(scan, tensors, next);
}

const ScanKernels scan_kernels = {for_dtype<Forward, ScanResults>,
                                  for_dtype<Backward, ScanGradients>, read_out, read_out_backward};

}  // namespace mmadaptor::MMADAPTOR_ISA
