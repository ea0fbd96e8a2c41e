# SPDX-License-Identifier: Apache-2.0
"""Weights-only reading of checkpoints, without a fallback to unpickling.

mmengine first reads weights only and then falls back to full unpickling, which
runs any code that a file carries. Its http loader unpickles at once.
"""

import contextlib
import errno
import os
import pickle
import re
from collections import OrderedDict
from collections.abc import Callable, Container, Iterator, Mapping
from typing import Any
from urllib.parse import urlparse

import torch

from mmadaptor.environment import has_code
from mmadaptor.errors import DamagedFileError, InputError, UnsafeCheckpointError

from .allowed import allowed_objects, plain
from .integrity import is_safetensors, verify
from .opcodes import ProtocolError, check_opcodes
from .safetensors_file import read_safetensors

KEYS = ('state_dict', 'model', 'model_ema', 'state_dict_ema')
"""Keys of weights in the files of toolboxes, of timm and of published trainings."""


@contextlib.contextmanager
def _errors_of(name: str) -> Iterator[None]:
    """Name the file in all that its content makes torch raise."""
    try:
        yield
    except InputError:
        raise
    except pickle.UnpicklingError as error:
        raise _refusal(name, error) from error
    except OSError as error:
        # torch's reader, if the file's directory points outside the file.
        if error.errno == errno.EINVAL:
            raise _damage(name, error) from error
        raise InputError(f'{name} cannot be read: {error}') from error
    except torch.OutOfMemoryError:  # of the device
        raise
    except Exception as error:  # whatever damaged bytes lead to
        raise _damage(name, error) from error


def _refusal(name: str, error: Exception) -> InputError:
    if isinstance(error, ProtocolError):
        return InputError(
            f'{name} has {error}, which weights-only reading does not support: '
            'expected protocol 2. Nothing was read. Ask its author to save it by '
            'torch.save(content, path), without pickle_protocol.'
        )
    found = re.search(r'GLOBAL (\S+)', str(error))
    if found is None:
        return _damage(name, error)
    return UnsafeCheckpointError(
        f'{name} holds a pickled object ({found.group(1)}) besides weights. '
        'mmadaptor reads weights only, so the file was refused and none of its '
        'code ran. Ask its author for a file that holds only tensors.'
    )


def _damage(name: str, error: Exception) -> DamagedFileError:
    text = str(error).strip().partition('WeightsUnpickler error: ')
    reason = re.split(r'\n|\. ', text[2] or text[0])[0] or type(error).__name__
    return DamagedFileError(
        f'{name} is truncated or not a checkpoint ({reason[:200]}). Copy or '
        'download it again, or use another file.'
    )


def read_file(
    file: Any,
    map_location: Any = None,
    weights_only: bool = True,
    name: str | None = None,
    mmap: bool = False,
) -> dict:
    """Read a checkpoint: check it for damage, then take weights only.

    Tensors, plain containers and the objects of :mod:`.allowed` are read.
    Everything else is refused. Safetensors are read by their content, whatever
    the name of the file.

    Args:
        file: A path, whose `~` is expanded, or an open binary file, which is not
            checked for damage.
        map_location: As in `torch.load`.
        weights_only: Unused: nothing else is read.
        name: The name for error messages. Default: `file`.
        mmap: Whether the tensors of a zip file stay on the disk.

    Returns:
        The content.

    Raises:
        UnsafeCheckpointError: The file holds another object.
        DamagedFileError: The file is damaged or not a checkpoint, or its state
            dict holds something else than tensors.
        InputError: The file does not exist, is not a regular file, or cannot
            be read.
    """
    is_path = isinstance(file, str | os.PathLike)
    name = name or (os.fspath(file) if is_path else 'The checkpoint')
    file = os.path.expanduser(file) if is_path else file
    if is_path and not os.path.isfile(file):
        kind = (
            'not a regular file' if os.path.exists(file) else 'no such checkpoint file'
        )
        raise InputError(f'{name}: {kind}.')
    sparse = torch.sparse.check_sparse_tensor_invariants(True)
    with _errors_of(name), allowed_objects(), sparse:
        if is_path:
            verify(file)
        with open(file, 'rb') if is_path else contextlib.nullcontext(file) as opened:
            tensors_only = is_path and is_safetensors(opened)
            zipped = not tensors_only and check_opcodes(opened)
        if tensors_only:
            content = read_safetensors(file, map_location)
        else:
            # Files of torch before 1.6 are not zip files and cannot be mapped.
            use_mmap = mmap and zipped
            content = torch.load(file, map_location, weights_only=True, mmap=use_mmap)
            content = plain(content)
    if 'state_dict' in _as_dict(content, name):
        weights_of(content, name)
    return content


