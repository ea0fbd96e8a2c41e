# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that hold only what `torch.load` reads by default.

mmengine's hold histories of logs and numpy scalars, which `torch.load` refuses
from version 2.6 on: in the toolboxes' `publish_model.py`, or anywhere else
without mmengine.
"""

from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer

from mmadaptor.errors import DamagedFileError

ARRAYS = ('values', 'counts')


def make_plain(checkpoint: dict) -> None:
    """Replace histories and numpy scalars by tensors and numbers, in place.

    Args:
        checkpoint: What a runner of mmengine is about to save.
    """
    for part in ('meta', 'message_hub'):
        if part in checkpoint:
            checkpoint[part] = _plain(checkpoint[part])


def _plain(node: Any) -> Any:
    if isinstance(node, HistoryBuffer):
        arrays = zip(ARRAYS, node.data, strict=True)
        tensors = {name: torch.tensor(array) for name, array in arrays}
        return dict(tensors, max_length=node.max_length)
    if isinstance(node, np.generic):
        return node.item()
    if isinstance(node, dict):
        return {key: _plain(value) for key, value in node.items()}
    if type(node) in (list, tuple):
        return type(node)(_plain(value) for value in node)
    return node


def restore_histories(checkpoint: dict) -> None:
    """Turn what :func:`make_plain` saved into histories again, in place.

    Args:
        checkpoint: The content of a file to resume from. Histories of mmengine's
            own checkpoints stay as they are.

    Raises:
        DamagedFileError: A history is not made of two lists of numbers.
    """
    scalars = (checkpoint.get('message_hub') or {}).get('log_scalars') or {}
    for name, saved in scalars.items():
        if not isinstance(saved, dict):
            continue
        arrays = [saved.get(key) for key in ARRAYS]
        length = saved.get('max_length')
        if (
            not all(isinstance(a, torch.Tensor) and a.ndim == 1 for a in arrays)
            or len(arrays[0]) != len(arrays[1])
            or type(length) is not int
            or length < 1
        ):
            raise DamagedFileError(
                f'The history of {name} in the checkpoint is not two lists of numbers '
                'of equal length.'
            )
        # On an accelerator if the checkpoint was read into its memory.
        values, counts = (array.cpu().numpy() for array in arrays)
        scalars[name] = HistoryBuffer(values, counts, length)
