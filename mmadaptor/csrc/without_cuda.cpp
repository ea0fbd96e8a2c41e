// SPDX-License-Identifier: Apache-2.0
// The error of a build without CUDA on a GPU; torch's own error would list all backends.
#ifndef MMADAPTOR_WITH_CUDA
#include <torch/library.h>

namespace mmadaptor {
namespace {

void refuse(const c10::OperatorHandle& op, c10::Stack*) {
  TORCH_CHECK(false, op.schema().name(),
              ": mmadaptor's compiled ops were built for the CPU "
              "alone: build them again with \"FORCE_CUDA=1 pip install -e . "
              "--no-build-isolation\" in mmadaptor's folder (the build reports missing parts "
              "of the CUDA toolkit), or run on the CPU with CUDA_VISIBLE_DEVICES=-1.");
}

}  // namespace

TORCH_LIBRARY_IMPL(mmadaptor, CUDA, m) {
  for (const char* op :
       {"selective_scan", "selective_scan_backward", "selective_scan_states",
        "selective_scan_states_backward", "cross_selective_scan", "cross_selective_scan_backward",
        "cross_selective_scan_states", "cross_selective_scan_states_backward", "cross_readout",
        "cross_readout_backward", "memory_select", "memory_select_backward", "memory_readout",
        "memory_readout_backward", "dilated_depthwise", "dilated_depthwise_backward"})
    m.impl(op, torch::CppFunction::makeFromBoxedFunction<&refuse>());
}

}  // namespace mmadaptor
#endif
