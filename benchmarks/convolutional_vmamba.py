# SPDX-License-Identifier: Apache-2.0
"""VMamba without its scan: what its convolutions alone give."""

from typing import Any

from torch import Tensor

from mmadaptor.models import VMamba
from mmadaptor.models.layers import SS2D
from mmadaptor.registry import MODELS


def _unscanned(x: Tensor) -> Tensor:
    return x


@MODELS.register_module()
class ConvolutionalVMamba(VMamba):
    """The same network with the identity in place of every scan.

    Args:
        args: As VMamba's.
        kwargs: As VMamba's.

    Raises:
        ValueError: For an Adaptor-T, which needs a scan's states.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for module in self.modules():
            if isinstance(module, SS2D):
                if module.temporal is not None:
                    raise ValueError(
                        '`temporal` of `adaptors` needs the '
                        'states of a scan, which this backbone '
                        'does not have'
                    )
                module.scan = _unscanned
                for name in ('x_proj', 'dt_weight', 'dt_bias', 'A_log', 'D'):
                    delattr(module, name)
