# SPDX-License-Identifier: Apache-2.0
"""Builds the datasets of a job: first those that read files, then their wrappers.

A wrapper copies the classes of its dataset when it is built, and `ConcatDataset`
compares them. Some datasets know their classes only when they have read their files.
So they are built without reading, for their paths to be checked, then read, and only
then wrapped.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from inspect import isclass
from typing import Any

from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS

from mmadaptor.errors import InputError
from mmadaptor.registry import in_scope
from mmadaptor.toolbox_code import of_toolbox

from .report import Report


class Built:
    """The type of a config whose dataset is built: mmengine copies configs, not this.

    Args:
        dataset: The dataset.
        cfg: Its config. A wrapper that changes it gets a dataset of the changed one.
            None: it has no arguments.
    """

    def __init__(self, dataset: Any, cfg: dict | None = None) -> None:
        self.dataset, self.cfg = dataset, cfg

    def __deepcopy__(self, memo: dict) -> 'Built':
        return self

    def __call__(self, **arguments: Any) -> Any:
        """Return the dataset, as a class would make one of these arguments."""
        if self.cfg is None:
            return self.dataset
        own = dict(self.cfg)
        scope = {'_scope_': own.pop('_scope_')} if '_scope_' in own else {}
        cfg = {**arguments, 'type': own['type']}
        return self.dataset if cfg == own else build({**cfg, **scope})


@contextmanager
def _unknown_argument_named(cfg: dict) -> Iterator[None]:
    try:
        yield
    except TypeError as error:
        unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        if unknown and unknown[1] in cfg:
            raise InputError(
                f'{cfg["type"]} has no argument `{unknown[1]}`: {error}. If a base '
                'config sets it for another dataset, add _delete_=True to yours'
            ) from error
        raise


def build(cfg: dict) -> Any:
    """Build a dataset.

    Raises:
        InputError: The class of the dataset has no such argument.
    """
    with _unknown_argument_named(cfg):
        return DATASETS.build(cfg)


def build_lazily(cfg: dict) -> Any:
    """Build a dataset that reads files; it reads them later, if its class can do that.

    Raises:
        InputError: The class of the dataset has no such argument.
    """
    lazy = cfg.copy()
    kind = _class_of(cfg)
    # A user-defined `__init__` may need what it has read.
    if isclass(kind) and issubclass(kind, BaseDataset) and of_toolbox(kind.__init__):
        lazy.setdefault('lazy_init', True)
    with _unknown_argument_named(cfg):
        try:
            return DATASETS.build(lazy)
        except TypeError as error:
            # A class may hand all arguments to another one.
            if "unexpected keyword argument 'lazy_init'" not in str(error):
                raise
            return DATASETS.build(cfg)


def build_leaves(
    cfg: dict, key: str, report: Report, own: bool = False
) -> tuple[dict | None, list[tuple[str, Any, bool]]]:
    """Build the datasets that read files, lazily.

    Returns:
        The config, in which these datasets are built and their wrappers are not, or
        None if one cannot be built; and what :func:`leaves` yields.
    """
    own = own or gives_samples(_class_of(cfg))
    if not _is_wrapper(cfg):
        with report.collect(key, str(cfg.get('type'))):
            dataset = build_lazily(cfg)
            return {**cfg, 'type': Built(dataset, cfg)}, list(leaves(dataset, key, own))
        return None, []
    built, found = dict(cfg), []
    for name, inner in _inside(cfg).items():
        several = isinstance(inner, list | tuple)
        parts = [
            build_leaves(child, f'{key}.{name}{f".{i}" * several}', report, own)
            for i, child in enumerate(inner if several else [inner])
        ]
        found += [leaf for _, leaves_of_part in parts for leaf in leaves_of_part]
        children = [child for child, _ in parts]
        built[name] = children if several else children[0]
        if None in children:
            return None, found
    return built, found


def name_of(cfg: dict) -> str:
    """Return the name of the class in the config of a dataset."""
    kind = cfg['type']
    kind = type(kind.dataset) if isinstance(kind, Built) else kind
    return str(getattr(kind, '__name__', kind))


def leaves(
    dataset: Any, key: str, own: bool = False
) -> Iterator[tuple[str, Any, bool]]:
    """Yield each dataset that reads files, inside wrappers.

    Yields:
        Its key; the dataset; whether user-defined code gives its samples. That may
        change them, or leave out those that cannot be read.
    """
    own = own or gives_samples(type(dataset))
    several, one = (getattr(dataset, name, None) for name in ('datasets', 'dataset'))
    if isinstance(several, list | tuple) and several and all(map(_is_dataset, several)):
        for i, child in enumerate(several):
            yield from leaves(child, f'{key}.datasets.{i}', own)
    elif _is_dataset(one):
        yield from leaves(one, f'{key}.dataset', own)
    else:
        yield key, dataset, own


def gives_samples(kind: Any) -> bool:
    """Return whether a class of datasets has a user-defined method for samples."""
    methods = (getattr(kind, name, None) for name in ('__getitem__', 'prepare_data'))
    return any(method and not of_toolbox(method) for method in methods)


def _is_dataset(inner: Any) -> bool:
    """Return whether what a dataset holds is one of mmengine, and not its data."""
    return hasattr(inner, 'full_init')


def _inside(cfg: dict) -> dict[str, Any]:
    """Return the configs of datasets that one has, by the names of its arguments."""
    found = {}
    for name in ('dataset', 'datasets'):
        inner = cfg.get(name)
        several = inner if isinstance(inner, list | tuple) else [inner]
        if several and all(isinstance(c, dict) and _class_of(c) for c in several):
            found[name] = inner
    return found


def _class_of(cfg: dict) -> Any:
    """Return the class of a dataset's config; None if there is no such dataset."""
    return in_scope(DATASETS, cfg.get('type'))


def _is_wrapper(cfg: dict) -> bool:
    """Return whether a toolbox's class builds what is inside by the registry.

    A user-defined one may do anything else with its config.
    """
    return bool(_inside(cfg)) and of_toolbox(getattr(_class_of(cfg), '__init__', None))
