# SPDX-License-Identifier: Apache-2.0
"""VMamba without its scans, as a purely convolutional baseline."""

from typing import Any

from torch import Tensor

from mmadaptor.models import VMamba
from mmadaptor.models.layers import SS2D
from mmadaptor.registry import MODELS


def _unscanned(x: Tensor) -> Tensor:
    return x


@MODELS.register_module()
class ConvolutionalVMamba(VMamba):
    """VMamba with every scan replaced by the identity.

    Args:
        args: Positional arguments of `VMamba`.
        kwargs: Keyword arguments of `VMamba`.

    Raises:
        ValueError: If there is an Adaptor-T, which needs the states of a scan.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for module in self.modules():
            if isinstance(module, SS2D):
                if module.temporal is not None:
                    raise ValueError(
                        '`adaptors`: expected no `temporal`, which '
                        'needs the states of a scan; '
                        'ConvolutionalVMamba has no scans'
                    )
                module.scan = _unscanned
                for name in ('x_proj', 'dt_weight', 'dt_bias', 'A_log', 'D'):
                    delattr(module, name)
