// SPDX-License-Identifier: Apache-2.0
#include "scan_bwd.cuh"
#include "scan_fwd.cuh"

namespace mmadaptor::cuda {

template void launch_scan(const double*, const ScanView&, const ScanResults&, const ScanExtra&,
                          const Target&);
template void launch_scan_backward(const double*, const ScanView&, const ScanGradients&,
                                   const ScanExtra&, const Target&);

}  // namespace mmadaptor::cuda
