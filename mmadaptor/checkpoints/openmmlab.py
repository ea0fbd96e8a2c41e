# SPDX-License-Identifier: Apache-2.0
"""What mmengine reads and builds, with our reading and strict loading."""

import copy
from typing import Any

from mmengine.config import Config
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import checkpoint as mmengine_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn

from mmadaptor.errors import as_input_error

from .loading import load_from_url, meta_of, read_checkpoint, read_file
from .strict import load_model, prepare

# The functions of mmengine that all of its loaders call to read a file.
READERS = ('_safe_torch_load', 'load_url')


def register_safe_loaders() -> None:
    """Make all of mmengine's checkpoint loaders read files by :func:`read_file`.

    Raises:
        ImportError: This mmengine reads its files otherwise.
    """
    if lacking := [name for name in READERS if not hasattr(mmengine_checkpoint, name)]:
        raise ImportError(
            f'mmengine.runner.checkpoint has no {lacking[0]}: expected '
            'onedl-mmengine 0.10.12 or a later one that reads checkpoints by it.'
        )
    mmengine_checkpoint._safe_torch_load = read_file
    mmengine_checkpoint.load_url = load_from_url
    CheckpointLoader.register_scheme('', read_file, force=True)


def load_from_address(address: str, map_location: Any = None) -> dict:
    """Read a checkpoint from an address that mmengine knows, weights only."""
    register_safe_loaders()
    return CheckpointLoader.load_checkpoint(address, map_location)


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the model inside wrappers for processes or test-time augmentation."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


def build_and_load(cfg: Config, path: str) -> nn.Module:
    """Build the model of a config and load a checkpoint, strictly.

    Args:
        cfg: The config.
        path: The checkpoint. One of adaptors only is completed with its base.

    Returns:
        The model; its `dataset_meta` is that of the checkpoint, empty if it has none.

    Raises:
        InputError: The config of the model is wrong, or the checkpoint is missing,
            damaged, or of another model.
    """
    init_default_scope(cfg.get('default_scope', 'mmadaptor'))
    checkpoint = read_checkpoint(path)
    settings = copy.copy(cfg.model)
    # mmpretrain's configs have it beside the model.
    if cfg.get('data_preprocessor'):
        settings.setdefault('data_preprocessor', cfg.data_preprocessor)
    with as_input_error('model'):
        model = MODELS.build(settings)
    prepare(model, checkpoint, path)
    load_model(model, checkpoint, path)
    model.dataset_meta = dict(meta_of(checkpoint).get('dataset_meta') or {})
    return model
