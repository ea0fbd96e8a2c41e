// SPDX-License-Identifier: Apache-2.0
// The checkpoints, the layout that the forward and backward passes of a scan share on all
// devices: the forward pass saves the state before each chunk of kChunk steps, (batch,
// chunks, states, channels), and the backward pass recomputes the chunk from it.
#pragma once

namespace mmadaptor {

constexpr int kChunk = 64;

}  // namespace mmadaptor
