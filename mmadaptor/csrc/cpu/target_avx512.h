// SPDX-License-Identifier: Apache-2.0
// Like target_avx2.h, for AVX-512.
#include <immintrin.h>

#define MMADAPTOR_ISA avx512
#define MMADAPTOR_VECTOR_BYTES 64
#if defined(__clang__)
#pragma clang attribute push(                                                           \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,prfchw"))), \
    apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,prfchw")
#endif
