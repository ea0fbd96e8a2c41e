# SPDX-License-Identifier: Apache-2.0
"""What the models for timm have in common."""

import contextlib
from collections.abc import Sequence
from typing import Any

import torch
from timm.layers import ClassifierHead, get_device_dtype
from timm.models._features import FeatureGetterNet
from torch import Tensor, nn

from mmadaptor.models.arguments import check_integer
from mmadaptor.models.backbones.base import AdaptableBackbone
from mmadaptor.models.layers import VimBlock, VMambaBlock
from mmadaptor.models.published import as_ours

LAST = (99999,)  # timm's depth of what follows the blocks


class TimmModel(nn.Module):
    """A backbone and a classifier with the methods of timm's models.

    Parameters have the names of :class:`~mmadaptor.models.Classifier`.

    Args:
        kind: Class of the backbone.
        arch: Its architecture.
        num_classes: Number of classes. 0: the pooled features are returned.
        in_chans: Channels of the image.
        global_pool: Pooling before the classifier. `''`: none. Default:
            `default_pool`.
        drop_rate: Dropout before the classifier.
        device: Device of the parameters.
        dtype: Type of the parameters.
        arguments: Further arguments of the backbone.

    Raises:
        ValueError: An argument is wrong.
        TypeError: A keyword is unknown.
    """

    default_pool = 'avg'
    head_type: type[nn.Module] = ClassifierHead

    def __init__(
        self,
        kind: type[AdaptableBackbone],
        arch: str,
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str | None = None,
        drop_rate: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **arguments: Any,
    ) -> None:
        super().__init__()
        check_integer('num_classes', num_classes, 0)
        pool = self.default_pool if global_pool is None else global_pool
        with contextlib.nullcontext() if device is None else torch.device(device):
            self.backbone = kind(arch, in_channels=in_chans, init_cfg=None, **arguments)
            self.num_features = self.backbone.out_channels[-1]
            self.head = self.head_type(
                self.num_features, num_classes, pool_type=pool, drop_rate=drop_rate
            )
        if num_classes:
            nn.init.normal_(self.head.fc.weight, std=0.02)
            nn.init.zeros_(self.head.fc.bias)
        self.to(dtype=dtype)
        self.in_chans, self.num_classes = in_chans, num_classes
        self.global_pool, self.drop_rate = pool, drop_rate
        self.head_hidden_size = self.head.num_features

    @torch.jit.ignore
    def no_weight_decay(self) -> set[str]:
        """Return the names of parameters that are not decayed."""
        names = {
            f'{path}.{name}'.lstrip('.')
            for path, module in self.named_modules()
            for name in getattr(module, 'undecayed', ())
        }
        return names & {name for name, _ in self.named_parameters()}

    @torch.jit.ignore
    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Set whether blocks are recomputed in the backward pass to save memory."""
        for module in self.backbone.modules():
            if isinstance(module, VMambaBlock | VimBlock):
                module.with_cp = enable

    @torch.jit.ignore
    def get_classifier(self) -> nn.Module:
        """Return the last linear layer; an identity if there are no classes."""
        return self.head.fc

    def reset_classifier(
        self, num_classes: int, global_pool: str | None = None
    ) -> None:
        """Replace the classifier.

        Args:
            num_classes: Number of classes. 0: the pooled features are returned.
            global_pool: Default: unchanged.
        """
        check_integer('num_classes', num_classes, 0)
        self.head.reset(num_classes, pool_type=global_pool, **get_device_dtype(self))
        self.num_classes = num_classes
        self.head_hidden_size = self.head.num_features
        if global_pool is not None:
            self.global_pool = global_pool

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Classify the output of `forward_features`.

        Args:
            x: The features.
            pre_logits: Whether to leave out the last linear layer.

        Returns:
            Logits `(B, num_classes)`, or the pooled features.
        """
        return self.head(x, pre_logits=pre_logits)

    def forward(self, x: Tensor) -> Tensor:
        """Classify images `(B, in_chans, H, W)`.

        Returns:
            Logits `(B, num_classes)`.
        """
        return self.forward_head(self.forward_features(x))

    def load_state_dict(self, state_dict: dict, *args: Any, **kwargs: Any) -> Any:
        """Load a state dict as torch does; a published one is converted first."""
        state_dict = as_ours(state_dict, 'The state dict')
        return super().load_state_dict(state_dict, *args, **kwargs)


class FeatureGetter(FeatureGetterNet):
    """The model of `features_only=True`."""

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Set whether blocks are recomputed in the backward pass to save memory."""
        self.model.set_grad_checkpointing(enable)


def check_format(output_fmt: str, known: Sequence[str]) -> None:
    """Check `output_fmt`.

    Raises:
        ValueError: It is unknown.
    """
    if output_fmt not in known:
        raise ValueError(
            f'`output_fmt` must be one of {list(known)}, got {output_fmt!r}'
        )
