# SPDX-License-Identifier: Apache-2.0
"""What the scans give: `python -m benchmarks.scan_share CONFIG [CHECKPOINT]`.

A scan's output is what comes through its states and what its skip, `D`, lets
pass. Printed is, block by block, how large the first is beside the whole (root
mean squares, over a training batch): near zero, the network does not use its
scan. Beside it the mean size of Adaptor-T's `gamma` and Adaptor-S's `alpha`
where a block has them.
"""

import argparse
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmadaptor.checkpoints.adaptor_only import load_model
from mmadaptor.checkpoints.pretrained import drop_pretrained
from mmadaptor.engine.checks.preflight import check_training
from mmadaptor.engine.command_line import (
    ADAPTORS_ALONE,
    add_common_arguments,
    build_runner,
    has_hook,
    load_config,
    make_data,
    run,
)
from mmadaptor.errors import InputError
from mmadaptor.models.layers import SS2D


def root_mean_square(x: Tensor) -> float:
    """The root of the mean of a tensor's squares."""
    return x.square().mean().sqrt().item()


@dataclass
class Listener:
    """Stands in a mixer's `scan` and notes what comes through the states.

    Args:
        mixer: The mixer; a memory's part counts as the states'.
    """

    mixer: SS2D

    def __post_init__(self) -> None:
        self.scan, self.mixer.scan = self.mixer.scan, self
        self.share = float('nan')

    def __call__(self, x: Tensor) -> Tensor:
        """Scan a map, `(B, H, W, D)`, as the mixer does."""
        y = self.scan(x)
        through_states = y - x * self.mixer.D.sum(dim=0)
        self.share = root_mean_square(through_states) / root_mean_square(y)
        return y


@torch.no_grad()
def shares(backbone: nn.Module, images: Tensor) -> dict[str, float]:
    """How large what comes through each scan's states is, beside its output.

    Args:
        backbone: The backbone.
        images: `(B, 3, H, W)`, as the network takes them.

    Returns:
        The shares by the mixers' paths.
    """
    listeners = {
        path: Listener(module)
        for path, module in backbone.named_modules()
        if isinstance(module, SS2D)
    }
    try:
        backbone(images)
    finally:
        for listener in listeners.values():
            del listener.mixer.scan
    return {path: listener.share for path, listener in listeners.items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config')
    parser.add_argument(
        'checkpoint', nargs='?', help='default: the network as it starts'
    )
    parser.add_argument(
        '--from-scratch',
        action='store_true',
        help='leave out what the backbone would start from',
    )
    add_common_arguments(parser)
    args = parser.parse_args()
    cfg = load_config(args)
    # One of adaptors alone is loaded over its base.
    whole = args.checkpoint and not has_hook(cfg, ADAPTORS_ALONE)
    if whole or args.from_scratch:
        drop_pretrained(cfg.model)
    make_data(cfg)
    check_training(cfg)
    runner = build_runner(cfg)
    if args.checkpoint:
        model = load_model(cfg, args.checkpoint)
    else:
        model = runner.model
        model.init_weights()
    model.eval()
    batch = next(iter(runner.build_dataloader(cfg.train_dataloader, seed=runner.seed)))
    images = model.data_preprocessor(batch)['inputs']
    found = shares(model.backbone, images)
    if not found:
        raise InputError(
            f'{args.config}: expected a backbone that scans maps, '
            f'got {type(model.backbone).__name__}.'
        )
    for path, share in found.items():
        mixer = model.backbone.get_submodule(path)
        scales = [
            f'{name} {scale.abs().mean():.3f}'
            for name, scale in (
                ('gamma', getattr(mixer.temporal, 'gamma', None)),
                ('alpha', getattr(mixer.spatial, 'alpha', None)),
            )
            if scale is not None
        ]
        print(', '.join([f'{path}: {share:.2g}', *scales]))


if __name__ == '__main__':
    run(main)
