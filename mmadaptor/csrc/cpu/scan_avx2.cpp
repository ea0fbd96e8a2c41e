// SPDX-License-Identifier: Apache-2.0
// The scans for AVX2. Library headers must come first, see target_avx2.h.
#include <algorithm>
#include <atomic>
#include <memory>

#include "scan_kernel.h"
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#if defined(__x86_64__)

#include "target_avx2.h"

#include "scan_impl.h"

#include "target_end.h"

#endif  // __x86_64__
