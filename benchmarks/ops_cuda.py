# SPDX-License-Identifier: Apache-2.0
"""Times the ops on a GPU against a copy of the bytes they have to move.

The least traffic of a forward pass is each input read and each output written
once; of the backward pass, that of all inputs, the gradients that come in and
those that go out. A copy of n bytes reads and writes n/2 of them.
"""

import json
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mmadaptor import ops
from mmadaptor.ops.dilated_depthwise.reference import dilated_depthwise

# (batch, height, width, channels, states): VMamba-T's stages at batch 128, one
# image at stage 1, and the detection backbone's.
SHAPES = (
    (128, 56, 56, 96, 1),
    (128, 28, 28, 192, 1),
    (128, 14, 14, 384, 1),
    (128, 7, 7, 768, 1),
    (1, 56, 56, 96, 1),
    (1, 200, 320, 96, 1),
    (16, 14, 14, 384, 16),
)
WIDE = ('A', 'D', 'delta_bias', 'kernels')


@dataclass
class Row:
    """An op and what it is called with.

    Args:
        op: What the row is called.
        shape: Of the map that it is about.
        call: The op, or its composition.
        inputs: Its tensors by name; those that want gradients get them.
        options: Its other arguments.
    """

    op: str
    shape: tuple[int, ...]
    call: Callable[..., Tensor]
    inputs: dict[str, Tensor]
    options: dict

    def run(self) -> Tensor:
        """Calls it."""
        return self.call(**self.inputs, **self.options)


def leaves(
    sizes: dict[str, tuple[int, ...]], dtype: torch.dtype, device: str
) -> dict[str, Tensor]:
    """Tensors that want gradients.

    Args:
        sizes: Their shapes by name.
        dtype: Of all but those of `WIDE`, which are float32.
        device: Where they are.

    Returns:
        The tensors by name.
    """
    generator = torch.Generator(device).manual_seed(0)
    tensors = {
        name: torch.randn(size, generator=generator, device=device)
        for name, size in sizes.items()
    }
    if 'A' in tensors:
        tensors['A'] = -tensors['A'].abs()
        tensors['delta'] -= 2
    return {
        name: t.to(torch.float32 if name in WIDE else dtype).requires_grad_()
        for name, t in tensors.items()
    }


def rows(
    dtype: torch.dtype,
    device: str = 'cuda',
    shapes: tuple[tuple[int, ...], ...] = SHAPES,
) -> Iterator[Row]:
    """Every row of the table, each made as it is asked for.

    Args:
        dtype: Of the maps.
        device: Where they are.
        shapes: Batch, height, width, channels and states.

    Yields:
        The rows.
    """
    for shape in shapes:
        *pixels, channels, states = shape
        sizes = dict(
            x=(*pixels, channels),
            delta=(*pixels, 4, channels),
            A=(4, channels, states),
            B=(*pixels, 4, states),
            C=(*pixels, 4, states),
            D=(4, channels),
            delta_bias=(4, channels),
        )
        yield Row(
            'cross_selective_scan',
            shape,
            ops.cross_selective_scan,
            leaves(sizes, dtype, device),
            dict(delta_softplus=True),
        )
    for shape in shapes:
        *pixels, channels, states = shape
        if states > 1:
            continue
        sizes = dict(y=(*pixels, channels), kernels=(3, channels, 3, 3))
        for name, call in (
            ('dilated_depthwise', ops.dilated_depthwise),
            ('dilated by torch', dilated_depthwise),
        ):
            yield Row(
                name,
                shape,
                call,
                leaves(sizes, dtype, device),
                dict(dilations=(1, 2, 3)),
            )
        if dtype != torch.float32:
            continue  # the states are float32 whatever the maps are
        sizes = dict(
            values=(*pixels, 4, channels),
            predicted=(*pixels, 4, 24),
            coefficients=(*pixels, 4),
        )
        yield Row(
            'memory_readout',
            shape,
            ops.memory_readout,
            leaves(sizes, dtype, device),
            dict(granularities=[1.0, 2.0]),
        )


def milliseconds(call: Callable[[], object], repeats: int) -> float:
    """The median time of a call on the GPU."""
    for _ in range(3):
        call()
    times = []
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times)


def copy_time(size: int, repeats: int) -> float:
    """What a copy takes that moves so many bytes, read and written."""
    source = torch.empty(max(size // 2, 1), dtype=torch.uint8, device='cuda')
    target = torch.empty_like(source)
    return milliseconds(lambda: target.copy_(source), repeats)


def measure(row: Row, repeats: int) -> dict:
    """Time a row.

    Args:
        row: The row.
        repeats: Rounds; the medians count.

    Returns:
        The row's numbers by name.
    """
    weight = torch.randn_like(row.run())

    def forward() -> Tensor:
        with torch.no_grad():
            return row.run()

    def step() -> None:
        torch.autograd.grad(row.run(), list(row.inputs.values()), weight)

    read = sum(t.numel() * t.element_size() for t in row.inputs.values())
    y = weight.numel() * weight.element_size()
    forward_copy = copy_time(read + y, repeats)
    step_copy = copy_time(3 * read + 2 * y, repeats)
    forward_ms = milliseconds(forward, repeats)
    step_ms = milliseconds(step, repeats)
    return dict(
        op=row.op,
        shape=str(row.shape[:-1]),
        states=row.shape[-1],
        dtype=str(next(iter(row.inputs.values())).dtype).removeprefix('torch.'),
        forward_ms=forward_ms,
        step_ms=step_ms,
        forward_of_copy=forward_copy / forward_ms,
        step_of_copy=step_copy / step_ms,
    )


def main(repeats: int, only: str, target: Path | None, commit: str) -> None:
    """Print the table.

    Args:
        repeats: Rounds of each row.
        only: Rows whose op has this in its name.
        target: Where to write the numbers, if anywhere.
        commit: Of the working tree, for the record.
    """
    if not torch.cuda.is_available():
        raise SystemExit('--device cuda: torch finds no GPU here.')
    about = dict(
        gpu=torch.cuda.get_device_name(),
        repeats=repeats,
        torch=torch.__version__,
        cuda=torch.version.cuda,
        commit=commit,
    )
    print(*(f'{k}: {v}' for k, v in about.items()), sep=', ')
    measured = []
    for dtype in (torch.bfloat16, torch.float32):
        for row in rows(dtype):
            if only not in row.op:
                continue
            measured.append(measure(row, repeats))
            print(
                '{op} {shape} N={states} {dtype}: forward {forward_ms:.3f} '
                'ms, {forward_of_copy:.0%} of the copy; forward and backward '
                '{step_ms:.3f} ms, {step_of_copy:.0%}'.format(**measured[-1]),
                flush=True,
            )
    if target:
        target.write_text(json.dumps(dict(about, rows=measured), indent=1))
