// SPDX-License-Identifier: Apache-2.0
// dilated_depthwise for any processor: 16-byte vectors, as in SSE2 and NEON.
#define MMADAPTOR_ISA baseline
#define MMADAPTOR_VECTOR_BYTES 16
#include "dilated_depthwise_impl.h"
