// SPDX-License-Identifier: Apache-2.0
// From here to target_end.h for processors with AVX2, whatever the compiler's flags
// say. Libraries are included before, so that none of their inline functions is
// compiled for a processor that the machine may not have.
#include <immintrin.h>

#define MMADAPTOR_ISA avx2
#define MMADAPTOR_VECTOR_BYTES 32
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#endif
