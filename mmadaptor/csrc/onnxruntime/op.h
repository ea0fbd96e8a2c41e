// SPDX-License-Identifier: Apache-2.0
// Custom ops of onnxruntime: arguments, results, and an adapter from an op's class.
#pragma once

#include <algorithm>
#include <atomic>
#include <exception>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "../require.h"
#include "api.h"

namespace mmadaptor::onnxruntime {

using Sizes = std::vector<int64_t>;

// Throws what a function of onnxruntime says.
inline void check(const Api& api, Status* status) {
  if (!status) return;
  const std::string message = api.message(status);
  api.release(status);
  throw std::runtime_error(message);
}

// A contiguous float tensor; without data if the argument is omitted.
struct Array {
  const float* data = nullptr;
  Sizes sizes;

  explicit operator bool() const { return data != nullptr; }
  int64_t size(size_t dim) const { return sizes[dim]; }
};

// The attributes of a node.
class Attributes {
 public:
  Attributes(const Api& api, const KernelInfo* info) : api_(api), info_(info) {}

  int64_t integer(const char* name) const {
    int64_t value = 0;
    check(api_, api_.attribute(info_, name, &value));
    return value;
  }
  template <typename T>
  std::vector<T> list(const char* name) const {
    size_t size = 0;
    check(api_, api_.attribute(info_, name, static_cast<T*>(nullptr), &size));
    std::vector<T> values(size);
    check(api_, api_.attribute(info_, name, values.data(), &size));
    return values;
  }

 private:
  const Api& api_;
  const KernelInfo* info_;
};

// The arguments and results of one call of an op.
class Call {
 public:
  Call(const Api& api, const char* op, KernelContext* context)
      : api_(api), op_(op), context_(context) {
    check(api_, api_.input_count(context_, &inputs_));
    check(api_, api_.output_count(context_, &outputs_));
  }

  // Argument `index`, which has the given rank, and no empty dimension but the batch.
  Array rank(size_t index, const char* name, size_t expected) const {
    const Array found = required(index, name);
    require(found.sizes.size() == expected, op_, ": `", name, "` must have ", expected,
            " dimensions, got ", text(found.sizes));
    require(std::count(found.sizes.begin() + 1, found.sizes.end(), 0) == 0, op_, ": `", name,
            "` must not be empty, got ", text(found.sizes));
    return found;
  }
  Array shape(size_t index, const char* name, const Sizes& expected) const {
    return checked(required(index, name), name, expected);
  }
  Array optional(size_t index, const char* name, const Sizes& expected) const {
    const Array found = input(index);
    return found ? checked(found, name, expected) : found;
  }
  Array required(size_t index, const char* name) const {
    const Array found = input(index);
    require(bool(found), op_, ": `", name, "` is missing");
    return found;
  }
  const char* op() const { return op_; }
  size_t outputs() const { return outputs_; }

  // Null if it is omitted.
  float* output(size_t index, const Sizes& sizes) const {
    Value* value = nullptr;
    check(api_, api_.output(context_, index, sizes.data(), sizes.size(), &value));
    if (!value) return nullptr;
    void* data = nullptr;
    check(api_, api_.data(value, &data));
    return static_cast<float*>(data);
  }

  // Calls `work(begin, end)` with parts of 0 .. tasks-1 on the threads of the session, which
  // exceptions must not leave: the first is thrown after all parts have ended.
  template <typename Work>
  void parallel(int64_t tasks, const Work& work) const {
    struct Parts {
      const Work& work;
      int64_t tasks, count;
      std::atomic<bool> failed{false};
      std::exception_ptr error{};
    } parts{work, tasks, std::min<int64_t>(tasks, 4 * processors())};
    const auto part = [](void* argument, size_t i) {
      auto& parts = *static_cast<Parts*>(argument);
      const auto first = static_cast<int64_t>(i);
      try {
        parts.work(first * parts.tasks / parts.count, (first + 1) * parts.tasks / parts.count);
      } catch (...) {
        if (!parts.failed.exchange(true)) parts.error = std::current_exception();
      }
    };
    if (parts.count == 0) return;
    check(api_, api_.parallel_for(context_, part, parts.count, 0, &parts));
    if (parts.error) std::rethrow_exception(parts.error);
  }

  // An upper bound of the threads of the session, which are not known.
  static int64_t processors() {
    static const int64_t count = std::max(1u, std::thread::hardware_concurrency());
    return count;
  }

 private:
  Array input(size_t index) const {
    if (index >= inputs_) return {};
    const Value* value = nullptr;
    check(api_, api_.input(context_, index, &value));
    if (!value) return {};
    TensorInfo* info = nullptr;
    check(api_, api_.info(value, &info));
    size_t rank = 0;
    Status* status = api_.dimension_count(info, &rank);
    Sizes sizes(status ? 0 : rank);
    if (!status) status = api_.dimensions(info, sizes.data(), rank);
    api_.release(info);
    check(api_, status);
    void* data = nullptr;
    check(api_, api_.data(const_cast<Value*>(value), &data));
    static const float empty = 0;  // the data of an empty tensor may be null
    return {data ? static_cast<const float*>(data) : &empty, sizes};
  }

  Array checked(const Array& found, const char* name, const Sizes& expected) const {
    require(found.sizes == expected, op_, ": `", name, "` must have shape ", text(expected),
            ", got ", text(found.sizes));
    return found;
  }

  const Api& api_;
  const char* op_;
  KernelContext* context_;
  size_t inputs_ = 0, outputs_ = 0;
};

// Returns what `work` throws as a status.
template <typename Work>
Status* caught(const Api& api, const Work& work) {
  try {
    work();
    return nullptr;
  } catch (const std::exception& error) {
    return api.create_status(kInvalidArgument, error.what());
  }
}

// A custom op of a class with `kName`, the counts of its arguments and results (the optional
// ones are the last), a constructor from the attributes, and `operator()(const Call&)`.
template <typename Op>
struct Registered : CustomOp {
  struct Kernel {
    Api api;
    Op op;
  };

  Registered() : CustomOp{} {
    version = kCustomOpVersion;
    name = [](const CustomOp*) { return Op::kName; };
    provider = [](const CustomOp*) -> const char* { return nullptr; };
    input_type = output_type = [](const CustomOp*, size_t) { return kFloat; };
    inputs = [](const CustomOp*) -> size_t { return Op::kInputs; };
    outputs = [](const CustomOp*) -> size_t { return Op::kOutputs; };
    input_kind = [](const CustomOp*, size_t i) {
      return i < Op::kRequiredInputs ? kRequired : kOptional;
    };
    output_kind = [](const CustomOp*, size_t i) { return i == 0 ? kRequired : kOptional; };
    input_memory = [](const CustomOp*, size_t) { return 0; };
    create = [](const CustomOp*, Api::Table table, const KernelInfo* info, void** kernel) {
      const Api api(table);
      return caught(api, [&] { *kernel = new Kernel{api, Op(Attributes(api, info))}; });
    };
    compute = [](void* kernel, KernelContext* context) {
      const auto& [api, op] = *static_cast<Kernel*>(kernel);
      return caught(api, [&, &api = api, &op = op] { op(Call(api, Op::kName, context)); });
    };
    destroy = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
  }
};

}  // namespace mmadaptor::onnxruntime
