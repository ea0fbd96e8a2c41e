"""Times the ops on a GPU against a copy of the bytes they have to move.

The least traffic of a forward pass is each input read and each output written
once; of the backward pass, that of all inputs, the gradients that come in and
those that go out. A copy of n bytes reads and writes n/2 of them.
"""
import json
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from mmadaptor import ops

# (batch, height, width, channels, states): VMamba-T's stages at batch 128, one
# image at stage 1, and the detection backbone's.
SHAPES = ((128, 56, 56, 96, 1), (128, 28, 28, 192, 1), (128, 14, 14, 384, 1),
          (128, 7, 7, 768, 1), (1, 56, 56, 96, 1), (1, 200, 320, 96, 1),
          (16, 14, 14, 384, 16))
WIDE = ('A', 'D', 'delta_bias')
Inputs = dict[str, Tensor]


def map_inputs(shape: tuple[int, ...], dtype: torch.dtype) -> Inputs:
    """Leaves for `cross_selective_scan`.

    Args:
        shape: Batch, height, width, channels and states.
        dtype: Of the maps.

    Returns:
        The tensors by name, on the GPU.
    """
    *pixels, channels, states = shape
    sizes = dict(
        x=(*pixels, channels), delta=(*pixels, 4, channels),
        A=(4, channels, states), B=(*pixels, 4, states),
        C=(*pixels, 4, states), D=(4, channels), delta_bias=(4, channels))
    generator = torch.Generator('cuda').manual_seed(0)
    tensors = {
        name: torch.randn(size, generator=generator, device='cuda')
        for name, size in sizes.items()
    }
    tensors['A'] = -tensors['A'].abs()
    tensors['delta'] -= 2
    return {
        name: t.to(torch.float32 if name in WIDE else dtype).requires_grad_()
        for name, t in tensors.items()
    }


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


def measure(shape: tuple[int, ...], dtype: torch.dtype, repeats: int) -> dict:
    """Time the 2-D scan at one shape.

    Args:
        shape: Batch, height, width, channels and states.
        dtype: Of the maps.
        repeats: Rounds; the medians count.

    Returns:
        The row's numbers by name.
    """
    inputs = map_inputs(shape, dtype)
    weight = torch.randn_like(inputs['x'])

    def forward() -> Tensor:
        with torch.no_grad():
            return ops.cross_selective_scan(**inputs, delta_softplus=True)

    def step() -> None:
        y = ops.cross_selective_scan(**inputs, delta_softplus=True)
        torch.autograd.grad(y, list(inputs.values()), weight)

    read = sum(t.numel() * t.element_size() for t in inputs.values())
    y = weight.numel() * weight.element_size()
    forward_copy = copy_time(read + y, repeats)
    step_copy = copy_time(3 * read + 2 * y, repeats)
    forward_ms = milliseconds(forward, repeats)
    step_ms = milliseconds(step, repeats)
    return dict(
        op='cross_selective_scan', shape=str(shape[:-1]), states=shape[-1],
        dtype=str(dtype).removeprefix('torch.'), forward_ms=forward_ms,
        step_ms=step_ms, forward_of_copy=forward_copy / forward_ms,
        step_of_copy=step_copy / step_ms)


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
    about = dict(gpu=torch.cuda.get_device_name(), repeats=repeats,
                 torch=torch.__version__, cuda=torch.version.cuda,
                 commit=commit)
    print(*(f'{k}: {v}' for k, v in about.items()), sep=', ')
    rows = []
    for shape in SHAPES if only in 'cross_selective_scan' else ():
        for dtype in (torch.bfloat16, torch.float32):
            rows.append(measure(shape, dtype, repeats))
            print('{op} {shape} N={states} {dtype}: forward {forward_ms:.3f} '
                  'ms, {forward_of_copy:.0%} of the copy; forward and backward '
                  '{step_ms:.3f} ms, {step_of_copy:.0%}'.format(**rows[-1]),
                  flush=True)
    if target:
        target.write_text(json.dumps(dict(about, rows=rows), indent=1))
