# SPDX-License-Identifier: Apache-2.0
"""The compiled ops. They need only torch.

Every op has first derivatives in reverse mode from its compiled kernel. Second and
higher derivatives, and forward mode (`torch.func.jvp`, `torch.autograd.forward_ad`),
are computed by its definition in plain torch, which is slow: a loop over the steps of
a scan. See docs/derivatives.md for what else of torch works through the ops.
"""

from . import flops  # noqa: F401
from .cross_selective_scan import (
    cross_readout,
    cross_selective_scan,
    cross_selective_scan_states,
)
from .dilated_depthwise import dilated_depthwise
from .memory_readout import memory_readout
from .memory_select import memory_select
from .selective_scan import selective_scan, selective_scan_states

__all__ = [
    'cross_readout',
    'cross_selective_scan',
    'cross_selective_scan_states',
    'dilated_depthwise',
    'memory_readout',
    'memory_select',
    'selective_scan',
    'selective_scan_states',
]
