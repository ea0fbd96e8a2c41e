// SPDX-License-Identifier: Apache-2.0
// What onnxruntime calls when it loads this library: adds our ops to a session.
#include "adaptors.h"
#include "scans.h"

namespace mmadaptor::onnxruntime {
namespace {

constexpr const char* kDomain = "mmadaptor";

// Made once; onnxruntime keeps pointers to it and to the ops.
Domain* new_domain(const Api& api) {
  static const Registered<SequenceScan<true>> selective_scan;
  static const Registered<SequenceScan<false>> selective_scan_states;
  static const Registered<CrossScan<true>> cross_selective_scan;
  static const Registered<CrossScan<false>> cross_selective_scan_states;
  static const Registered<CrossReadout> cross_readout;
  static const Registered<MemorySelectOp> memory_select;
  static const Registered<MemoryReadoutOp> memory_readout;
  static const Registered<DilatedDepthwiseOp> dilated_depthwise;
  Domain* domain = nullptr;
  check(api, api.create_domain(kDomain, &domain));
  const CustomOp* const ops[] = {
      &selective_scan, &selective_scan_states, &cross_selective_scan, &cross_selective_scan_states,
      &cross_readout,  &memory_select,         &memory_readout,       &dilated_depthwise};
  for (const CustomOp* op : ops) check(api, api.add(domain, op));
  return domain;
}

}  // namespace
}  // namespace mmadaptor::onnxruntime

extern "C" __attribute__((visibility("default"))) mmadaptor::onnxruntime::Status* RegisterCustomOps(
    mmadaptor::onnxruntime::SessionOptions* options, const mmadaptor::onnxruntime::ApiBase* base) {
  using namespace mmadaptor::onnxruntime;
  // An older onnxruntime returns null and writes why to its error output. The functions
  // that tell of errors are in every version.
  const auto table = base->api(kApiVersion);
  if (!table)
    return Api(base->api(1))
        .create_status(kInvalidArgument, "the ops of mmadaptor need onnxruntime 1.17 or later");
  const Api api(table);
  return caught(api, [&] {
    static Domain* const domain = new_domain(api);
    check(api, api.add(options, domain));
  });
}
