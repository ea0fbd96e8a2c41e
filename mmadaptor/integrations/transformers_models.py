# SPDX-License-Identifier: Apache-2.0
"""The models in transformers: a backbone, a classifier, and a model of features."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import (
    AutoBackbone,
    AutoModel,
    AutoModelForImageClassification,
    PreTrainedModel,
)
from transformers.backbone_utils import BackboneMixin
from transformers.modeling_outputs import (
    BackboneOutput,
    BaseModelOutputWithPoolingAndNoAttention,
    ImageClassifierOutputWithNoAttention,
)
from transformers.utils import can_return_tuple

from mmadaptor.models import Classifier, Vim, VMamba
from mmadaptor.models.backbones.vim import OUT_TYPES
from mmadaptor.models.classifier import pooled
from mmadaptor.models.layers import VimBlock, VMambaBlock

from .transformers import MambaAdaptorConfig


class MambaAdaptorPreTrainedModel(PreTrainedModel):
    """Common parts of the models: names, initialization, recomputation of blocks.

    The parameters are `backbone.` and `head.fc.` in every model, as in a classifier of
    mmadaptor and mmpretrain.

    Args:
        config: The config.
    """

    config: MambaAdaptorConfig
    main_input_name = 'pixel_values'
    input_modalities = ('image',)
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = False
    _no_split_modules = ('VMambaBlock', 'VimBlock')

    def post_init(self) -> None:
        """Finish the construction."""
        self._lacks_values = any(p.is_meta for p in self.parameters())
        # Loading replaces parameters by others, which all train.
        self._frozen = [n for n, p in self.named_parameters() if not p.requires_grad]
        self._tied_weights_keys = _shared_names(self)
        # Else Trainer warns that they are missing in the checkpoints that it loads.
        self._keys_to_ignore_on_save = set(self._tied_weights_keys or ())
        super().post_init()

    def _initialize_weights(
        self, module: nn.Module, is_custom_code: bool = False
    ) -> None:
        """Initialize what a checkpoint lacks; constructors initialize the rest.

        transformers calls this for each module after loading, and for the model last.
        """
        if module is not self or not self._lacks_values:
            return
        self._lacks_values = False
        for name in self._frozen:
            self.get_parameter(name).requires_grad_(False)
        missing = {
            name: value
            for name, value in self.state_dict(keep_vars=True).items()
            if not getattr(value, '_is_hf_initialized', False)
        }
        if not missing:
            return
        with torch.device('cpu'):
            initial = type(self)(self.config).state_dict()
        for name, value in missing.items():
            value.data.copy_(initial[name])

    @property
    def gradient_checkpointing(self) -> bool:
        """Whether blocks are recomputed in the backward pass."""
        return any(block.with_cp for block in self._blocks())

    @gradient_checkpointing.setter
    def gradient_checkpointing(self, enable: bool) -> None:
        """Set it for all blocks."""
        for block in self._blocks():
            block.with_cp = enable

    def _set_gradient_checkpointing(
        self,
        enable: bool = True,
        gradient_checkpointing_func: Any = checkpoint,
        every_n_layers: int = 1,
    ) -> None:
        """Recompute blocks in the backward pass, without reentry.

        Raises:
            ValueError: `every_n_layers` is not 1.
        """
        if every_n_layers != 1:
            raise ValueError(
                '`every_n_layers` must be 1, because every block is recomputed, got '
                f'{every_n_layers}'
            )
        self.gradient_checkpointing = enable

    def _blocks(self) -> list[nn.Module]:
        return [m for m in self.modules() if isinstance(m, VMambaBlock | VimBlock)]

    def get_input_embeddings(self) -> nn.Module:
        """Return the layer that embeds the image."""
        backbone = self.backbone
        if isinstance(backbone, Vim):
            return backbone.patch_embed.projection
        return backbone.downsample_layers[0]

    def _check_images(self, pixel_values: Tensor) -> None:
        """Check the shape of images.

        Raises:
            ValueError: It is not `(B, num_channels, H, W)`.
        """
        shape, channels = tuple(pixel_values.shape), self.config.num_channels
        if len(shape) != 4 or shape[1] != channels:
            raise ValueError(
                f'`pixel_values` must have the shape (B, {channels}, H, W), because '
                f'`num_channels` is {channels}, got {shape}'
            )

    def _run(
        self, pixel_values: Tensor, output_hidden_states: bool | None
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...] | None]:
        """Return the outputs of the backbone and, if asked for, the hidden states."""
        self._check_images(pixel_values)
        backbone = self.backbone
        if not self._wants_states(output_hidden_states):
            return backbone(pixel_values), None
        if not isinstance(backbone, Vim):
            return _maps_and_states(backbone, pixel_values)
        outputs, states = _parts_and_states(backbone, pixel_values, True)
        part = OUT_TYPES.index(backbone.out_type)
        return tuple(output[part] for output in outputs), states

    def _wants_states(self, output_hidden_states: bool | None) -> bool:
        if output_hidden_states is None:
            return self.config.output_hidden_states
        return output_hidden_states


class MambaAdaptorModel(MambaAdaptorPreTrainedModel):
    """The features of the last stage.

    Args:
        config: The config.
    """

    def __init__(self, config: MambaAdaptorConfig) -> None:
        super().__init__(config)
        self.backbone = config.build_backbone(out_indices=(-1,))
        self.post_init()

    @can_return_tuple
    def forward(
        self, pixel_values: Tensor, output_hidden_states: bool | None = None
    ) -> BaseModelOutputWithPoolingAndNoAttention:
        """Compute the features.

        Args:
            pixel_values: Images `(B, num_channels, H, W)`.
            output_hidden_states: Whether to return the output of each stage.

        Returns:
            `last_hidden_state`: the normalized map `(B, C, H', W')`, of a Vim that of
            its patches. `pooler_output`: its mean, of a Vim the class token, `(B, C)`.
            `hidden_states`: maps `(B, C_i, H_i, W_i)` before their norm, of a Vim
            sequences `(B, L, C)` with the class token in the middle.

        Raises:
            ValueError: The images have another shape.
        """
        if isinstance(self.backbone, Vim):
            self._check_images(pixel_values)
            ((features, last),), states = _parts_and_states(
                self.backbone, pixel_values, self._wants_states(output_hidden_states)
            )
        else:
            (last,), states = self._run(pixel_values, output_hidden_states)
            features = pooled(last)
        return BaseModelOutputWithPoolingAndNoAttention(
            last_hidden_state=last, pooler_output=features, hidden_states=states
        )


class MambaAdaptorForImageClassification(MambaAdaptorPreTrainedModel):
    """A classifier: the mean of the last map, or the class token, and a linear layer.

    Args:
        config: The config; `num_labels=0` gives the features.
    """

    def __init__(self, config: MambaAdaptorConfig) -> None:
        super().__init__(config)
        backbone = config.build_backbone(out_indices=(-1,))
        classifier = Classifier(backbone, config.num_labels, config.drop_rate)
        self.backbone, self.head = classifier.backbone, classifier.head
        self.post_init()

    load_pretrained = Classifier.load_pretrained

    @can_return_tuple
    def forward(
        self,
        pixel_values: Tensor,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
    ) -> ImageClassifierOutputWithNoAttention:
        """Classify images.

        Args:
            pixel_values: Images `(B, num_channels, H, W)`.
            labels: Classes `(B,)`, or as `config.problem_type` says. Default: no loss.
            output_hidden_states: Whether to return the output of each stage.

        Returns:
            `loss`, `logits` `(B, num_labels)`, and `hidden_states` as in
            :class:`MambaAdaptorModel`.

        Raises:
            ValueError: The images have another shape.
        """
        outputs, states = self._run(pixel_values, output_hidden_states)
        logits = self.head(pooled(outputs[-1]))
        loss = None
        if labels is not None:
            loss = self.loss_function(
                labels=labels, pooled_logits=logits, config=self.config
            )
        return ImageClassifierOutputWithNoAttention(
            loss=loss, logits=logits, hidden_states=states
        )


class MambaAdaptorBackbone(BackboneMixin, MambaAdaptorPreTrainedModel):
    """A backbone for models of transformers with a `backbone_config`.

    Stages behind the last of `out_features` are not run. A map of a Vim is that of its
    patches.

    Args:
        config: The config.
    """

    has_attentions = False

    def __init__(self, config: MambaAdaptorConfig) -> None:
        super().__init__(config)
        count = len(config.stage_names)
        chosen = dict(out_indices=[i % count for i in config.out_indices])
        if config.architecture.startswith('vim'):
            chosen['out_type'] = 'featmap'
        self.backbone = config.build_backbone(**chosen)
        self.num_features = config.hidden_sizes
        self.post_init()

    @can_return_tuple
    def forward(
        self, pixel_values: Tensor, output_hidden_states: bool | None = None
    ) -> BackboneOutput:
        """Compute the maps of `out_features`.

        Args:
            pixel_values: Images `(B, num_channels, H, W)`.
            output_hidden_states: Whether to return the output of each stage.

        Returns:
            `feature_maps` `(B, C_i, H_i, W_i)`, and `hidden_states` as in
            :class:`MambaAdaptorModel`, of the stages that are run.

        Raises:
            ValueError: The images have another shape.
        """
        maps, states = self._run(pixel_values, output_hidden_states)
        return BackboneOutput(feature_maps=maps, hidden_states=states)


# The states are computed here instead of recorded by hooks, because threads share hooks
# and torch.compile cannot trace their registration.


def _maps_and_states(
    backbone: VMamba, images: Tensor
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Return what the backbone does, and the maps `(B, C, H, W)` before their norms."""
    states = backbone.stage_maps(images, range(max(backbone.out_indices) + 1))
    maps = (getattr(backbone, f'norm{i}')(states[i]) for i in backbone.out_indices)
    return tuple(maps), tuple(state.permute(0, 3, 1, 2) for state in states.values())


