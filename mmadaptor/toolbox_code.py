# SPDX-License-Identifier: Apache-2.0
"""Tells the code of toolboxes, whose arguments have a known meaning, from other code.

A check of what an argument or an attribute means holds for the code that it was
written for. A class of the user's own may give it any other meaning.
"""

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
