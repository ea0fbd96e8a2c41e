# SPDX-License-Identifier: Apache-2.0
"""Time whole models: `python -m benchmarks.models [--profile] [--json FILE]`.

Compares b1, b2 and VMamba-T with mmpretrain's Swin-T and ConvNeXt-T. Measures
inference of a classifier at 224 px, batch 8 and 1, a training step (forward and
backward, no optimizer) of batch 8, and inference of the detection backbone at
800 x 1280, batch 1, in float32 or by autocast to bfloat16.
The models are timed alternately in one process, so that other load on the machine
affects all of them equally; medians are reported. `--profile` instead prints the
share of each part in the time of a model.
"""

import argparse
import json
from collections import Counter
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from benchmarks.measuring import (
    commit,
    elapsed,
    in_turn,
    keep_memory,
    markdown,
    processor,
)
from mmadaptor.arguments import new_file, positive
from mmadaptor.models import MambaAdaptor, VMamba

BATCH, SIDE, CLASSES = 8, 224, 1000
DETECTION = (1, 3, 800, 1280)
REFERENCE = 'Swin-T'


# mmpretrain is not imported above: it cannot be where transformers 5 is installed, as
# for benchmarks.peers, which takes functions from here.
def _swin(out_indices: tuple[int, ...]) -> nn.Module:
    from mmpretrain.models import SwinTransformer

    return SwinTransformer('tiny', out_indices=out_indices)


def _convnext(out_indices: tuple[int, ...]) -> nn.Module:
    from mmpretrain.models import ConvNeXt

    return ConvNeXt('tiny', out_indices=out_indices, gap_before_final_norm=False)


BACKBONES: dict[str, Callable[[tuple[int, ...]], nn.Module]] = {
    'b1': lambda out: MambaAdaptor('b1', out_indices=out),
    'b2': lambda out: MambaAdaptor('b2', out_indices=out),
    'VMamba-T': lambda out: VMamba('tiny', out_indices=out),
    REFERENCE: _swin,
    'ConvNeXt-T': _convnext,
}


class Classifier(nn.Module):
    """A backbone with global average pooling and a linear layer.

    Args:
        backbone: Returns a tuple whose last element is the map `(B, C, H, W)`.
        classes: Number of outputs.
    """

    def __init__(self, backbone: nn.Module, classes: int = CLASSES) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.LazyLinear(classes)

    def forward(self, images: Tensor) -> Tensor:
        """Compute the scores `(B, classes)` of images `(B, 3, H, W)`."""
        return self.head(self.backbone(images)[-1].mean((2, 3)))


def inference(
    model: nn.Module, images: Tensor, dtype: torch.dtype = torch.float32
) -> Callable[[], None]:
    """Return a function that runs the model in evaluation mode without gradients."""

    def call() -> None:
        model.eval()
        with torch.no_grad(), autocast(dtype):
            model(images)

    return call


def training_step(
    model: nn.Module, images: Tensor, dtype: torch.dtype = torch.float32
) -> Callable[[], None]:
    """Return a function that runs forward and backward in training mode."""
    labels = torch.arange(len(images)) % CLASSES

    def call() -> None:
        model.train()
        model.zero_grad()
        with autocast(dtype):
            loss = nn.functional.cross_entropy(model(images), labels)
        loss.backward()

    return call


def autocast(dtype: torch.dtype) -> torch.autocast:
    """Return the context that computes in a type; float32 is computed as it is."""
    return torch.autocast('cpu', dtype, enabled=dtype != torch.float32)


def calls_of(name: str, dtype: torch.dtype) -> dict[str, Callable[[], None]]:
    """Build the functions to time for a model, and run each once as a warm-up.

    Args:
        name: One of `BACKBONES`.
        dtype: float32, or what autocast computes in.

    Returns:
        Functions by name: `inference`, `one_image`, `step` and `detection`.
    """
    images = torch.randn(BATCH, 3, SIDE, SIDE)
    classifier = Classifier(BACKBONES[name]((3,)))
    maps = BACKBONES[name]((0, 1, 2, 3))
    calls = dict(
        inference=inference(classifier, images, dtype),
        one_image=inference(classifier, images[:1], dtype),
        step=training_step(classifier, images, dtype),
        detection=inference(maps, torch.randn(DETECTION), dtype),
    )
    for call in calls.values():
        call()
    return calls