def _parts_and_states(
    backbone: Vim, images: Tensor, keep_states: bool
) -> tuple[list[tuple[Tensor, Tensor]], tuple[Tensor, ...] | None]:
    """Compute the outputs of a Vim with both of their parts.

    Returns:
        The class token `(B, C)` and the map of patches `(B, C, H', W')` of each of
        `out_indices`; and if they are kept, the sequences `(B, L, C)` of the blocks.
    """
    blocks = range(max(backbone.out_indices) + 1) if keep_states else ()
    found, size = backbone.sequences(images, {*blocks, *backbone.out_indices})
    outputs = []
    for i in backbone.out_indices:
        class_token, patches = backbone.split(i, found[i])
        outputs.append((class_token, backbone.as_map(i, patches, size)))
    return outputs, tuple(found.values()) if keep_states else None


def _shared_names(model: nn.Module) -> dict[str, str] | None:
    """Return the further names of shared parameters, with the first of each."""
    first: dict[nn.Parameter, str] = {}
    shared = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if first.setdefault(parameter, name) != name:
            shared[name] = first[parameter]
    return shared or None


for _auto, _model in (
    (AutoModel, MambaAdaptorModel),
    (AutoModelForImageClassification, MambaAdaptorForImageClassification),
    (AutoBackbone, MambaAdaptorBackbone),
):
    _auto.register(MambaAdaptorConfig, _model, exist_ok=True)
