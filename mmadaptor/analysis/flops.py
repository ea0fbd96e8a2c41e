# SPDX-License-Identifier: Apache-2.0
"""Parameters and multiply-adds of a model of any toolbox.

Counted are matrix products, convolutions, the scan (9 N + 1 per step) and
Adaptor-T's gather and readout. A two-stage detector counts 1000 box RoIs and 100
mask RoIs. The model is moved to torch's `meta` device, which computes shapes only,
so a count takes a second at any image size.
"""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.config import Config
from mmengine.structures import BaseDataElement, InstanceData
from mmengine.utils import apply_to, to_2tuple
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from mmadaptor.errors import InputError, described

SIZES = dict(mmdet=(800, 1280), mmseg=(512, 2048), mmpretrain=(224, 224))
ROIS, MASK_ROIS = 1000, 100
OURS = (
    'selective_scan',
    'memory_select',
    'memory_readout',
    'cross_readout',
    'dilated_depthwise',
)


class _Regions(nn.Module):
    """Stands in for a RoI extractor of mmdet, whose op has no `meta` kernel."""

    def __init__(self, extractor: nn.Module) -> None:
        super().__init__()
        self.num_inputs = extractor.num_inputs
        self.featmap_strides = extractor.featmap_strides
        self.shape = (extractor.out_channels, *extractor.roi_layers[0].output_size)

    def forward(self, maps: Sequence[Tensor], rois: Tensor) -> Tensor:
        """Return zeros `(n, C, h, w)` for `rois` `(n, 5)`."""
        return rois.new_zeros(len(rois), *self.shape)


class _FewMasks(nn.Module):
    """Stands in for the mask head of a cascade, which mmdet gives all RoIs."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, *maps: Any) -> Any:
        """Predict for the first RoIs; the results have the shapes of all."""
        found = self.head(*apply_to(maps, torch.is_tensor, lambda x: x[:MASK_ROIS]))
        return apply_to(
            found, torch.is_tensor, lambda x: x.new_zeros(len(maps[0]), *x.shape[1:])
        )


def input_size(cfg: Config) -> tuple[int, int]:
    """Return the image size at which models of a config are counted.

    Args:
        cfg: The config.

    Returns:
        Height and width in pixels: `image_size` of the config, a side or both, if it is
        set; else by convention 800 x 1280 for detection, 512 x 2048 for segmentation,
        224 x 224 for classification.

    Raises:
        InputError: `default_scope` of the config is none of the three toolboxes.
    """
    if cfg.get('image_size'):
        return to_2tuple(cfg.image_size)
    scope = cfg.get('default_scope')
    if scope not in SIZES:
        raise InputError(
            f'{cfg.filename}: `default_scope` must be one of {list(SIZES)} for a '
            f'default image size, got {scope!r}. Give the size by --shape.'
        )
    return SIZES[scope]


def count(model: nn.Module, shape: Sequence[int]) -> tuple[dict, dict]:
    """Count a forward pass of one image, without post-processing.

    Args:
        model: A detector, segmentor or classifier in evaluation mode. It is on the
            `meta` device afterwards and cannot be used further.
        shape: Height and width of the image.

    Returns:
        Multiply-adds by top-level module and `'total'`, and by op of ours.

    Raises:
        InputError: The model needs more than the size of an image.
    """
    model.to('meta')
    root = type(model).__name__
    for name, module in list(model.named_modules()):
        if hasattr(module, 'roi_layers'):
            model.set_submodule(name, _Regions(module))
    cascade = getattr(getattr(model, 'roi_head', None), 'mask_head', None)
    if isinstance(cascade, nn.ModuleList):
        model.roi_head.mask_head = nn.ModuleList(map(_FewMasks, cascade))
    try:
        images = torch.zeros(1, _channels(model, shape), *shape, device='meta')
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            _run(model, images)
    except Exception as error:  # of a toolbox, as of an op that computes no shapes
        raise InputError(
            f'{root} cannot be counted from the size of an image alone: '
            f'{described(error).splitlines()[0]}'
        ) from error
    counts = counter.get_flop_counts()
    # A module is counted under its path from the outermost module called.
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
    modules['total'] = counter.get_total_flops() // 2
    return modules, ours


class _ChannelsFound(Exception):
    """Ends a forward pass at its first convolution."""


class _FindChannels(TorchDispatchMode):
    """Finds the number of image channels from a pass of an image of three."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        if func is torch.ops.aten.convolution.default:
            # It reads those of the image, or a multiple of them (YOLOX's `Focus`).
            inputs, weight, groups = args[0], args[1], args[8]
            raise _ChannelsFound(weight.shape[1] * groups * 3 // inputs.shape[1])
        return func(*args, **(kwargs or {}))


def _channels(model: nn.Module, shape: Sequence[int]) -> int:
    """Return the number of image channels that the first convolution asks for."""
    try:
        with torch.no_grad(), _FindChannels():
            _run(model, torch.zeros(1, 3, *shape, device='meta'))
    except _ChannelsFound as found:
        return found.args[0]
    return 3


def _head_called_directly(model: nn.Module) -> nn.Module | None:
    """Return the head whose `forward` a toolbox calls, past the counter's hooks."""
    if hasattr(model, 'decode_head'):
        return model.decode_head
    kinds = [kind.__name__ for kind in type(model).__mro__]
    if 'SingleStageInstanceSegmentor' in kinds:
        return model.mask_head
    return getattr(model, 'bbox_head', None) if 'SingleStageDetector' in kinds else None


def _run(model: nn.Module, images: Tensor) -> None:
    shapes = ('img_shape', 'ori_shape', 'pad_shape', 'batch_input_shape')
    size = tuple(images.shape[2:])
    metainfo = dict(dict.fromkeys(shapes, size), scale_factor=(1.0, 1.0))
    samples = [BaseDataElement(gt_instances=InstanceData(), metainfo=metainfo)]
    if hasattr(model, 'roi_head'):
        features = model.extract_feat(images)
        regions = [InstanceData(bboxes=images.new_zeros(ROIS, 4))]
        rpn = getattr(model, 'rpn_head', None)  # not in Fast R-CNN
        if rpn is not None:
            rpn(features)
        model.roi_head(features, regions, samples)
    elif head := _head_called_directly(model):
        head(model.extract_feat(images))
    else:
        model(images, samples, mode='tensor')
