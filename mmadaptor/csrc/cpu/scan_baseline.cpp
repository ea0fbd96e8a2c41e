// SPDX-License-Identifier: Apache-2.0
// The scans for any processor: 16-byte vectors, as in SSE2 and NEON.
#define MMADAPTOR_ISA baseline
#define MMADAPTOR_VECTOR_BYTES 16
#include "scan_impl.h"
