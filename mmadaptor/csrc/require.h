// SPDX-License-Identifier: Apache-2.0
// Refusal of arguments with a message, with and without torch.
#pragma once

#include <cstdint>
#include <sstream>
#include <stdexcept>
#include <vector>

namespace mmadaptor {

template <typename... Text>
void require(bool holds, const Text&... text) {
  if (holds) return;
  std::ostringstream message;
  (message << ... << text);
  throw std::runtime_error(message.str());
}

// Sizes as they are written in a message; the text is made only if there is one.
struct Listed {
  const std::vector<int64_t>& sizes;
};

inline Listed text(const std::vector<int64_t>& sizes) { return {sizes}; }

inline std::ostream& operator<<(std::ostream& out, const Listed& list) {
  out << "[";
  for (size_t i = 0; i < list.sizes.size(); ++i) out << (i ? ", " : "") << list.sizes[i];
  return out << "]";
}

}  // namespace mmadaptor
