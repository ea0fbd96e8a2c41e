# SPDX-License-Identifier: Apache-2.0
"""What the backbones have in common: strict starts, tuning, deployment."""

from collections.abc import Callable, Collection, Mapping, Sequence

from mmengine.model import BaseModule

from mmadaptor.checkpoints.pretrained import is_pretrained
from mmadaptor.checkpoints.strict import load_backbone

from ..layers import AdaptorS
from ..tuning import keep_frozen_in_eval, share_adaptors, train_only


def checked_indices(
    out_indices: Sequence[int], there: range, repeated: bool = True
) -> tuple[int, ...]:
    """A backbone's `out_indices`.

    Args:
        out_indices: What was asked for.
        there: What may be asked for.
        repeated: Whether one may stand several times.

    Returns:
        The indices.

    Raises:
        ValueError: None, others, or one twice.
    """
    if (
        not isinstance(out_indices, Sequence)
        or not out_indices
        or not set(out_indices) <= set(there)
        or (not repeated and len(set(out_indices)) < len(out_indices))
    ):
        once = '' if repeated else ', each once'
        raise ValueError(
            f'`out_indices` must be some of {there[0]} to '
            f'{there[-1]}{once}, got {out_indices}'
        )
    return tuple(out_indices)


class AdaptableBackbone(BaseModule):
    """A backbone whose blocks may carry adaptors.

    A subclass builds its layers and then calls `apply_tuning`.

    Args:
        drop_path_rate: Probability of dropping the last block's branches.
        trainable: What trains: None for everything, or a list of
            `'adaptors'`, `'norms'` and `'biases'`, and the rest is frozen and
            stays in evaluation mode; an empty list is a linear probe.
        init_cfg: mmengine's initialisation config. `Pretrained` is strict.
    """

    optional_keys: Sequence[str] = ()
    """Patterns of what a pretrained file may lack."""
    surplus_keys: Sequence[str] = ()
    """Patterns of what it may have beside what the backbone has."""
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
                '`drop_path_rate` must be 0 or more and less than '
                f'1, got {drop_path_rate}'
            )
        self.trainable = trainable

    def _settings(self, arch: str | dict, keys: Collection[str]) -> dict:
        """The settings of an architecture by name, or of a complete dict."""
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
        if self.frozen_stages not in range(-1, most + 1):
            raise ValueError(
                f'`frozen_stages` must be -1 to {most}, got {self.frozen_stages}'
            )

    def apply_tuning(self, adaptors: dict | None) -> None:
        """Share adaptors where that is asked for, and freeze what is frozen.

        Args:
            adaptors: The backbone's argument of that name.

        Raises:
            ValueError: For what is not there to be shared or trained.
        """
        share_adaptors(self, (adaptors or {}).get('share', False))
        if self.trainable is not None:
            train_only(self, self.trainable)
        self._freeze_stages()
        if self.trainable and not any(p.requires_grad for p in self.parameters()):
            raise ValueError(
                f'`trainable` asks for {list(self.trainable)}, of which '
                '`frozen_stages` and `out_indices` leave nothing to train'
            )

    def _freeze_stages(self) -> None:
        """Fix the parameters that `frozen_stages` names."""
        raise NotImplementedError

    def train(self, mode: bool = True) -> 'AdaptableBackbone':
        """Set the training mode; what is frozen stays in evaluation mode.

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
        """Load the pretrained file if `init_cfg` names one, strictly.

        Without one, parameters keep what they were constructed with.
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
        for module in self.modules():
            if isinstance(module, AdaptorS):
                change(module)

    def switch_to_deploy(self) -> None:
        """Merge each Adaptor-S's kernels for inference; see there."""
        self._of_adaptor_s(AdaptorS.switch_to_deploy)

    def switch_to_train(self) -> None:
        """Undo `switch_to_deploy`."""
        self._of_adaptor_s(AdaptorS.switch_to_train)
