// SPDX-License-Identifier: Apache-2.0
// The one layout that the forward and the backward pass of a scan share on every
// device: the state before each chunk of kChunk steps is kept, (batch, chunks,
// states, channels), and the rest of a chunk is recomputed from it.
#pragma once

namespace mmadaptor {

constexpr int kChunk = 64;

}  // namespace mmadaptor
