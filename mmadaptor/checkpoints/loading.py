# SPDX-License-Identifier: Apache-2.0
"""Weights-only reading of checkpoints, without a fallback to unpickling.

mmengine first reads weights only and then falls back to full unpickling, which
runs any code that a file carries. Its http loader unpickles at once.
"""

import argparse
import contextlib
import errno
import functools
import os
import pickle
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from mmengine.runner import checkpoint as mmengine_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader

from mmadaptor.errors import DamagedFileError, InputError, UnsafeCheckpointError

# Makes torch read weights only even where a caller asks for full unpickling.
FORCE_WEIGHTS_ONLY = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'
# If a user sets this one, torch refuses to load at all beside the first.
FORCE_UNPICKLING = 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'
# Parts of torch's messages on truncated files and on other zip files.
DAMAGED = ('PytorchStreamReader', 'unexpected EOF', 'inline_container')


@contextlib.contextmanager
def weights_only(name: str) -> Iterator[None]:
    """Make every `torch.load` in the context read weights only.

    Tensors, plain containers, numpy arrays, mmengine's log history and
    `argparse.Namespace` are read. Everything else is refused.

    Args:
        name: Path or address of the checkpoint, for error messages.

    Raises:
        UnsafeCheckpointError: The file holds another object.
        DamagedFileError: The file is truncated or not a checkpoint.
        InputError: The file cannot be read.
    """
    allowed = [*mmengine_checkpoint.get_torch_safe_globals(), argparse.Namespace]
    before = {
        name: os.environ.pop(name, None)
        for name in (FORCE_WEIGHTS_ONLY, FORCE_UNPICKLING)
    }
    os.environ[FORCE_WEIGHTS_ONLY] = '1'
    try:
        with torch.serialization.safe_globals(allowed):
            yield
    except pickle.UnpicklingError as error:
        raise _refusal(name, error) from error
    except (EOFError, zipfile.BadZipFile, LookupError) as error:
        raise _damage(name, error) from error
    except RuntimeError as error:
        if not any(part in str(error) for part in DAMAGED):
            raise
        raise _damage(name, error) from error
    except OSError as error:
        # torch's reader, if the file's directory points outside the file.
        if error.errno == errno.EINVAL:
            raise _damage(name, error) from error
        raise InputError(f'{name} cannot be read: {error}') from error
    finally:
        del os.environ[FORCE_WEIGHTS_ONLY]
        os.environ.update({k: v for k, v in before.items() if v is not None})


def _refusal(name: str, error: Exception) -> InputError:
    found = re.search(r'GLOBAL (\S+)', str(error))
    if found is None:
        return _damage(name, error)
    return UnsafeCheckpointError(
        f'{name} holds a pickled object ({found.group(1)}) besides weights. '
        'mmadaptor reads weights only, so the file was refused and none of its '
        'code ran. Ask its author for a file that holds only tensors.'
    )


def _damage(name: str, error: Exception) -> DamagedFileError:
    reason = re.split(r'\n|\. ', str(error).strip())[0] or type(error).__name__
    return DamagedFileError(
        f'{name} is truncated or not a checkpoint ({reason[:200]}). Copy or '
        'download it again, or use another file.'
    )


def load_from_local(filename: str, map_location: Any = None) -> Any:
    """Read a checkpoint from the file system, weights only.

    Args:
        filename: Path of the file; `~` is expanded.
        map_location: As in `torch.load`.

    Returns:
        The content of the checkpoint.

    Raises:
        InputError: The file does not exist.
    """
    path = os.path.expanduser(filename)
    if not os.path.isfile(path):
        raise InputError(f'{path}: no such checkpoint file.')
    return torch.load(path, map_location=map_location, weights_only=True)


def read_checkpoint(source: str, map_location: Any = 'cpu') -> dict:
    """Read a checkpoint from a path or address, weights only.

    Args:
        source: A path, or an address that mmengine's `CheckpointLoader` knows.
        map_location: As in `torch.load`.

    Returns:
        The content of the checkpoint.

    Raises:
        InputError: The file is missing, damaged, or holds other objects.
    """
    with weights_only(source):
        if '://' in source:
            content = CheckpointLoader.load_checkpoint(source, map_location)
        else:
            content = load_from_local(source, map_location)
    return _as_dict(content, source)


def peek(path: str) -> dict:
    """Open a local checkpoint without reading its tensors.

    Args:
        path: Path of the file.

    Returns:
        The content of the checkpoint; its tensors stay on the disk.

    Raises:
        UnsafeCheckpointError: The file holds objects other than weights.
        DamagedFileError: The file is truncated or not a checkpoint.
    """
    with weights_only(path):
        # Files of torch before 1.6 are not zip files and cannot be mapped.
        content = torch.load(
            path, map_location='cpu', weights_only=True, mmap=zipfile.is_zipfile(path)
        )
    return _as_dict(content, path)


def _as_dict(content: Any, source: str) -> dict:
    if not isinstance(content, dict):
        raise DamagedFileError(
            f'{source}: expected a dict of weights, got {type(content).__name__}.'
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
            under `'state_dict'`.
        source: Where it comes from, for the error message.

    Returns:
        The weights by name.

    Raises:
        DamagedFileError: There is no state dict.
    """
    if isinstance(checkpoint, Mapping):
        checkpoint = checkpoint.get('state_dict', checkpoint)
    return _as_dict(checkpoint, source)


def register_safe_loaders() -> None:
    """Replace mmengine's checkpoint loaders by loaders that read weights only."""
    schemes = {
        ('',): load_from_local,
        ('http://', 'https://'): mmengine_checkpoint.load_from_http,
        ('pavi://',): mmengine_checkpoint.load_from_pavi,
        (r'(\S+\:)?s3://', r'(\S+\:)?petrel://'): mmengine_checkpoint.load_from_ceph,
        ('modelzoo://', 'torchvision://'): mmengine_checkpoint.load_from_torchvision,
        ('open-mmlab://', 'openmmlab://'): mmengine_checkpoint.load_from_openmmlab,
        ('mmcls://',): mmengine_checkpoint.load_from_mmcls,
    }
    for prefixes, loader in schemes.items():
        CheckpointLoader.register_scheme(prefixes, _guarded(loader), force=True)


def _guarded(loader: Callable) -> Callable:

    @functools.wraps(loader)
    def load(filename: str, map_location: Any = None) -> Any:
        with weights_only(filename):
            return loader(filename, map_location)

    return load
