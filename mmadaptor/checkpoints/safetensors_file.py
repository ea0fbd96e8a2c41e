# SPDX-License-Identifier: Apache-2.0
"""Weights and their meta as safetensors, a format that cannot hold code."""

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from mmadaptor.errors import InputError

from .integrity import NO_DIGEST

SUFFIX = '.safetensors'
META = 'mmadaptor_meta'  # the key of our meta in the file's metadata
METADATA = '__metadata__'  # the key of the metadata in the header
ITEMS = '__items__'  # marks a dict whose keys are not text
TUPLE = '__tuple__'  # marks a tuple, such as a color for mmdet's drawing


def write_safetensors(content: Mapping, path: str) -> None:
    """Write weights and their meta.

    Tensors that share memory are written several times. The same content gives the
    same bytes.

    Args:
        content: One state dict under any key and optionally `meta`, of plain values.
        path: The file.

    Raises:
        InputError: There is something else in the content.
        OSError: The file cannot be written.
    """
    meta = content.get('meta', {})
    states = [value for key, value in content.items() if key != 'meta']
    if len(states) != 1:
        raise InputError(
            f'A {SUFFIX} file holds one state dict, got {", ".join(map(str, content))}.'
        )
    if METADATA in states[0]:
        raise InputError(f'A {SUFFIX} file cannot hold a tensor named {METADATA}.')
    for name, value in states[0].items():
        if not isinstance(value, torch.Tensor) or value.layout != torch.strided:
            raise InputError(
                f'A {SUFFIX} file holds dense tensors, got {name} of type '
                f'{getattr(value, "layout", type(value).__name__)}. Use a .pth file.'
            )
    tensors = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in states[0].items()
    }
    metadata = {'format': 'pt', META: json.dumps(_encoded(meta)), 'digest': NO_DIGEST}
    try:
        save_file(tensors, path, metadata)
    except KeyError as error:
        raise InputError(f'A {SUFFIX} file cannot hold the type {error}.') from error
    _sort_metadata(path)
    # safetensors lets nobody else read its files; others obey the mask of the process.
    mask = os.umask(0)
    os.umask(mask)
    os.chmod(path, 0o666 & ~mask)


def _sort_metadata(path: str) -> None:
    """Sort the metadata of a file: safetensors writes it in an order that varies."""
    with open(path, 'r+b') as file:
        length = int.from_bytes(file.read(8), 'little')
        header = json.loads(file.read(length))
        header[METADATA] = dict(sorted(header[METADATA].items()))
        text = json.dumps(header, separators=(',', ':'), ensure_ascii=False).encode()
        if len(text) > length:
            raise RuntimeError(f'{path}: the sorted header has grown')
        file.seek(8)
        file.write(text.ljust(length))


def read_safetensors(path: str | os.PathLike, map_location: Any = None) -> dict:
    """Read weights and their meta.

    Args:
        path: The file, by us or by others.
        map_location: The device of the tensors. Anything that is not a device, such
            as a function, gives tensors on the CPU.

    Returns:
        The weights under `state_dict`, and `meta` if mmadaptor wrote it.

    Raises:
        safetensors.SafetensorError: The file is damaged.
        ValueError: Its meta is not what we write.
    """
    is_device = isinstance(map_location, str | torch.device)
    device = torch.device(map_location if is_device else 'cpu')
    with safe_open(path, 'pt') as file:
        metadata, keys = file.metadata() or {}, file.keys()
        weights = {name: file.get_tensor(name).to(device) for name in keys}
    content = dict(state_dict=weights)
    if META in metadata:
        content['meta'] = _decoded(json.loads(metadata[META]))
    return content


def _encoded(value: Any) -> Any:
    """Return a plain value as JSON has it: arrays become lists."""
    if isinstance(value, Mapping):
        marked = value.keys() in ({ITEMS}, {TUPLE})
        if all(isinstance(key, str) for key in value) and not marked:
            return {key: _encoded(item) for key, item in value.items()}
        return {ITEMS: [[_encoded(k), _encoded(v)] for k, v in value.items()]}
    if isinstance(value, list):
        return [_encoded(item) for item in value]
    if isinstance(value, tuple):
        return {TUPLE: [_encoded(item) for item in value]}
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise InputError(
        f'The meta of a {SUFFIX} file holds plain values, got {type(value).__name__}.'
    )


def _decoded(value: Any) -> Any:
    if isinstance(value, list):
        return [_decoded(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {ITEMS}:
        return {_decoded(key): _decoded(item) for key, item in value[ITEMS]}
    if value.keys() == {TUPLE}:
        return tuple(_decoded(item) for item in value[TUPLE])
    return {key: _decoded(item) for key, item in value.items()}
