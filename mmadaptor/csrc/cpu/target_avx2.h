// SPDX-License-Identifier: Apache-2.0
// Compiles the code between this header and target_end.h for AVX2, regardless of the
// compiler flags. Library headers must be included before: otherwise their inline
// functions would be compiled with instructions that the machine may not support.
#include <immintrin.h>

#define MMADAPTOR_ISA avx2
#define MMADAPTOR_VECTOR_BYTES 32
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#endif
