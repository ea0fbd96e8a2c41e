// dilated_depthwise for processors with AVX2 or more, whatever the compiler's flags
// say. The libraries are included before the flags change, so that none of their
// inline functions is compiled for a processor that the machine may not have.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>
#include <utility>
#include <vector>

#include "dilated_depthwise_kernel.h"
#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#if defined(__x86_64__)

#include <immintrin.h>

#define MMADAPTOR_ISA avx2
#define MMADAPTOR_VECTOR_BYTES 32
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#endif

#include "dilated_depthwise_impl.h"

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif  // __x86_64__
