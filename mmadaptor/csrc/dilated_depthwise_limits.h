// SPDX-License-Identifier: Apache-2.0
// Limits of dilated_depthwise on all devices.
#pragma once

namespace mmadaptor {

constexpr int kMostDilations = 16;

}  // namespace mmadaptor
