# SPDX-License-Identifier: Apache-2.0
"""Finds, and removes, the checkpoints that a config's model starts from."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.model import PretrainedInit

PUBLISHED = ('vmamba', 'vim')


def find_pretrained(node: Any, path: str = 'model') -> Iterator[tuple]:
    """Walks a model's config.

    Args:
        node: The config, or a part of it.
        path: Its dotted key.

    Yields:
        The dotted key and the value of each checkpoint that weights start
        from.
    """
    if isinstance(node, dict):
        if is_pretrained(node) and node.get('checkpoint'):
            yield f'{path}.checkpoint', node['checkpoint']
        if isinstance(node.get('pretrained'), str):
            yield f'{path}.pretrained', node['pretrained']
    for key, value in children(node):
        yield from find_pretrained(value, f'{path}.{key}')


def how_to_make(checkpoint: str, config: str | None) -> str:
    """Says which tools make a checkpoint that is not there.

    Args:
        checkpoint: Its path; the config that trains it has the file's name, or
            that of its folder, and the converter knows names that begin with a
            published model's.
        config: The config that starts from it. The other is looked for beside
            it.

    Returns:
        A sentence; empty if neither makes it.
    """
    path, ways = Path(checkpoint), []
    for name in (path.stem, path.parent.name) if config else ():
        recipe = Path(config).with_name(f'{name}.py')
        if recipe.is_file():
            link = f', then link work_dirs/{name}/epoch_*.pth to it'
            ways.append(
                f'python tools/train.py {os.path.relpath(recipe)}'
                f'{link if name == path.stem else ""}'
            )
            break
    family = path.stem.partition('_')[0]
    if family in PUBLISHED:
        ways.append(
            f'python tools/convert_checkpoint.py --from {family} PUBLISHED {checkpoint}'
        )
    return f'Make {checkpoint} by {", or by ".join(ways)}.' if ways else ''


def drop_pretrained(node: Any) -> None:
    """Makes a model's config start without any checkpoint, in place.

    Args:
        node: The config, or a part of it.
    """
    if isinstance(node, dict):
        init_cfg = node.get('init_cfg')
        if isinstance(init_cfg, list):
            node['init_cfg'] = [c for c in init_cfg if not is_pretrained(c)]
        elif is_pretrained(init_cfg):
            node['init_cfg'] = None
        if isinstance(node.get('pretrained'), str):
            node['pretrained'] = None
    for _, value in children(node):
        drop_pretrained(value)


def is_pretrained(node: Any) -> bool:
    """Whether an `init_cfg` starts from a checkpoint.

    Args:
        node: Any part of a config.

    Returns:
        Whether it names mmengine's `Pretrained`, with its scope or without, or
        its class.
    """
    return isinstance(node, dict) and node.get('type') in (
        'Pretrained',
        'mmengine.Pretrained',
        PretrainedInit,
    )


def children(node: Any) -> Iterator[tuple]:
    """Walks one level of a config.

    Args:
        node: Any part of it.

    Yields:
        The key or index and the value of each part below.
    """
    if isinstance(node, dict):
        yield from node.items()
    elif isinstance(node, list | tuple):
        yield from enumerate(node)
