# SPDX-License-Identifier: Apache-2.0
"""Whose code reads a dataset: that of a toolbox, or the user's own."""

from collections.abc import Iterator
from typing import Any

from torch import nn

from mmadaptor.datasets.checked_pipeline import is_remote, read_by_toolboxes
from mmadaptor.toolbox_code import has_methods_of_toolbox, of_toolbox

from .datasets import gives_samples
from .heads import gives_classes, reads_labels_itself

# The methods that list samples.
LISTING = (
    'load_data_list',
    'parse_data_info',
    'filter_data',
    'full_init',
    'get_data_info',
)


class Source:
    """A dataset of a job that reads files, without its wrappers, and who reads it.

    Args:
        key: Its key in the config.
        dataset: The dataset.
        model: The model that gets its samples.
        wrapped: Whether a user-defined wrapper gives its samples.
    """

    def __init__(self, key: str, dataset: Any, model: nn.Module, wrapped: bool) -> None:
        self.key, self.dataset = key, dataset
        self.numbered = gives_classes(model)
        self.model_is_own = reads_labels_itself(model)
        self.is_changed = wrapped or gives_samples(type(dataset))

    @property
    def split(self) -> str:
        """The data that it belongs to, such as `'train'`."""
        return self.key.partition('_')[0]

    @property
    def is_read(self) -> bool:
        """Whether its annotations were read."""
        return getattr(self.dataset, '_fully_initialized', True)

    @property
    def is_known(self) -> bool:
        """Whether it reads its annotations as a toolbox does.

        In a user-defined one, `ann_file` and `data_prefix` may be something else
        than paths, and its classes may be those of its files.
        """
        return self._has('load_data_list')

    @property
    def may_relabel(self) -> bool:
        """Whether user-defined code may change labels or masks that are listed."""
        return self.is_changed or not all(map(of_toolbox, map(type, self.transforms)))

    @property
    def may_renumber(self) -> bool:
        """Whether user-defined code may number classes otherwise than files do."""
        return self.may_relabel or not self.lists_as_toolbox

    @property
    def lists_as_toolbox(self) -> bool:
        """Whether all that lists its samples is of a toolbox."""
        return self._has(*LISTING)

    @property
    def is_one_of_several(self) -> bool:
        """Whether a wrapper has other datasets too, which may have what this lacks."""
        return '.datasets.' in self.key

    def reads(self, name: str) -> bool:
        """Return whether a toolbox reads the files of a name where they are listed."""
        if self.is_changed or not self._has('parse_data_info'):
            return False
        known = all(map(of_toolbox, map(type, self.transforms)))
        return known or name in read_by_toolboxes(self.transforms)

    @property
    def transforms(self) -> list:
        """The transforms of its pipeline."""
        return getattr(getattr(self.dataset, 'pipeline', None), 'transforms', [])

    @property
    def reads_masks(self) -> bool:
        """Whether the pipeline reads semantic masks; a test may do without."""
        has_none = not hasattr(getattr(self.dataset, 'pipeline', None), 'transforms')
        return has_none or any(getattr(t, 'with_seg', False) for t in self.transforms)

    @property
    def is_remote(self) -> bool:
        """Whether the dataset or its pipeline reads from another backend."""
        return any(map(is_remote, (self.dataset, *self.transforms)))

    def _has(self, *methods: str) -> bool:
        return has_methods_of_toolbox(type(self.dataset), *methods)

    def entries(self) -> Iterator[dict]:
        """Yield what is listed, as far as it has the form of the toolboxes'."""
        own = self.is_changed or not self._has('get_data_info', '__len__')
        for i in range(len(self.dataset)):
            try:
                info = self.dataset.get_data_info(i)
            except Exception:
                if own:
                    return
                raise
            if isinstance(info, dict):
                yield info
