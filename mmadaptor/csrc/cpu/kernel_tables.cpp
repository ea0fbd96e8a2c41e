// SPDX-License-Identifier: Apache-2.0
// The kernels for the current processor, without torch.
#include "dilated_depthwise_kernel.h"
#include "instruction_set.h"
#include "memory_select_kernel.h"
#include "scan_kernel.h"

namespace mmadaptor {

const ScanKernels& scan_kernels() {
  static const ScanKernels& kernels = []() -> const ScanKernels& {
#if defined(__x86_64__)
    if (instruction_set() == InstructionSet::avx512) return avx512::scan_kernels;
    if (instruction_set() == InstructionSet::avx2) return avx2::scan_kernels;
#endif
    return baseline::scan_kernels;
  }();
  return kernels;
}

const MemorySelectKernels& memory_select_kernels() {
  static const MemorySelectKernels& kernels = []() -> const MemorySelectKernels& {
#if defined(__x86_64__)
    if (instruction_set() >= InstructionSet::avx2) return avx2::memory_select_kernels;
#endif
    return baseline::memory_select_kernels;
  }();
  return kernels;
}

const DilatedDepthwiseKernels& dilated_depthwise_kernels() {
  static const DilatedDepthwiseKernels& kernels = []() -> const DilatedDepthwiseKernels& {
#if defined(__x86_64__)
    if (instruction_set() >= InstructionSet::avx2) return avx2::dilated_depthwise_kernels;
#endif
    return baseline::dilated_depthwise_kernels;
  }();
  return kernels;
}

}  // namespace mmadaptor
