# SPDX-License-Identifier: Apache-2.0
"""Time the ops on a GPU relative to a copy of the bytes they have to move.

The minimum traffic of a forward pass is to read each input and write each output
once; that of a backward pass is to read all inputs and the incoming gradients and
to write the outgoing ones. A copy with a traffic of n bytes reads n/2 and writes n/2.
"""

import json
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from benchmarks import baselines
from mmadaptor import ops

# (batch, height, width, channels, states): VMamba-T's stages at batch 128, one image
# at stage 1, stage 1 of the detection backbone, and 16 states.
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
    """One op at one shape, with its inputs and options.

    Args:
        op: Name of the row.
        shape: Batch, height, width, channels and states.
        call: The op or its baseline.
        inputs: Tensor arguments by name, all leaves that require gradients.
        options: Other keyword arguments.
    """

    op: str
    shape: tuple[int, ...]
    call: Callable[..., Tensor]
    inputs: dict[str, Tensor]
    options: dict

    def run(self) -> Tensor:
        """Call the op."""
        return self.call(**self.inputs, **self.options)


def leaves(
    sizes: dict[str, tuple[int, ...]], dtype: torch.dtype, device: str
) -> dict[str, Tensor]:
    """Create random tensors that require gradients.

    Args:
        sizes: Shapes by name.
        dtype: Dtype of all tensors except those in `WIDE`, which are float32.
        device: Device of the tensors.

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
    """Generate the rows of the table.

    Args:
        dtype: Dtype of the maps.
        device: Device of the tensors.
        shapes: Batch, height, width, channels and states of each row.

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
            ('dilated by torch', baselines.dilated_depthwise),
        ):
            yield Row(
                name,
                shape,
                call,
                leaves(sizes, dtype, device),
                dict(dilations=(1, 2, 3)),
            )
        if dtype != torch.float32:
            continue  # states are float32 for any dtype of the maps
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
    """Return the median time of a call on the GPU, in milliseconds."""
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
    """Return the time in ms of a copy that reads and writes `size` bytes in total."""
    source = torch.empty(max(size // 2, 1), dtype=torch.uint8, device='cuda')
    target = torch.empty_like(source)
    return milliseconds(lambda: target.copy_(source), repeats)


def measure(row: Row, repeats: int) -> dict:
    """Time a row relative to a copy.

    Args:
        row: The row.
        repeats: Number of rounds; the result is the median over rounds.

    Returns:
        Results by column.
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
        repeats: Number of rounds of each row.
        only: Measure only ops whose name contains this.
        target: JSON file for the results, or None.
        commit: Commit to record with the results.

    Raises:
        SystemExit: If torch finds no GPU.
    """
    if not torch.cuda.is_available():
        raise SystemExit('--device cuda: torch found no GPU.')
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


if __name__ == '__main__':
    from benchmarks import ops as command_line  # which imports this module

    command_line.main('cuda')
