// SPDX-License-Identifier: Apache-2.0
// dilated_depthwise for AVX2 and later. Library headers must come first, see target_avx2.h.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>
#include <utility>
#include <vector>

#include "dilated_depthwise_kernel.h"
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#if defined(__x86_64__)

#include "target_avx2.h"

#include "dilated_depthwise_impl.h"

#include "target_end.h"

#endif  // __x86_64__
