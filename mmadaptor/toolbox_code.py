# SPDX-License-Identifier: Apache-2.0
"""Tells the code of toolboxes, and finds the datasets in their configs.

A check of what an argument or an attribute means holds for the code that it was
written for. A user-defined class may give it any other meaning.
"""

from collections.abc import Mapping
from typing import Any

TOOLBOXES = ('mmadaptor', 'mmcv', 'mmdet', 'mmengine', 'mmpretrain', 'mmseg')


def of_toolbox(code: Any, *toolboxes: str) -> bool:
    """Return whether a class, function or method is defined by a toolbox.

    Args:
        code: The class, function or method.
        toolboxes: The toolboxes. Default: all.
    """
    name = str(getattr(code, '__module__', '')).partition('.')[0]
    return name in (toolboxes or TOOLBOXES)


def of_library(code: Any) -> bool:
    """Return whether a class, function or method is that of torch or a toolbox."""
    return of_toolbox(code, 'torch', *TOOLBOXES)


def has_methods_of_toolbox(kind: Any, *names: str) -> bool:
    """Return whether a class has all of these methods from toolboxes."""
    return all(of_toolbox(getattr(kind, name, None)) for name in names)


def innermost(node: Any) -> list[Mapping]:
    """Return the configs of the datasets in wrappers and lists.

    Args:
        node: Config of a dataset or of a data loader, or a list of such.
    """
    if isinstance(node, list | tuple):
        return [leaf for part in node for leaf in innermost(part)]
    if not isinstance(node, Mapping):
        return []
    return innermost([node.get('dataset'), node.get('datasets')]) or [node]
