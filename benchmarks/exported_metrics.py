# SPDX-License-Identifier: Apache-2.0
"""Test a model, and then its exported ONNX file in its place, on the test split.

Usage: python -m benchmarks.exported_metrics CONFIG CHECKPOINT FILE
"""

import argparse
from numbers import Real

import onnxruntime
import torch
from torch import Tensor

from mmadaptor.arguments import filled
from mmadaptor.engine.command_line import (
    add_common_arguments,
    build_runner,
    load_config,
    run,
)


def main() -> None:
    """Test both and print their metrics."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('config', help='config of a classifier or segmentor')
    parser.add_argument('checkpoint', help='its checkpoint')
    parser.add_argument(
        'file', type=filled, help='what tools/export.py made of it, with logits'
    )
    add_common_arguments(parser)
    args = parser.parse_args()
    cfg = load_config(args)
    cfg.load_from = args.checkpoint
    runner = build_runner(cfg)
    expected = runner.test()
    session = onnxruntime.InferenceSession(
        args.file, providers=['CPUExecutionProvider']
    )

    def logits(images: Tensor, *_: object) -> Tensor:
        (found,) = session.run(None, {'images': images.numpy()})
        return torch.from_numpy(found)

    model = runner.model
    if hasattr(model, 'decode_head'):
        model.encode_decode = logits
    else:
        model.extract_feat, model.head.forward = lambda images, **_: images, logits
    found = runner.test()
    for name, value in expected.items():
        if isinstance(value, Real):
            print(f'{name}: torch {value:.4f}, {args.file} {found[name]:.4f}')


if __name__ == '__main__':
    run(main)