def measure(names: list[str], repeats: int, dtype: torch.dtype) -> list[dict]:
    """Time models alternately.

    Args:
        names: Keys of `BACKBONES`, Swin-T among them.
        dtype: float32, or what autocast computes in.
        repeats: Number of rounds; the result is the median over rounds.

    Returns:
        For each model a dict of seconds, images per second and ratios to Swin-T.
    """
    calls = {name: calls_of(name, dtype) for name in names}
    clocks = {
        (name, what): partial(elapsed, call)
        for name in names
        for what, call in calls[name].items()
    }
    seconds = in_turn(clocks, repeats)
    rows = []
    for name in names:
        row = dict(
            model=name,
            dtype=str(dtype).removeprefix('torch.'),
            images_a_second=BATCH / seconds[name, 'inference'],
        )
        for what in calls[name]:
            row[f'{what}_s'] = seconds[name, what]
            row[f'{what}_to_{REFERENCE}'] = (
                seconds[name, what] / seconds[REFERENCE, what]
            )
        rows.append(row)
    return rows


CALLS = dict(
    inference=f'inference of {BATCH}',
    one_image='inference of 1',
    step=f'training step of {BATCH}',
    detection='backbone at 800 x 1280',
)


def table(rows: list[dict]) -> str:
    """Format the rows of :func:`measure` that have Swin-T among them."""
    lines = [
        [
            f'{row["model"]}, {row["dtype"]}',
            f'{row["images_a_second"]:.1f}',
            *(
                f'{row[f"{what}_s"]:.3f} s, {row[f"{what}_to_{REFERENCE}"]:.2f}'
                for what in CALLS
            ),
        ]
        for row in rows
    ]
    return markdown(['', 'images a second', *CALLS.values()], lines)


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
    """Return the part of `PARTS` that an operator belongs to, or its name if none.

    Args:
        operator: Name of the operator.
        shapes: Shapes of its inputs; 1x1 convolutions count as GEMMs.
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
    """Profile a function and return the share of each part in its time.

    Args:
        call: Function to profile.
        repeats: Number of calls, summed.

    Returns:
        Share by part, largest first. Parts of 1 % or less are summed as 'the rest'.
    """
    call()  # the heap grows in the first call after those of other sizes
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
    """Print the table or the profile."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        '--models',
        nargs='+',
        choices=BACKBONES,
        default=[*BACKBONES],
        help='times are those of Swin-T too',
    )
    parser.add_argument('--threads', type=positive, default=2)
    parser.add_argument('--repeats', type=positive, default=7)
    parser.add_argument(
        '--dtype', nargs='+', choices=('float32', 'bfloat16'), default=['float32']
    )
    parser.add_argument(
        '--profile', action='store_true', help='print the time share of each part'
    )
    parser.add_argument('--json', type=new_file, help='save the results to this file')
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
            dict(model=name, dtype=d, call=what, shares=shares(call, args.repeats))
            for d in args.dtype
            for name in args.models
            for what, call in calls_of(name, getattr(torch, d)).items()
        ]
        for row in rows:
            print(f'{row["model"]}, {row["dtype"]}, {row["call"]}:')
            for part, share in row['shares'].items():
                print(f'    {share:6.1%}  {part}')
    else:
        rows = [
            row
            for d in args.dtype
            for row in measure(
                [*dict.fromkeys([*args.models, REFERENCE])],
                args.repeats,
                getattr(torch, d),
            )
        ]
        print(table(rows))
    if args.json:
        args.json.write_text(json.dumps(dict(about, rows=rows), indent=1))


if __name__ == '__main__':
    main()
