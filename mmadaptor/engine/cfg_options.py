# SPDX-License-Identifier: Apache-2.0
"""`--cfg-options` that match nothing are errors, not new keys."""

import difflib
import inspect
from collections.abc import Mapping
from typing import Any

import mmengine.registry
from mmengine.config import Config
from mmengine.registry import Registry
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch.utils.data import DataLoader

from mmadaptor.errors import InputError

NEW = '+'


def merge_options(cfg: Config, options: Mapping[str, Any]) -> None:
    """Merges `--cfg-options` into a config.

    A key has to be in the config, or to be an argument of the class that its
    parent builds. Any other is taken as a misspelling, unless it is written
    with a plus: `+new.key=value`.

    Args:
        cfg: The config, which is changed.
        options: Values by dotted key.

    Raises:
        InputError: Keys match nothing; names the closest that exist.
    """
    unknown = [
        message
        for key in options
        if not key.startswith(NEW)
        if (message := _explain_unknown(cfg, key))
    ]
    if unknown:
        raise InputError(
            '\n'.join(unknown)
            + f'\nA key that is meant to be new is written {NEW}key=value.'
        )
    options = {k.removeprefix(NEW): v for k, v in options.items()}
    for key in options:
        _open_unset(cfg, key)
    cfg.merge_from_dict(options)


def find_class(name: Any, scope: str | None) -> Any:
    """The class that a config's `type` names.

    Args:
        name: The `type`: a name that some registry knows, or a class itself.
        scope: The config's `default_scope`.

    Returns:
        The class, or None if no registry knows the name.
    """
    if not isinstance(name, str):
        return name
    for registry in vars(mmengine.registry).values():
        if isinstance(registry, Registry):
            with registry.switch_scope_and_registry(scope) as scoped:
                found = scoped.get(name)
            if found is not None:
                return found
    return None


def argument_names(target: Any) -> set[str]:
    """The keywords that a class or function takes by name.

    Args:
        target: The class or function. A class that takes `**kwargs` is
            understood to pass them on to its bases.

    Returns:
        The names.
    """
    if not inspect.isclass(target):
        return set(inspect.signature(target).parameters)
    names = set()
    for base in target.__mro__:
        if '__init__' not in vars(base) or base is object:
            continue
        parameters = inspect.signature(base.__init__).parameters.values()
        names.update(
            p.name
            for p in parameters
            if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
        )
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return names - {'self'}


def default_of(cls: type, name: str) -> Any:
    """The default of a keyword of a class.

    Args:
        cls: The class; where it takes `**kwargs`, its bases are asked.
        name: The keyword.

    Returns:
        The default, or None if there is none.
    """
    for base in cls.__mro__:
        if '__init__' in vars(base) and base is not object:
            parameter = inspect.signature(base.__init__).parameters.get(name)
            if parameter is not None:
                empty = parameter.default is inspect.Parameter.empty
                return None if empty else parameter.default
    return None


def _explain_unknown(cfg: Config, key: str) -> str:
    """Says what is wrong with a key; empty if it matches something."""
    node, path = cfg, []
    for part in key.split('.'):
        if isinstance(node, list | tuple):
            if not part.isdigit() or int(part) >= len(node):
                return (
                    f'--cfg-options {key}: {".".join(path)} is a list of '
                    f'{len(node)}, so its keys are 0 to {len(node) - 1}.'
                )
            node = node[int(part)]
        elif not isinstance(node, Mapping | Config):
            return (
                f'--cfg-options {key}: {".".join(path)} is a '
                f'{type(node).__name__} and has no keys.'
            )
        elif part in node:
            node = node[part]
        else:
            known = set(node) | _arguments(node, path, cfg)
            if part in known:
                return ''
            close = difflib.get_close_matches(part, map(str, known), 1, 0.5)
            names = (
                f'Did you mean {".".join([*path, *close])}?'
                if close
                else (f'It has {", ".join(sorted(map(str, known))[:20])}.')
            )
            where = '.'.join(path) or 'the config'
            return f'--cfg-options {key}: {where} has no {part!r}. {names}'
        path.append(part)
        if node is None:
            return ''
    return ''


def _open_unset(cfg: Config, key: str) -> None:
    """Lets keys be set below one that is None, which mmengine refuses."""
    node = cfg
    for part in key.split('.')[:-1]:
        if isinstance(node, Mapping | Config) and part in node:
            if node[part] is None:
                node[part] = {}
            node = node[part]
        elif isinstance(node, list) and part.isdigit():
            node = node[int(part)]
        else:
            return


def _arguments(node: Any, path: list[str], cfg: Config) -> set[str]:
    """What the builder of this part of the config accepts by name."""
    if not path:
        return argument_names(Runner)
    target = None
    if 'type' in node:
        target = find_class(node['type'], cfg.get('default_scope'))
    elif path[-1].endswith('_dataloader'):
        target = DataLoader
    elif path == ['train_cfg'] and node.get('by_epoch'):
        target = EpochBasedTrainLoop
    elif 'adaptors' in path[-2:]:
        return _arguments_of_adaptors(path)
    return argument_names(target) if target is not None else set()


def _arguments_of_adaptors(path: list[str]) -> set[str]:
    """What a backbone's `adaptors`, or one kind of them, accept by name."""
    # The models import the engine.
    from mmadaptor.models.backbones.adaptor_config import KEYS
    from mmadaptor.models.layers import AdaptorS, AdaptorT

    if path[-1] == 'adaptors':
        return set(KEYS)
    kinds = dict(temporal=AdaptorT, spatial=AdaptorS)
    return argument_names(kinds[path[-1]]) if path[-1] in kinds else set()
