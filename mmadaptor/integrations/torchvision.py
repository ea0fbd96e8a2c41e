# SPDX-License-Identifier: Apache-2.0
"""Backbones for the detectors of torchvision."""

from collections import OrderedDict
from collections.abc import Callable

from torch import Tensor, nn
from torchvision.models.detection import backbone_utils
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from mmadaptor.models.backbones.base import AdaptableBackbone


class BackboneWithFPN(backbone_utils.BackboneWithFPN):
    """A backbone and torchvision's feature pyramid, for Mask R-CNN, RetinaNet, etc.

    torchvision's own class runs the children of a backbone one after the other. This
    one calls it; the names of its parameters start with `body.`.

    Args:
        backbone: Returns maps; any `out_indices`.
        out_channels: Channels of each map of the pyramid.
        extra_blocks: Makes further maps. Default: torchvision's `LastLevelMaxPool`.
        norm_layer: Normalization after each convolution of the pyramid. Default: none.

    Raises:
        ValueError: The backbone returns class tokens.
    """

    def __init__(
        self,
        backbone: AdaptableBackbone,
        out_channels: int = 256,
        extra_blocks: ExtraFPNBlock | None = None,
        norm_layer: Callable[..., nn.Module] | None = None,
    ) -> None:
        if getattr(backbone, 'out_type', 'featmap') != 'featmap':
            raise ValueError(
                "`backbone` must return maps: Vim with out_type='featmap', got "
                f'out_type={backbone.out_type!r}'
            )
        channels = list(backbone.out_channels)
        super().__init__(
            nn.Sequential(), {}, channels, out_channels, extra_blocks, norm_layer
        )
        self.body = backbone

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        """Compute the pyramid.

        Args:
            x: Images `(B, in_channels, H, W)`.

        Returns:
            Maps of `out_channels` by name, the largest first: `'0'`, `'1'`, ..., and
            those of `extra_blocks`.
        """
        maps = enumerate(self.body(x))
        return self.fpn(OrderedDict((str(i), m) for i, m in maps))
