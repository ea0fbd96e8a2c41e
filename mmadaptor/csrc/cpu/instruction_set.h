// SPDX-License-Identifier: Apache-2.0
// Choice of the kernels for the current processor.
#pragma once

#include <cstdlib>
#include <string_view>

namespace mmadaptor {

enum class InstructionSet { baseline, avx2, avx512 };

// The best of the processor, or that of ATEN_CPU_CAPABILITY (default, avx2 or avx512), as
// in torch.
inline InstructionSet instruction_set() {
#if defined(__x86_64__)
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vl");
  const char* variable = std::getenv("ATEN_CPU_CAPABILITY");
  const std::string_view wish = variable ? variable : "";
  if (avx512 && wish != "avx2" && wish != "default") return InstructionSet::avx512;
  if (avx2 && wish != "default") return InstructionSet::avx2;
#endif
  return InstructionSet::baseline;
}

}  // namespace mmadaptor
