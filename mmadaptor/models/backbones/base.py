# SPDX-License-Identifier: Apache-2.0
"""Common parts of the backbones: strict initialization, tuning, deployment."""

from collections.abc import Callable, Collection, Mapping, Sequence

from mmengine.model import BaseModule

from mmadaptor.checkpoints.pretrained import is_pretrained
from mmadaptor.checkpoints.strict import load_backbone

from ..layers import AdaptorS
from ..tuning import keep_frozen_in_eval, share_adaptors, train_only


def checked_indices(
    out_indices: Sequence[int], there: range, repeated: bool = True
) -> tuple[int, ...]:
    """Return the `out_indices` of a backbone as a tuple.

    Raises:
        ValueError: They are empty, not in `there`, or repeated without `repeated`.
    """
    if (
        not isinstance(out_indices, Sequence)
        or not out_indices
        or not set(out_indices) <= set(there)
        or (not repeated and len(set(out_indices)) < len(out_indices))
    ):
        once = '' if repeated else 'different '
        raise ValueError(
            f'`out_indices` must be one or more {once}indices from {there[0]} to '
            f'{there[-1]}, got {out_indices}'
        )
    return tuple(out_indices)


class AdaptableBackbone(BaseModule):
    """A backbone whose blocks may have adaptors.

    A subclass builds its layers and calls `apply_tuning` at the end.

    Args:
        drop_path_rate: Drop path rate of the last block.
        trainable: None: everything trains. A list of `'adaptors'`, `'norms'` and
            `'biases'`: only these train, and the rest is frozen in evaluation mode.
            An empty list is a linear probe.
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
        drop_path_rate: float,
        trainable: Sequence[str] | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if not 0 <= drop_path_rate < 1:
            raise ValueError(
                '`drop_path_rate` must be 0 or more and less than 1, '
                f'got {drop_path_rate}'
            )
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
        for key, value in arch.items():
            if isinstance(value, int | float) and value <= 0:
                raise ValueError(f'`{key}` of `arch` must be positive, got {value}')
        return arch

    def _check_frozen_stages(self, most: int) -> None:
        """Check that `frozen_stages` is from -1 to `most`."""
        if self.frozen_stages not in range(-1, most + 1):
            raise ValueError(
                f'`frozen_stages` must be an integer from -1 to {most}, '
                f'got {self.frozen_stages}'
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

    def init_weights(self) -> None:
        """Load the pretrained file of `init_cfg`, strictly.

        Without a file, parameters keep the values from construction.
        """
        if self.is_init:
            return
        configs = self.init_cfg or []
        configs = [configs] if isinstance(configs, dict) else configs
        pretrained = [c for c in configs if is_pretrained(c)]
        self.init_cfg = [c for c in configs if not is_pretrained(c)]
        super().init_weights()
        self.init_cfg = configs
        for config in pretrained:
            load_backbone(self, config, self.optional_keys, self.surplus_keys)

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
