"""Print a model's parameters and multiply-adds, with the scan counted.

Counted are matrix products, convolutions, the scan (9 N + 1 a step) and
Adaptor-T's gather and readout; a two-stage detector counts 1000 box RoIs and
100 mask RoIs.
"""
import argparse
from collections.abc import Sequence

import torch
from mmengine.config import Config, DictAction
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import InstanceData
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import mmadaptor  # noqa: F401

SIZES = dict(mmdet=(800, 1280), mmseg=(512, 2048), mmpretrain=(224, 224))
OURS = ('selective_scan', 'memory_select', 'cross_readout')


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='a config of mmdet, mmseg or mmpretrain')
    parser.add_argument('--shape', type=int, nargs=2, metavar=('H', 'W'),
                        help="the image's size; by default 800 1280 for "
                        'detection, 512 2048 for segmentation, 224 224 for '
                        'classification')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    return parser.parse_args()


def run(model: nn.Module, images: torch.Tensor) -> None:
    """One forward pass without post-processing.

    Args:
        model: A detector, segmentor or classifier.
        images: `(1, 3, H, W)`.
    """
    if hasattr(model, 'roi_head'):
        features = model.extract_feat(images)
        model.rpn_head(features)
        height, width = images.shape[-2:]
        corner = torch.rand(1000, 2) * torch.tensor([width, height]) / 2
        boxes = torch.cat([corner, corner + 64], dim=1)
        model.roi_head(features, [InstanceData(bboxes=boxes)])
    else:
        model(images, mode='tensor')


def count(model: nn.Module, shape: Sequence[int]) -> tuple[dict, dict]:
    """Count a forward pass of one image.

    Args:
        model: The model.
        shape: The image's height and width.

    Returns:
        Multiply-adds by top-level module, and of our ops by op.
    """
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        run(model, torch.zeros(1, 3, *shape))
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


def main() -> None:
    """Build the config's model, count, print."""
    args = parse_args()
    config = Config.fromfile(args.config)
    if args.cfg_options:
        config.merge_from_dict(args.cfg_options)
    scope = config.get('default_scope', 'mmadaptor')
    init_default_scope(scope)
    shape = args.shape or SIZES[scope]
    model = MODELS.build(config.model).eval()
    modules, ours = count(model, shape)

    table = Table(title=f'{args.config} at {shape[0]} x {shape[1]}')
    table.add_column('module')
    table.add_column('parameters, M', justify='right')
    table.add_column('multiply-adds, G', justify='right')
    for name, flops in modules.items():
        module = model if name == 'in all' else getattr(model, name)
        parameters = sum(p.numel() for p in module.parameters())
        table.add_row(name, f'{parameters / 1e6:.3f}', f'{flops / 1e9:.3f}')
    for name, flops in ours.items():
        table.add_row(f'of it {name}', '', f'{flops / 1e9:.3f}')
    Console().print(table)


if __name__ == '__main__':
    main()
