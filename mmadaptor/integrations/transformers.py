# SPDX-License-Identifier: Apache-2.0
"""The models in transformers: the config, and the names of the models.

Importing this module imports neither torch's models nor those of transformers, which
takes seconds: :mod:`.transformers_models` is imported with the first config.
"""

import difflib
import importlib
import inspect
import json
from collections.abc import Collection
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig
from transformers.backbone_utils import BackboneConfigMixin

if TYPE_CHECKING:
    from mmadaptor.models.backbones.base import AdaptableBackbone

MODELS = (
    'MambaAdaptorBackbone',
    'MambaAdaptorForImageClassification',
    'MambaAdaptorModel',
    'MambaAdaptorPreTrainedModel',
)
__all__ = ['MambaAdaptorConfig', *MODELS]


@strict
class MambaAdaptorConfig(BackboneConfigMixin, PreTrainedConfig):
    """The config of a backbone, or of a classifier with it.

    Stages are named `'stage1'`, `'stage2'`, ...: there are four, or of a Vim as many as
    blocks. Their indices count from 0, as `out_indices` in mmadaptor.

    Args:
        architecture: One of `mmadaptor.models.ARCHITECTURES`.
        num_channels: Channels of the image.
        image_size: Image size of a Vim's position embedding: a side or (height, width).
        drop_rate: Dropout before the classifier.
        drop_path_rate: Drop path rate of the last block.
        adaptors: The `adaptors` argument of the backbone.
        trainable: The `trainable` argument of the backbone.
        backbone_arguments: Further arguments of the backbone by name, such as
            `dict(scan_init='balanced')`.
        out_features: Names of the stages whose maps a backbone returns. Default: the
            last.
        out_indices: Their indices instead of their names.
        kwargs: Arguments of `PreTrainedConfig`, such as `num_labels` and `id2label`.

    Raises:
        ValueError: The architecture or a stage is unknown, an argument cannot be saved
            as JSON, or a keyword is an argument of the backbone or nearly one of these.
            Like transformers, it keeps other keywords as attributes: programs note
            theirs in a config. The model checks the values.
        StrictDataclassFieldValidationError: An argument has a wrong type.
    """

    model_type = 'mamba_adaptor'

    architecture: str = 'mamba_adaptor_b2'
    num_channels: int = 3
    image_size: int | list[int] | tuple[int, int] = 224
    drop_rate: float | int = 0.0
    drop_path_rate: float | int = 0.0
    adaptors: dict | None = None
    trainable: list[str] | tuple[str, ...] | None = None
    backbone_arguments: dict | None = None
    _out_features: list[str] | None = None
    _out_indices: list[int] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        register_models()
        features = kwargs.pop('out_features', None)
        indices = kwargs.pop('out_indices', None)
        _check_keywords(kwargs)
        for name in ('adaptors', 'backbone_arguments'):
            setattr(self, name, _as_json(name, getattr(self, name)))
        self.set_output_features_output_indices(features, indices)
        super().__post_init__(**kwargs)

    def set_output_features_output_indices(
        self, out_features: list[str] | None, out_indices: list[int] | None
    ) -> None:
        """Set the stages whose maps a backbone returns, by names or indices.

        Raises:
            ValueError: A stage is unknown, or the order is not theirs.
        """
        from mmadaptor.models.backbones.base import checked_indices

        if out_indices is not None:
            checked_indices(out_indices, len(self.stage_names), repeated=False)
        if out_features is not None and not out_features:
            raise ValueError(
                f'`out_features` must be one or more of {self.stage_names}, got '
                f'{out_features!r}'
            )
        super().set_output_features_output_indices(out_features, out_indices)

    @property
    def stage_names(self) -> list[str]:
        """Names of the stages."""
        return [f'stage{i + 1}' for i in range(len(self.hidden_sizes))]

    @property
    def hidden_sizes(self) -> list[int]:
        """Channels of each stage."""
        from mmadaptor.models.architectures import find_architecture

        kind, arch = find_architecture(self.architecture)
        settings = kind.arch_settings[arch]
        dims = settings['embed_dims']
        if 'depth' in settings:
            return [dims] * settings['depth']
        return [dims * 2**i for i in range(len(settings['depths']))]

    @property
    def hidden_size(self) -> int:
        """Channels of the last stage."""
        return self.hidden_sizes[-1]

    def build_backbone(self, **arguments: Any) -> 'AdaptableBackbone':
        """Create the backbone.

        Args:
            arguments: Further arguments, such as `out_indices`.

        Raises:
            ValueError: An argument is wrong.
            TypeError: One of `backbone_arguments` is unknown, or a field of the config.
                `init_cfg` is refused: weights come from a folder or `load_pretrained`.
        """
        from mmadaptor.models import Vim
        from mmadaptor.models.architectures import find_architecture

        kind, arch = find_architecture(self.architecture)
        if kind is Vim:
            size = self.image_size
            arguments['img_size'] = size if isinstance(size, int) else tuple(size)
        return kind(
            arch,
            in_channels=self.num_channels,
            drop_path_rate=self.drop_path_rate,
            adaptors=self.adaptors,
            trainable=self.trainable,
            init_cfg=None,
            **arguments,
            **(self.backbone_arguments or {}),
        )

    def __setstate__(self, state: dict) -> None:
        """Restore a pickled config, whose process may not know the models yet."""
        register_models()
        self.__dict__.update(state)


def _as_json(name: str, value: dict | None) -> dict | None:
    """Return an argument as it is after saving and loading; a range is a list then.

    Raises:
        ValueError: JSON cannot hold it.
    """
    try:
        return json.loads(json.dumps(value, default=list))
    except TypeError as error:
        raise ValueError(
            f'`{name}` must have numbers, strings, lists and dicts, so that the config '
            f'can be saved, got {value!r}'
        ) from error


def _check_keywords(keywords: Collection[str]) -> None:
    """Refuse keywords that are meant for the backbone or misspelled.

    Raises:
        ValueError: There is one.
    """
    from mmadaptor.models import MambaAdaptor, Vim, VMamba

    inherited = {field.name for field in fields(PreTrainedConfig)}
    own = [f.name for f in fields(MambaAdaptorConfig) if f.name not in inherited]
    own = [name.removeprefix('_') for name in own]
    arguments = {
        argument
        for kind in (MambaAdaptor, Vim, VMamba)
        for argument in inspect.signature(kind).parameters
    }
    for name in keywords:
        near = difflib.get_close_matches(name, own, 1, 0.75)
        if near or name in arguments:
            hint = f'{near[0]!r}' if near else f'backbone_arguments=dict({name}=...)'
            raise ValueError(
                f'MambaAdaptorConfig has no argument {name!r}: expected one of '
                f'{", ".join(own)} or of PreTrainedConfig; did you mean {hint}?'
            )


def register_models() -> None:
    """Register the models in `AutoModel`, `AutoBackbone` and the like."""
    importlib.import_module('mmadaptor.integrations.transformers_models')


def __getattr__(name: str) -> Any:
    """Import the models when they are used."""
    if name in MODELS:
        module = importlib.import_module('mmadaptor.integrations.transformers_models')
        return getattr(module, name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


AutoConfig.register(MambaAdaptorConfig.model_type, MambaAdaptorConfig, exist_ok=True)
