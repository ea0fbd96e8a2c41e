# SPDX-License-Identifier: Apache-2.0
"""Print the scan shares: `python -m benchmarks.scan_share CONFIG [CHECKPOINT]`.

The output of a scan is the sum of a part through its states and a part through
its skip connection `D`. For each block, the share is the root mean square of the
first part divided by that of the whole output, over one training batch. A share
near zero means that the network does not use the scan. If a block has adaptors,
the mean absolute values of Adaptor-T's `gamma` and Adaptor-S's `alpha` follow.
"""

import argparse
from contextlib import ExitStack
from functools import partial

import torch
from torch import Tensor, nn

from mmadaptor.checkpoints.adaptor_only import holds_adaptors_only
from mmadaptor.checkpoints.loading import peek
from mmadaptor.checkpoints.pretrained import drop_pretrained
from mmadaptor.engine.command_line import (
    add_common_arguments,
    build_runner,
    load_config,
    run,
)
from mmadaptor.errors import InputError
from mmadaptor.models.layers import SS2D


def root_mean_square(x: Tensor) -> float:
    """Return the root mean square of a tensor."""
    return x.square().mean().sqrt().item()


@torch.no_grad()
def shares(backbone: nn.Module, images: Tensor) -> dict[str, float]:
    """Compute the share of each scan's output that passes through its states.

    Args:
        backbone: The backbone. The output of an Adaptor-T counts as part of the
            states.
        images: Preprocessed images `(B, 3, H, W)`.

    Returns:
        Share (ratio of root mean squares) by module path of the mixer.
    """
    mixers = {
        path: module
        for path, module in backbone.named_modules()
        if isinstance(module, SS2D)
    }
    outputs, skipped = {}, {}

    def note_scan(
        path: str, _: nn.Module, args: tuple, arguments: dict, output: Tensor | tuple
    ) -> None:
        outputs[path] = output[0] if isinstance(output, tuple) else output
        skipped[path] = arguments['x'] * arguments['D'].sum(dim=0)

    def note_memory(_: nn.Module, args: tuple, added: Tensor) -> None:
        # Blocks may share an adaptor. This call belongs to the last scan.
        path = next(reversed(outputs))
        outputs[path] = outputs[path] + added

    with ExitStack() as hooks:
        for path, mixer in mixers.items():
            hooks.enter_context(
                mixer.scan.register_forward_hook(
                    partial(note_scan, path), with_kwargs=True
                )
            )
        for adaptor in {mixer.temporal for mixer in mixers.values()} - {None}:
            hooks.enter_context(adaptor.register_forward_hook(note_memory))
        backbone(images)
    return {
        path: root_mean_square(y - skipped[path]) / root_mean_square(y)
        for path, y in outputs.items()
    }


def main() -> None:
    """Print the share of each block."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config')
    parser.add_argument(
        'checkpoint', nargs='?', help='default: the initialized network'
    )
    parser.add_argument(
        '--from-scratch',
        action='store_true',
        help='skip the pretrained weights of the backbone',
    )
    add_common_arguments(parser)
    args = parser.parse_args()
    cfg = load_config(args)
    whole = args.checkpoint and not holds_adaptors_only(peek(args.checkpoint))
    if whole or args.from_scratch:
        drop_pretrained(cfg.model)
    runner = build_runner(cfg)
    batches, model = iter(runner.train_dataloader), runner.model
    if args.checkpoint:
        runner.load_checkpoint(args.checkpoint)
    else:
        model.init_weights()
    model.eval()
    images = model.data_preprocessor(next(batches))['inputs']
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