def load_from_url(
    url: str,
    model_dir: str | None = None,
    map_location: Any = None,
    progress: bool = True,
) -> dict:
    """Download a checkpoint as `torch.hub` does, then read it as a file.

    Args:
        url: Its address.
        model_dir: The folder of downloads. Default: torch's.
        map_location: As in `torch.load`.
        progress: Whether to show the progress of the download.

    Returns:
        The content.

    Raises:
        InputError: It cannot be downloaded or read.
    """
    folder = model_dir or os.path.join(torch.hub.get_dir(), 'checkpoints')
    with _errors_of(url):
        path = os.path.join(folder, os.path.basename(urlparse(url).path))
        if not os.path.exists(path):
            os.makedirs(folder, exist_ok=True)
            torch.hub.download_url_to_file(url, path, progress=progress)
    return read_file(path, map_location, name=f'{url} ({path})')


def read_checkpoint(source: str, map_location: Any = 'cpu') -> dict:
    """Read a checkpoint from a path or URL, weights only.

    Args:
        source: A path, a URL, or with mmengine any address that its
            `CheckpointLoader` knows.
        map_location: As in `torch.load`.

    Returns:
        The content of the checkpoint.

    Raises:
        InputError: The file is missing, damaged, or holds other objects, or the kind of
            address is unknown.
    """
    if '://' not in source:
        return read_file(source, map_location)
    if has_code('mmengine'):
        from .openmmlab import load_from_address

        return load_from_address(source, map_location)
    if not re.match('https?://', source):
        raise InputError(
            f'{source}: expected a path or an address that starts with https, because '
            'mmengine, which knows others, is not installed.'
        )
    return load_from_url(source, map_location=map_location)


def peek(path: str) -> dict:
    """Open a local checkpoint without reading its tensors.

    Args:
        path: Path of the file; `~` is expanded.

    Returns:
        The content of the checkpoint; its tensors stay on the disk.

    Raises:
        InputError: As :func:`read_file`.
    """
    return read_file(path, 'cpu', mmap=True)


def _as_dict(content: Any, source: str) -> dict:
    if not isinstance(content, dict):
        raise DamagedFileError(
            f'{source}: expected a dict of weights, got {type(content).__name__}.'
        )
    # A file can give an OrderedDict attributes that hide its methods.
    if hidden := set(getattr(content, '__dict__', ())) - {'_metadata'}:
        raise DamagedFileError(f'{source}: its dict has the attribute {min(hidden)!r}.')
    versions = getattr(content, '_metadata', None) or {}
    if not isinstance(versions, dict) or not all(
        isinstance(name, str)
        and isinstance(of_module, dict)
        and isinstance(of_module.get('version', 0), int | None)
        for name, of_module in versions.items()
    ):
        raise DamagedFileError(
            f'{source}: expected the versions of modules by name in the `_metadata` of '
            'its state dict.'
        )
    return content


def meta_of(checkpoint: Mapping) -> Mapping:
    """Return the `meta` of a checkpoint; empty if it has none."""
    meta = checkpoint.get('meta')
    return meta if isinstance(meta, Mapping) else {}


def weights_of(checkpoint: Any, source: str) -> Mapping[str, torch.Tensor]:
    """Return the state dict of a checkpoint.

    Args:
        checkpoint: The content of a file: a state dict, or a dict that has one
            under one of `KEYS`.
        source: Where it comes from, for the error message.

    Returns:
        The weights by name.

    Raises:
        DamagedFileError: There is no state dict, or it holds something else
            than tensors.
    """
    if isinstance(checkpoint, Mapping):
        keys = (k for k in KEYS if isinstance(checkpoint.get(k), Mapping))
        checkpoint = checkpoint.get(next(keys, 'state_dict'), checkpoint)
    for name, value in _as_dict(checkpoint, source).items():
        extra = isinstance(name, str) and name.endswith('_extra_state')
        if not isinstance(name, str) or not (extra or isinstance(value, torch.Tensor)):
            raise DamagedFileError(
                f'{source}: expected tensors by name in its state dict, got '
                f'{type(value).__name__} by {name!r}.'
            )
    return checkpoint


def renamed(
    weights: Mapping[str, torch.Tensor], rename: Callable[[str], str | None]
) -> OrderedDict[str, torch.Tensor]:
    """Return weights by other names, with the versions of their modules.

    By the version, a module knows how to read what an older one of its kind saved.

    Args:
        weights: A state dict.
        rename: Returns the new name of a weight, or None to leave it out. It also gets
            the names of modules, with a dot at the end.
    """
    found = OrderedDict(
        (new, value)
        for name, value in weights.items()
        if (new := rename(name)) is not None
    )
    versions = getattr(weights, '_metadata', None) or {}
    found._metadata = OrderedDict(
        (new.removesuffix('.'), of_module)
        for name, of_module in versions.items()
        if (new := rename(f'{name}.')) is not None
    )
    return found


def without(
    weights: Mapping[str, torch.Tensor], names: Container[str]
) -> OrderedDict[str, torch.Tensor]:
    """Return weights without some, as :func:`renamed` does."""
    return renamed(weights, lambda name: None if name in names else name)
