// The scan for processors with AVX-512, whatever the compiler's flags say. The
// libraries are included before the flags change, so that none of their inline
// functions is compiled for a processor that the machine may not have.
#include <algorithm>
#include <atomic>
#include <memory>

#include "scan_kernel.h"
#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#if defined(__x86_64__)

#include <immintrin.h>

#define MMADAPTOR_ISA avx512
#define MMADAPTOR_VECTOR_BYTES 64
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,prfchw"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,prfchw")
#endif

#include "scan_impl.h"

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif  // __x86_64__
