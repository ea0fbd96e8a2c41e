// SPDX-License-Identifier: Apache-2.0
// The scan for any processor: 16-byte vectors, as SSE2 and NEON have them.
#define MMADAPTOR_ISA baseline
#define MMADAPTOR_VECTOR_BYTES 16
#include "scan_impl.h"
