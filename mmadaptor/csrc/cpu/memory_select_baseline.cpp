// SPDX-License-Identifier: Apache-2.0
// memory_select and memory_readout for any processor: 16-byte vectors, as in SSE2 and NEON.
#define MMADAPTOR_ISA baseline
#define MMADAPTOR_VECTOR_BYTES 16
#include "memory_readout_impl.h"
