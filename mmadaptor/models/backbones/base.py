# SPDX-License-Identifier: Apache-2.0
"""Common parts of the backbones: strict initialization, tuning, deployment."""

from collections.abc import Callable, Collection, Mapping, Sequence

import torch
from torch import Tensor

from mmadaptor.checkpoints.strict import load_backbone

from ..arguments import check_flag, check_integer, check_number, is_integer
from ..init_cfg import InitializedModule
from ..layers import AdaptorS
from ..tuning import keep_frozen_in_eval, share_adaptors, train_only


def checked_indices(
    out_indices: int | Sequence[int], count: int, repeated: bool = True
) -> tuple[int, ...]:
    """Return the `out_indices` of a backbone as a tuple, counted from the start.

    Raises:
        ValueError: They are empty, out of range, or repeated without `repeated`.
    """
    indices = [out_indices] if is_integer(out_indices) else out_indices
    there = range(-count, count)
    valid = isinstance(indices, Sequence) and all(
        is_integer(i) and i in there for i in indices
    )
    found = tuple(i % count for i in indices) if valid else ()
    if not found or (not repeated and len(set(found)) < len(found)):
        once = '' if repeated else 'different '
        raise ValueError(
            f'`out_indices` must be one or more {once}indices from {there[0]} to '
            f'{there[-1]}, got {out_indices!r}'
        )
    return found


class AdaptableBackbone(InitializedModule):
    """A backbone whose blocks may have adaptors.

    A subclass builds its layers and calls `apply_tuning` at the end.

    Args:
        in_channels: Channels of the image.
        drop_path_rate: Drop path rate of the last block.
        with_cp: Whether to recompute blocks in the backward pass to save memory.
        trainable: None: everything trains. A list of `'adaptors'`, `'norms'`,
            `'biases'` and regular expressions for names of parameters: only these
            train, and the rest is frozen in evaluation mode. Drop path stays on in
            blocks that train more than adaptors. An empty list is a linear probe.
        init_cfg: mmengine's initialization config. `Pretrained` is strict.
    """

    optional_keys: Sequence[str] = ()
    """Patterns of names that a pretrained file may lack."""
    surplus_keys: Sequence[str] = ()
    """Patterns of names that only the file may have."""
    arch_settings: Mapping[str, dict] = {}
    """Architectures by name."""

    def __init__(
        self,
        in_channels: int,
        drop_path_rate: float,
        with_cp: bool,
        trainable: Sequence[str] | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        check_integer('in_channels', in_channels)
        self.in_channels = in_channels
        check_number(
            'drop_path_rate',
            drop_path_rate,
            '0 or more and less than 1',
            lambda rate: 0 <= rate < 1,
        )
        check_flag('with_cp', with_cp)
        self.trainable = trainable

    def _settings(self, arch: str | dict, keys: Collection[str]) -> dict:
        """Return the settings of an architecture, given by name or as a dict."""
        if isinstance(arch, str):
            if arch not in self.arch_settings:
                raise ValueError(
                    f'`arch` of {type(self).__name__} must be one of '
                    f'{list(self.arch_settings)} or a dict, got {arch!r}'
                )
            return self.arch_settings[arch]
        if not isinstance(arch, dict) or set(arch) != set(keys):
            got = sorted(arch) if isinstance(arch, dict) else repr(arch)
            raise ValueError(
                f'`arch` as a dict must have the keys {sorted(keys)}, got {got}'
            )
        return arch

    def _check_images(self, images: Tensor) -> None:
        """Refuse what is not a batch of images."""
        empty = not torch.jit.is_tracing() and 0 in images.shape[2:]
        if images.dim() != 4 or empty:
            raise ValueError(
                f'`images` of {type(self).__name__} must be a batch (B, C, H, W) with '
                f'H and W of 1 or more, got shape {list(images.shape)}'
            )

    def _check_mask(self, mask: Tensor | None) -> None:
        """Refuse a mask.

        Masked image modeling passes one, and None where it only extracts features.
        """
        if mask is not None:
            raise ValueError(
                f'`mask` of {type(self).__name__} must be None, because the backbone '
                'has no token for masked patches, which SimMIM, MaskFeat and BEiT '
                f'train: use another pretraining, got a {type(mask).__name__}'
            )

    def apply_tuning(self, adaptors: dict | None) -> None:
        """Share adaptors and freeze parameters as the arguments say.

        Args:
            adaptors: The `adaptors` argument of the backbone.

        Raises:
            ValueError: There is nothing to share or to train.
        """
        share_adaptors(self, (adaptors or {}).get('share', False))
        if self.trainable is not None:
            train_only(self, self.trainable)
        self._freeze_stages()
        if self.trainable and not any(p.requires_grad for p in self.parameters()):
            raise ValueError(
                f'`trainable` is {list(self.trainable)}, but `frozen_stages` and '
                '`out_indices` freeze all of these parameters'
            )

    def _freeze_stages(self) -> None:
        """Freeze the parameters that `frozen_stages` names."""
        raise NotImplementedError

    def train(self, mode: bool = True) -> 'AdaptableBackbone':
        """Set the training mode; frozen modules stay in evaluation mode.

        Args:
            mode: Whether to train.

        Returns:
            The backbone.
        """
        super().train(mode)
        if self.trainable is not None:
            keep_frozen_in_eval(self)
        self._freeze_stages()
        return self

    def load_pretrained(self, config: dict) -> None:
        """Load the pretrained file of `init_cfg`, strictly.

        Args:
            config: `checkpoint`, a path or URL; `prefix` and `map_location` as in
                mmengine. Files of published VMamba and Vim, and of whole models, are
                recognized by their names.

        Raises:
            InputError: The file is missing, damaged, or of another model.
        """
        from ..published import as_ours  # which names the backbones

        load_backbone(self, config, self.optional_keys, self.surplus_keys, as_ours)

    def _of_adaptor_s(self, change: Callable[[AdaptorS], None]) -> None:
        """Apply `change` to every :class:`AdaptorS`."""
        for module in self.modules():
            if isinstance(module, AdaptorS):
                change(module)

    def switch_to_deploy(self) -> None:
        """Merge the kernels of each Adaptor-S for inference.

        See :meth:`AdaptorS.switch_to_deploy <mmadaptor.models.layers.AdaptorS>`.
        """
        self._of_adaptor_s(AdaptorS.switch_to_deploy)

    def switch_to_train(self) -> None:
        """Undo `switch_to_deploy`."""
        self._of_adaptor_s(AdaptorS.switch_to_train)
