# SPDX-License-Identifier: Apache-2.0
"""Checks what mmengine's `init_cfg=dict(type='Pretrained')` loads."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from mmengine.model import PretrainedInit
from torch import nn

from mmadaptor.errors import CheckpointMismatchError
from mmadaptor.log import warn

from .loading import read_checkpoint, renamed, weights_of, without
from .strict import (
    SKIP_HINT,
    below,
    load_and_compare,
    load_model,
    note_source,
    prepare,
    unmatched,
)


@contextmanager
def checked_initializers(
    model: nn.Module | None = None,
    skip: Sequence[str] = (),
    optional: Sequence[str] = (),
) -> Iterator[None]:
    """Make mmengine's initializer raise an error for a file of another model.

    By itself it only logs what does not fit. The whole model is loaded like
    `load_from`: strictly. A part of it, such as a stock backbone, may lack
    weights of the file, which often has a classifier, and the file weights of
    the part, which often has further layers; the log names them. But shapes must
    agree, and the file must have half of the weights.

    Args:
        model: The whole model; None before it is built.
        skip: Regular expressions of names in the model. Weights whose names
            match keep their initial values.
        optional: Regular expressions of names in the model that the file of the
            whole model may lack.
    """
    named = () if model is None else model.named_modules()
    names = {module: name for name, module in named}
    loads_leniently = PretrainedInit.__call__

    def load(initializer: PretrainedInit, module: nn.Module) -> None:
        source, prefix = initializer.checkpoint, initializer.prefix
        checkpoint = read_checkpoint(source, initializer.map_location)
        if prefix:
            weights = below(weights_of(checkpoint, source), prefix, source)
            checkpoint = dict(state_dict=weights)
        if module is model:
            prepare(module, checkpoint, source, skip)
            load_model(module, checkpoint, source, skip, optional, starts=True)
        else:
            _load_part(module, names.get(module, ''), checkpoint, source, skip)
        note_source(module, source)

    PretrainedInit.__call__ = load
    try:
        yield
    finally:
        PretrainedInit.__call__ = loads_leniently


def _load_part(
    module: nn.Module, name: str, checkpoint: dict, source: str, skip: Sequence[str]
) -> None:
    """Load a part of a model, whose name is given."""
    weights = renamed(
        weights_of(checkpoint, source), lambda key: key.removeprefix('module.')
    )
    full = {key: f'{name}.{key}' for key in [*module.state_dict(), *weights]}
    kept = set(unmatched(full.values(), skip))
    weights = without(weights, {key for key in weights if full[key] not in kept})
    found = load_and_compare(module, weights, source)
    found.missing = [key for key in found.missing if full[key] in kept]
    wanted = sum(full[key] in kept for key in module.state_dict())
    if found.shapes or 2 * len(found.missing) > wanted:
        raise CheckpointMismatchError(
            f'{source} does not fit {name or "the"} {type(module).__name__}, whose '
            f'init_cfg names it.\n{found}{SKIP_HINT}'
        )
    if found:
        warn(
            f'{source} and {name or "the"} {type(module).__name__} differ; what is '
            f'missing keeps its initial values, and what is unexpected is left out.\n'
            f'{found}'
        )
