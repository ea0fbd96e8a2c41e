// SPDX-License-Identifier: Apache-2.0
// What we need of the C API of onnxruntime: no package index has its headers. Its binary
// interface does not change: new functions are added at the end of the table of functions,
// and new members at the end of a custom op, which are read if its version says so.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mmadaptor::onnxruntime {

struct Status;
struct Value;
struct TensorInfo;
struct KernelInfo;
struct KernelContext;
struct SessionOptions;
struct Domain;
struct CustomOp;

constexpr int kFloat = 1;            // ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT
constexpr int kInvalidArgument = 2;  // ORT_INVALID_ARGUMENT
constexpr int kRequired = 0, kOptional = 1;
// Of onnxruntime 1.17, the first with KernelContext_ParallelFor.
constexpr uint32_t kApiVersion = 17;
// Of onnxruntime 1.16: without the members that come after `compute`.
constexpr uint32_t kCustomOpVersion = 16;

// OrtApi. Each function is named by its place in the table.
class Api {
 public:
  using Table = const void* const*;
  explicit Api(Table table = nullptr) : table_(table) {}

  Status* create_status(int code, const char* message) const {
    return function<Status*(int, const char*)>(0)(code, message);
  }
  void release(Status* status) const { function<void(Status*)>(93)(status); }
  const char* message(const Status* status) const {
    return function<const char*(const Status*)>(2)(status);
  }

  Status* create_domain(const char* name, Domain** domain) const {
    return function<Status*(const char*, Domain**)>(26)(name, domain);
  }
  Status* add(Domain* domain, const CustomOp* op) const {
    return function<Status*(Domain*, const CustomOp*)>(27)(domain, op);
  }
  Status* add(SessionOptions* options, Domain* domain) const {
    return function<Status*(SessionOptions*, Domain*)>(28)(options, domain);
  }

  Status* data(Value* value, void** data) const {
    return function<Status*(Value*, void**)>(51)(value, data);
  }
  Status* dimension_count(const TensorInfo* info, size_t* count) const {
    return function<Status*(const TensorInfo*, size_t*)>(61)(info, count);
  }
  Status* dimensions(const TensorInfo* info, int64_t* sizes, size_t count) const {
    return function<Status*(const TensorInfo*, int64_t*, size_t)>(62)(info, sizes, count);
  }
  Status* info(const Value* value, TensorInfo** info) const {
    return function<Status*(const Value*, TensorInfo**)>(65)(value, info);
  }
  void release(TensorInfo* info) const { function<void(TensorInfo*)>(99)(info); }

  Status* attribute(const KernelInfo* info, const char* name, int64_t* value) const {
    return function<Status*(const KernelInfo*, const char*, int64_t*)>(86)(info, name, value);
  }
  // Without values it gives the size.
  Status* attribute(const KernelInfo* info, const char* name, float* values, size_t* size) const {
    return function<Status*(const KernelInfo*, const char*, float*, size_t*)>(162)(info, name,
                                                                                   values, size);
  }
  Status* attribute(const KernelInfo* info, const char* name, int64_t* values, size_t* size) const {
    return function<Status*(const KernelInfo*, const char*, int64_t*, size_t*)>(163)(info, name,
                                                                                     values, size);
  }

  Status* input_count(const KernelContext* context, size_t* count) const {
    return function<Status*(const KernelContext*, size_t*)>(88)(context, count);
  }
  Status* output_count(const KernelContext* context, size_t* count) const {
    return function<Status*(const KernelContext*, size_t*)>(89)(context, count);
  }
  Status* input(const KernelContext* context, size_t index, const Value** value) const {
    return function<Status*(const KernelContext*, size_t, const Value**)>(90)(context, index,
                                                                              value);
  }
  Status* output(KernelContext* context, size_t index, const int64_t* sizes, size_t count,
                 Value** value) const {
    return function<Status*(KernelContext*, size_t, const int64_t*, size_t, Value**)>(91)(
        context, index, sizes, count, value);
  }
  // Calls `call(argument, i)` for i = 0 .. total-1 on the threads of the session.
  Status* parallel_for(const KernelContext* context, void (*call)(void*, size_t), size_t total,
                       size_t batches, void* argument) const {
    return function<Status*(const KernelContext*, void (*)(void*, size_t), size_t, size_t, void*)>(
        274)(context, call, total, batches, argument);
  }

 private:
  template <typename Signature>
  Signature* function(size_t place) const {
    return reinterpret_cast<Signature*>(const_cast<void*>(table_[place]));
  }

  Table table_;
};

// OrtApiBase.
struct ApiBase {
  Api::Table (*api)(uint32_t version);
  const char* (*version)();
};

// OrtCustomOp. Members that are null are not called.
struct CustomOp {
  uint32_t version;
  void* (*create_v1)(const CustomOp*, Api::Table, const KernelInfo*);
  const char* (*name)(const CustomOp*);
  const char* (*provider)(const CustomOp*);  // null: the CPU
  int (*input_type)(const CustomOp*, size_t);
  size_t (*inputs)(const CustomOp*);
  int (*output_type)(const CustomOp*, size_t);
  size_t (*outputs)(const CustomOp*);
  void (*compute_v1)(void*, KernelContext*);
  void (*destroy)(void*);
  int (*input_kind)(const CustomOp*, size_t);
  int (*output_kind)(const CustomOp*, size_t);
  int (*input_memory)(const CustomOp*, size_t);
  int (*least_variadic_inputs)(const CustomOp*);
  int (*homogeneous_variadic_inputs)(const CustomOp*);
  int (*least_variadic_outputs)(const CustomOp*);
  int (*homogeneous_variadic_outputs)(const CustomOp*);
  Status* (*create)(const CustomOp*, Api::Table, const KernelInfo*, void** kernel);
  Status* (*compute)(void* kernel, KernelContext*);
  void* later[8];
};

}  // namespace mmadaptor::onnxruntime
