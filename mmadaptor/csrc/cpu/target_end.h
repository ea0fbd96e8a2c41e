// SPDX-License-Identifier: Apache-2.0
// Ends the region that target_avx2.h or target_avx512.h begins.
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
