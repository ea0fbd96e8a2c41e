# SPDX-License-Identifier: Apache-2.0
"""Parameters and multiply-adds of a model of any toolbox, without computing.

Counted are matrix products, convolutions, the scan (9 N + 1 a step) and
Adaptor-T's gather and readout; a two-stage detector counts 1000 box RoIs and
100 mask RoIs. The model is moved to torch's `meta` device, which knows shapes
and no values, so a count takes a second at any size.
"""

from collections.abc import Sequence

import torch
from mmengine.config import Config
from mmengine.structures import InstanceData
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mmadaptor.errors import InputError

SIZES = dict(mmdet=(800, 1280), mmseg=(512, 2048), mmpretrain=(224, 224))
EMBEDDED_SIZE = (128, 128)
ROIS = 1000
OURS = (
    'selective_scan',
    'memory_select',
    'memory_readout',
    'cross_readout',
    'dilated_depthwise',
)


class _Regions(nn.Module):
    """Stands for a RoI extractor, whose op has no `meta` kernel.

    Args:
        extractor: The extractor, of mmdet.
    """

    def __init__(self, extractor: nn.Module) -> None:
        super().__init__()
        self.num_inputs = extractor.num_inputs
        self.shape = (extractor.out_channels, *extractor.roi_layers[0].output_size)

    def forward(self, maps: Sequence[Tensor], rois: Tensor) -> Tensor:
        """The shape of what the extractor returns.

        Args:
            maps: The neck's maps.
            rois: `(n, 5)`.

        Returns:
            Zeros `(n, C, h, w)`.
        """
        return rois.new_zeros(len(rois), *self.shape)


def input_size(cfg: Config) -> tuple[int, int]:
    """The image size that a config's toolbox is counted at.

    Args:
        cfg: The config.

    Returns:
        Height and width: by convention 800 x 1280 for detection, 512 x 2048
        for segmentation, 224 x 224 for classification; of a config on the
        embedded dataset the size of its pictures.

    Raises:
        InputError: The config's `default_scope` is none of the three.
    """
    if cfg.get('embedded_dataset'):
        return EMBEDDED_SIZE
    scope = cfg.get('default_scope')
    if scope not in SIZES:
        raise InputError(
            f'{cfg.filename}: `default_scope` must be one of {list(SIZES)} for '
            f'a default image size, got {scope!r}. Give the size by --shape.'
        )
    return SIZES[scope]


def count(model: nn.Module, shape: Sequence[int]) -> tuple[dict, dict]:
    """Counts a forward pass of one image, without post-processing.

    Args:
        model: A detector, segmentor or classifier in evaluation mode; it is on
            the `meta` device afterwards and of no other use.
        shape: The image's height and width.

    Returns:
        Multiply-adds by top-level module and `'in all'`, and of our ops by op.
    """
    model.to('meta')
    for name, module in list(model.named_modules()):
        if hasattr(module, 'roi_layers'):
            model.set_submodule(name, _Regions(module))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        _run(model, torch.zeros(1, 3, *shape, device='meta'))
    counts = counter.get_flop_counts()
    # A module is counted by its path from the outermost one that was called.
    root = type(model).__name__
    modules = {}
    for name, module in model.named_children():
        for path in (f'{root}.{name}', type(module).__name__):
            if path in counts:
                modules[name] = sum(counts[path].values()) // 2
    ours = {
        str(op): flops // 2
        for op, flops in counts['Global'].items()
        if any(name in str(op) for name in OURS)
    }
    modules['in all'] = counter.get_total_flops() // 2
    return modules, ours


def _head_past_hooks(model: nn.Module) -> nn.Module | None:
    """The head whose `forward` a toolbox calls itself, past the counter."""
    if hasattr(model, 'decode_head'):
        return model.decode_head
    kinds = [kind.__name__ for kind in type(model).__mro__]
    return model.bbox_head if 'SingleStageDetector' in kinds else None


def _run(model: nn.Module, images: Tensor) -> None:
    if hasattr(model, 'roi_head'):
        features = model.extract_feat(images)
        model.rpn_head(features)
        boxes = images.new_zeros(ROIS, 4)
        model.roi_head(features, [InstanceData(bboxes=boxes)])
    elif head := _head_past_hooks(model):
        head(model.extract_feat(images))
    else:
        model(images, mode='tensor')
