// SPDX-License-Identifier: Apache-2.0
// What one call of dilated_depthwise may have on any device.
#pragma once

namespace mmadaptor {

constexpr int kMostDilations = 16;

}  // namespace mmadaptor
