# SPDX-License-Identifier: Apache-2.0
"""Our classifiers and those of timm: timed in turn, and their memory."""

import importlib.util
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.measuring import elapsed, in_child, in_turn, markdown, resident_growth
from benchmarks.models import BATCH, CLASSES, SIDE, autocast, inference, training_step
from mmadaptor.models import create_classifier

OF_TIMM = 'timm'
MODELS = {
    'Swin-T (timm)': (OF_TIMM, 'swin_tiny_patch4_window7_224', None),
    'ConvNeXt-T (timm)': (OF_TIMM, 'convnext_tiny', 'Swin-T (timm)'),
    'MambaOut-Femto (timm)': (OF_TIMM, 'mambaout_femto', 'Swin-T (timm)'),
    'MambaOut-T (timm)': (OF_TIMM, 'mambaout_tiny', 'Swin-T (timm)'),
    'b0': ('mmadaptor', 'mamba_adaptor_b0', 'Swin-T (timm)'),
    'b1': ('mmadaptor', 'mamba_adaptor_b1', 'Swin-T (timm)'),
    'b2': ('mmadaptor', 'mamba_adaptor_b2', 'Swin-T (timm)'),
    'VMamba-T': ('mmadaptor', 'vmamba_tiny', 'Swin-T (timm)'),
    'DeiT-Ti (timm)': (OF_TIMM, 'deit_tiny_patch16_224', None),
    'Vim-Ti': ('mmadaptor', 'vim_tiny', 'DeiT-Ti (timm)'),
    'DeiT-S (timm)': (OF_TIMM, 'deit_small_patch16_224', None),
    'Vim-S': ('mmadaptor', 'vim_small', 'DeiT-S (timm)'),
}
"""Package, architecture, and the model whose time is 1; None for the model itself."""

CALLS = ('inference of 1', f'inference of {BATCH}', f'training step of {BATCH}')


def build(name: str) -> nn.Module:
    """Build a classifier of `MODELS` with random weights."""
    package, architecture, _ = MODELS[name]
    if package == OF_TIMM:
        import timm

        return timm.create_model(architecture, num_classes=CLASSES)
    return create_classifier(architecture, CLASSES)


def call_of(model: nn.Module, what: str, dtype: torch.dtype) -> Callable[[], None]:
    """Return a function that runs a model; see `CALLS`.

    Args:
        model: The classifier.
        what: One of `CALLS`.
        dtype: Float32, or a dtype for autocast.
    """
    count = 1 if what == CALLS[0] else BATCH
    images = torch.randn(count, 3, SIDE, SIDE)
    run = training_step if 'training' in what else inference
    return run(model, images, dtype)


def check(name: str, scores: Tensor) -> None:
    """Check the scores of one image.

    Raises:
        ValueError: They are not `(1, 1000)` finite numbers.
    """
    if scores.shape != (1, CLASSES) or not scores.isfinite().all():
        raise ValueError(
            f'{name}: expected finite scores (1, {CLASSES}), got '
            f'{tuple(scores.shape)}, finite: {bool(scores.isfinite().all())}'
        )


def growths(name: str, threads: int, dtype: torch.dtype) -> dict[str, int]:
    """Return the peak memory of all `CALLS` over weights and images, in bytes."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = build(name)
    return {what: resident_growth(call_of(model, what, dtype)) for what in CALLS}


def measure(names: list[str], repeats: int, dtype: torch.dtype) -> list[dict]:
    """Time and weigh models.

    Args:
        names: Keys of `MODELS`.
        repeats: Number of rounds; times are medians over them.
        dtype: Float32, or a dtype for autocast.

    Returns:
        A row for each model, with parameters, seconds and bytes, or with a `problem`.
    """
    torch.manual_seed(0)
    rows = {name: dict(model=name, beside=MODELS[name][2] or name) for name in names}
    clocks = {}
    for name, row in rows.items():
        package = MODELS[name][0]
        if importlib.util.find_spec(package) is None:
            row['problem'] = f'missing: {package} is not installed'
            continue
        model = build(name)
        row['parameters'] = sum(p.numel() for p in model.parameters())
        with torch.no_grad(), autocast(dtype):
            check(name, model.eval()(torch.randn(1, 3, SIDE, SIDE)))
        for what in CALLS:
            call = call_of(model, what, dtype)
            call()
            clocks[name, what] = partial(elapsed, call)
    seconds = in_turn(clocks, repeats)
    for name, row in rows.items():
        row['seconds'] = {what: seconds[n, what] for n, what in seconds if n == name}
        if 'problem' not in row:
            row['bytes'] = in_child(growths, name, torch.get_num_threads(), dtype)
    return list(rows.values())


def table(rows: list[dict]) -> str:
    """Format the rows of :func:`measure`."""
    found = {row['model']: row for row in rows}
    times = [f'{what}, over it' for what in CALLS]
    memory = [f'memory of {what}, MiB' for what in CALLS[1:]]
    header = ['', 'parameters', 'images a second', 'beside', *times, *memory]
    lines = []
    for name, row in found.items():
        if 'problem' in row:
            lines.append([name, row['problem'], *[''] * (len(header) - 2)])
            continue
        seconds, base = row['seconds'], found.get(row['beside'], {}).get('seconds', {})
        lines.append(
            [
                name,
                f'{row["parameters"] / 1e6:.1f} M',
                f'{BATCH / seconds[CALLS[1]]:.1f}',
                row['beside'],
                *(f'{seconds[w] / base[w]:.2f}' if w in base else '-' for w in CALLS),
                *(f'{row["bytes"][w] / 2**20:.0f}' for w in CALLS[1:]),
            ]
        )
    return markdown(header, lines)
