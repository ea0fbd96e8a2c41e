# SPDX-License-Identifier: Apache-2.0
"""Checkpoints are data: nothing that a file holds is ever run.

mmengine reads weights only at first, and then falls back to full unpickling,
which runs whatever code a file brings; its http loader unpickles at once. The
loaders here replace mmengine's for every scheme and have no fallback.
"""

import argparse
import contextlib
import errno
import functools
import os
import pickle
import re
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import torch
from mmengine.runner import checkpoint as mmengine_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader

from mmadaptor.errors import DamagedFileError, InputError, UnsafeCheckpointError

# torch obeys this one even where a caller asks for full unpickling.
FORCE_WEIGHTS_ONLY = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'
# And refuses to load anything where a user has set this one as well.
FORCE_UNPICKLING = 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'
# What torch says of a file that is cut, or a zip file of something else.
DAMAGED = ('PytorchStreamReader', 'unexpected EOF', 'inline_container')


@contextlib.contextmanager
def weights_only(name: str) -> Iterator[None]:
    """Makes every `torch.load` inside read weights only.

    Tensors, plain containers, numpy arrays, mmengine's log history and
    `argparse.Namespace` are read, all else is refused.

    Args:
        name: The checkpoint's path or address, for the errors.

    Raises:
        UnsafeCheckpointError: The file holds any other object.
        DamagedFileError: The file is truncated or no checkpoint.
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
        if not any(said in str(error) for said in DAMAGED):
            raise
        raise _damage(name, error) from error
    except OSError as error:
        # What torch's reader says where a file's directory points outside it.
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
        'Only weights are read, so the file was refused and nothing in it '
        'ran. Ask whoever made it for a file of tensors alone.'
    )


def _damage(name: str, error: Exception) -> DamagedFileError:
    reason = re.split(r'\n|\. ', str(error).strip())[0] or type(error).__name__
    return DamagedFileError(
        f'{name} is truncated or no checkpoint ({reason[:200]}). Copy or '
        'download it again, or use another.'
    )


def load_from_local(filename: str, map_location: Any = None) -> Any:
    """Reads a checkpoint from the file system, weights only.

    Args:
        filename: Path of the file; `~` is the home folder.
        map_location: As `torch.load` takes it.

    Returns:
        What the checkpoint holds.

    Raises:
        InputError: The file is missing.
    """
    path = os.path.expanduser(filename)
    if not os.path.isfile(path):
        raise InputError(f'{path}: no such checkpoint file.')
    return torch.load(path, map_location=map_location, weights_only=True)


def peek(path: str) -> dict:
    """Opens a local checkpoint without reading its tensors.

    Args:
        path: Path of the file.

    Returns:
        What the checkpoint holds, its tensors still on the disk.

    Raises:
        UnsafeCheckpointError: It holds other objects than weights.
        DamagedFileError: It is truncated or no checkpoint.
    """
    with weights_only(path):
        # The format before torch 1.6 is no zip file and cannot be mapped.
        content = torch.load(
            path, map_location='cpu', weights_only=True, mmap=zipfile.is_zipfile(path)
        )
    if not isinstance(content, dict):
        raise DamagedFileError(
            f'{path}: expected a dict of weights, got {type(content).__name__}.'
        )
    return content


def register_safe_loaders() -> None:
    """Puts loaders that read weights only in place of mmengine's."""
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
