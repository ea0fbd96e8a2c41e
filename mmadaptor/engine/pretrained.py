"""Finds, and removes, the checkpoints that a config's model starts from."""

from collections.abc import Iterator
from typing import Any

from mmengine.model import PretrainedInit


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
        if _is_pretrained(node) and node.get('checkpoint'):
            yield f'{path}.checkpoint', node['checkpoint']
        if isinstance(node.get('pretrained'), str):
            yield f'{path}.pretrained', node['pretrained']
    for key, value in _children(node):
        yield from find_pretrained(value, f'{path}.{key}')


def drop_pretrained(node: Any) -> None:
    """Makes a model's config start without any checkpoint, in place.

    Args:
        node: The config, or a part of it.
    """
    if isinstance(node, dict):
        init_cfg = node.get('init_cfg')
        if isinstance(init_cfg, list):
            node['init_cfg'] = [c for c in init_cfg if not _is_pretrained(c)]
        elif _is_pretrained(init_cfg):
            node['init_cfg'] = None
        if isinstance(node.get('pretrained'), str):
            node['pretrained'] = None
    for _, value in _children(node):
        drop_pretrained(value)


def _is_pretrained(node: Any) -> bool:
    return isinstance(node, dict) and node.get('type') in ('Pretrained',
                                                           PretrainedInit)


def _children(node: Any) -> Iterator[tuple]:
    if isinstance(node, dict):
        yield from node.items()
    elif isinstance(node, list | tuple):
        yield from enumerate(node)
