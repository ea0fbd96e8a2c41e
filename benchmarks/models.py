# SPDX-License-Identifier: Apache-2.0
"""Times whole models: `python -m benchmarks.models [--profile] [--json FILE]`.

b1, b2 and VMamba-T beside Swin-T and ConvNeXt-T of mmpretrain, in one process
and in turn, so that what else the machine does hits all alike: inference and a
training step (forward and backward, no optimizer) of a classifier at 224 px,
batch 8, and inference of the detection backbone at 800 x 1280, batch 1.
The medians count. `--profile` shows instead where a model's time goes.
"""

import argparse
import json
import statistics
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch
from mmpretrain.models import ConvNeXt, SwinTransformer
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from benchmarks.ops import commit, elapsed, keep_memory, processor
from mmadaptor.models import MambaAdaptor, VMamba

BATCH, SIDE, CLASSES = 8, 224, 1000
DETECTION = (1, 3, 800, 1280)
REFERENCE = 'Swin-T'


def _convnext(out_indices: tuple[int, ...]) -> nn.Module:
    return ConvNeXt('tiny', out_indices=out_indices, gap_before_final_norm=False)


BACKBONES: dict[str, Callable[[tuple[int, ...]], nn.Module]] = {
    'b1': lambda out: MambaAdaptor('b1', out_indices=out),
    'b2': lambda out: MambaAdaptor('b2', out_indices=out),
    'VMamba-T': lambda out: VMamba('tiny', out_indices=out),
    REFERENCE: lambda out: SwinTransformer('tiny', out_indices=out),
    'ConvNeXt-T': _convnext,
}


class Classifier(nn.Module):
    """A backbone's last map, averaged, and a linear layer.

    Args:
        backbone: Returns the map alone, in a tuple.
        classes: Outputs.
    """

    def __init__(self, backbone: nn.Module, classes: int = CLASSES) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.LazyLinear(classes)

    def forward(self, images: Tensor) -> Tensor:
        """The scores of images.

        Args:
            images: `(B, 3, H, W)`.

        Returns:
            `(B, classes)`.
        """
        return self.head(self.backbone(images)[-1].mean((2, 3)))


def inference(model: nn.Module, images: Tensor) -> Callable[[], None]:
    """A call that runs the model without gradients, in evaluation mode."""

    def call() -> None:
        model.eval()
        with torch.no_grad():
            model(images)

    return call


def training_step(model: nn.Module, images: Tensor) -> Callable[[], None]:
    """A call that runs the model forth and back, in training mode."""
    labels = torch.arange(len(images)) % CLASSES

    def call() -> None:
        model.train()
        model.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()

    return call


def calls_of(name: str) -> dict[str, Callable[[], None]]:
    """What is timed of a model, by name, each called once already.

    Args:
        name: One of `BACKBONES`.

    Returns:
        Calls named `inference`, `step` and `detection`.
    """
    images = torch.randn(BATCH, 3, SIDE, SIDE)
    classifier = Classifier(BACKBONES[name]((3,)))
    maps = BACKBONES[name]((0, 1, 2, 3))
    calls = dict(
        inference=inference(classifier, images),
        step=training_step(classifier, images),
        detection=inference(maps, torch.randn(DETECTION)),
    )
    for call in calls.values():
        call()
    return calls


def measure(names: list[str], repeats: int) -> list[dict]:
    """Time models in turn.

    Args:
        names: Of `BACKBONES`.
        repeats: Rounds; the medians count.

    Returns:
        For each model its numbers by name: seconds, images a second, and the
        ratios to Swin-T's if that is among them.
    """
    calls = {name: calls_of(name) for name in names}
    rounds = [
        {
            (name, what): elapsed(call)
            for name in names
            for what, call in calls[name].items()
        }
        for _ in range(repeats)
    ]
    seconds = {key: statistics.median(r[key] for r in rounds) for key in rounds[0]}
    rows = []
    for name in names:
        row = dict(model=name, images_a_second=BATCH / seconds[name, 'inference'])
        for what in calls[name]:
            row[f'{what}_s'] = seconds[name, what]
            if REFERENCE in names:
                row[f'{what}_to_{REFERENCE}'] = (
                    seconds[name, what] / seconds[REFERENCE, what]
                )
        rows.append(row)
    return rows


PARTS = {
    'GEMMs': ('addmm', '::mm', 'bmm', 'linear', 'matmul'),
    'ops': ('mmadaptor',),
    'LayerNorm': ('layer_norm',),
    'convolutions': ('conv',),
    'GELU, SiLU': ('gelu', 'silu'),
    'copies': ('copy_', 'clone', 'contiguous', 'zero_', 'fill_', 'cat'),
    'sums and products': ('::add', '::mul', '::sum', '::div', '::sub'),
}


def part_of(operator: str, shapes: list[list[int]]) -> str:
    """The part of `PARTS` that an operator belongs to; its own name if none.

    Args:
        operator: Its name.
        shapes: Its inputs' shapes: a convolution with a kernel of one pixel is
            a matrix product.
    """
    if 'conv' in operator and any(
        len(shape) == 4 and shape[2:] == [1, 1] for shape in shapes
    ):
        return 'GEMMs'
    for part, patterns in PARTS.items():
        if any(pattern in operator for pattern in patterns):
            return part
    return operator


def shares(call: Callable[[], None], repeats: int) -> dict[str, float]:
    """The share of each part in a call's time.

    Args:
        call: What to run.
        repeats: How often, all added up.

    Returns:
        Shares by part, the largest first; those under a hundredth are one.
    """
    with profile(
        activities=[ProfilerActivity.CPU], record_shapes=True, acc_events=True
    ) as profiler:
        for _ in range(repeats):
            call()
    parts = Counter()
    for event in profiler.key_averages(group_by_input_shape=True):
        parts[part_of(event.key, event.input_shapes)] += event.self_cpu_time_total
    total = sum(parts.values())
    result = Counter()
    for part, microseconds in parts.items():
        share = microseconds / total
        result[part if share > 0.01 else 'the rest'] += share
    return dict(result.most_common())


def main() -> None:
    """Print the table, or the profile."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--models', nargs='+', choices=BACKBONES, default=[*BACKBONES])
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--repeats', type=int, default=7)
    parser.add_argument(
        '--profile', action='store_true', help='where the time of each model goes'
    )
    parser.add_argument('--json', type=Path, help='write the numbers here')
    args = parser.parse_args()
    keep_memory()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    about = dict(
        processor=processor(),
        threads=args.threads,
        repeats=args.repeats,
        torch=torch.__version__,
        commit=commit(),
    )
    print(*(f'{k}: {v}' for k, v in about.items()), sep=', ')
    if args.profile:
        rows = [
            dict(model=name, call=what, shares=shares(call, args.repeats))
            for name in args.models
            for what, call in calls_of(name).items()
        ]
        for row in rows:
            print(f'{row["model"]}, {row["call"]}:')
            for part, share in row['shares'].items():
                print(f'    {share:6.1%}  {part}')
    else:
        rows = measure(args.models, args.repeats)
        for row in rows:
            print(
                ', '.join(
                    f'{k}: {v:.3f}' if isinstance(v, float) else f'{k}: {v}'
                    for k, v in row.items()
                )
            )
    if args.json:
        args.json.write_text(json.dumps(dict(about, rows=rows), indent=1))


if __name__ == '__main__':
    main()
