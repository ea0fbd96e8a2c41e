# SPDX-License-Identifier: Apache-2.0
"""Find, and remove, the checkpoints that a model's config starts from."""

import importlib.util
import os
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmadaptor.toolbox_code import of_toolbox

PUBLISHED = ('vmamba', 'vim')
# Of a checkpoint, by the names of mmengine's registry and by its class.
INITIALIZERS = ('Pretrained', 'mmengine.Pretrained', 'PretrainedInit')
# Where `pretrained` is no path but says whether timm or transformers load weights.
OTHER_LIBRARIES = ('HuggingFaceClassifier', 'TIMMBackbone', 'TimmClassifier')


def is_pretrained(node: Any) -> bool:
    """Return whether an `init_cfg` loads a checkpoint."""
    kind = node.get('type') if isinstance(node, dict) else None
    return getattr(kind, '__name__', kind) in INITIALIZERS


def _has_path(node: dict) -> bool:
    """Return whether `pretrained` of a module is the path of a checkpoint.

    In a user-defined module it may be anything: a name of open_clip or timm, or a
    folder that the module reads its width from.
    """
    if not isinstance(node.get('pretrained'), str):
        return False
    kind = _class_of(node.get('type'))
    if not of_toolbox(getattr(kind, '__init__', None)):
        return False
    if of_toolbox(kind, 'mmseg') and isinstance(node.get('backbone'), dict):
        # Segmentors hand it to their backbone.
        return _has_path({**node['backbone'], 'pretrained': node['pretrained']})
    return kind.__name__ not in OTHER_LIBRARIES


def _class_of(kind: Any) -> Any:
    """Return what `type` of a module names; None for nothing.

    Without a default scope, as before a runner is built, all toolboxes are searched.
    """
    if not isinstance(kind, str):
        return kind
    from mmengine.registry import MODELS  # models can be used without mmengine

    from mmadaptor.registry import in_scope

    if found := in_scope(MODELS, kind):
        return found
    for toolbox in ('mmdet', 'mmpretrain', 'mmseg'):
        if not importlib.util.find_spec(toolbox):
            continue
        try:
            with MODELS.switch_scope_and_registry(toolbox) as registry:
                found = registry.get(kind)
        except ImportError:  # mmdet without the ops of mmcv
            continue
        if found:
            return found
    return None


def starts_itself(node: Mapping) -> bool:
    """Return whether a module has initial weights by a user-defined method.

    What its `init_cfg` names may be no path.
    """
    if not node.get('init_cfg'):
        return False  # its type may be anything, such as a pattern of names
    method = getattr(_class_of(node.get('type')), 'init_weights', None)
    return method is not None and not of_toolbox(method)


def find_pretrained(
    node: Any, key: str = 'model', own: bool = True
) -> Iterator[tuple[str, str]]:
    """Walk the config of a model.

    Args:
        node: The config, or a part of it.
        key: Its dotted key.
        own: Whether to look into an `init_cfg` that user-defined code reads.

    Yields:
        The dotted key and the value of each checkpoint that the model loads.
    """
    if isinstance(node, dict):
        if is_pretrained(node) and node.get('checkpoint'):
            yield f'{key}.checkpoint', node['checkpoint']
        if _has_path(node):
            yield f'{key}.pretrained', node['pretrained']
    for name, value in _children(node):
        if own or name != 'init_cfg' or not starts_itself(node):
            yield from find_pretrained(value, f'{key}.{name}', own)


def drop_pretrained(node: Any) -> None:
    """Remove every pretrained checkpoint from the config of a model, in place.

    Args:
        node: The config, or a part of it.
    """
    if isinstance(node, dict):
        init_cfg = None if starts_itself(node) else node.get('init_cfg')
        if isinstance(init_cfg, list):
            node['init_cfg'] = [c for c in init_cfg if not is_pretrained(c)]
        elif is_pretrained(init_cfg):
            node['init_cfg'] = None
        if _has_path(node):
            node['pretrained'] = None
    for _, value in _children(node):
        drop_pretrained(value)


def _children(node: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(node, dict):
        yield from node.items()
    elif isinstance(node, list | tuple):
        yield from enumerate(node)


def how_to_make(checkpoint: str, config: str | None) -> str:
    """Name the commands that make a missing checkpoint.

    Args:
        checkpoint: Its path. The config that trains it has the name of the file
            or of its folder; names of published models start with
            `PUBLISHED`.
        config: The config that needs it. The other config is looked for next to
            it.

    Returns:
        A sentence; empty if no command is known.
    """
    path, ways = Path(checkpoint), []
    for name in (path.stem, path.parent.name) if config else ():
        recipe = Path(config).with_name(f'{name}.py')
        if recipe.is_file():
            link = f', then link work_dirs/{name}/epoch_*.pth to it'
            ways.append(
                f'python tools/train.py {shlex.quote(os.path.relpath(recipe))}'
                f'{link if name == path.stem else ""}'
            )
            break
    family = path.stem.partition('_')[0]
    if family in PUBLISHED:
        ways.append(
            f'python tools/convert_checkpoint.py --from {family} PUBLISHED '
            f'{shlex.quote(checkpoint)}'
        )
    return f'Make {checkpoint} by: {", or by: ".join(ways)}.' if ways else ''
