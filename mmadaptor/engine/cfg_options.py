# SPDX-License-Identifier: Apache-2.0
"""`--cfg-options` whose keys match nothing are errors, not new keys."""

import difflib
import inspect
from collections.abc import Mapping
from typing import Any

from mmengine.config import Config
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from torch.utils.data import DataLoader

from mmadaptor.errors import InputError

NEW = '+'


def _arguments(*classes: type) -> set[str]:
    return {name for cls in classes for name in inspect.signature(cls).parameters}


# What may be added to dicts that have no `type`, by the end of their key.
NEW_KEYS = {
    '': _arguments(Runner) | {'runner_type'},
    '_cfg': _arguments(EpochBasedTrainLoop, IterBasedTrainLoop) | {'fp16', 'type'},
    '_dataloader': _arguments(DataLoader) | {'num_batch_per_epoch'},
}


def merge_options(cfg: Config, options: Mapping[str, Any]) -> None:
    """Merge `--cfg-options`, values by dotted key, into a config.

    A key must exist, or belong to a dict from which something is built: that refuses a
    wrong key by name. Any other key is taken for a misspelling, unless it starts with a
    plus: `+new.key=value`.

    Raises:
        InputError: Keys match nothing. Names the closest ones that exist.
    """
    unknown = [
        f'--cfg-options {key}: {problem}'
        for key in options
        if not key.startswith(NEW) and (problem := _explain(cfg, key))
    ]
    if unknown:
        raise InputError(
            '\n'.join([*unknown, f'To add a new key, write {NEW}key=value.'])
        )
    options = {k.removeprefix(NEW): v for k, v in options.items()}
    for key in options:
        _open_unset(cfg, key)
    cfg.merge_from_dict(options)


def _explain(cfg: Config, key: str) -> str:
    """Return what is wrong with a key; empty if it matches something."""
    node, path = cfg, []
    for part in key.split('.'):
        where = '.'.join(path) or 'the config'
        if isinstance(node, list | tuple):
            node = {str(i): value for i, value in enumerate(node)}
        if not isinstance(node, Mapping | Config):
            return f'{where} is of type {type(node).__name__} and has no keys.'
        if part in node:
            node = node[part]
        elif 'type' in node or 'adaptors' in path[-2:]:
            return ''  # what is built from it refuses a wrong key by name
        else:
            ends = [end for end in NEW_KEYS if end and where.endswith(end)]
            new = NEW_KEYS[ends[0]] if ends else NEW_KEYS[''] if not path else set()
            if part in new:
                return ''
            known = [*map(str, node), *new]
            close = difflib.get_close_matches(part, known, 1, 0.5)
            names = (
                f'Did you mean {".".join([*path, *close])}?'
                if close
                else f'It has {", ".join(sorted(known)[:20])}.'
            )
            return f'{where} has no {part!r}. {names}'
        path.append(part)
        if node is None:
            return ''
    return ''


def _open_unset(cfg: Config, key: str) -> None:
    """Allow keys below a value of None, which mmengine refuses."""
    node = cfg
    for part in key.split('.')[:-1]:
        if isinstance(node, Mapping | Config) and part in node:
            if node[part] is None:
                node[part] = {}
            node = node[part]
        elif isinstance(node, list) and part.isdigit():
            node = node[int(part)]
        else:
            return
