# SPDX-License-Identifier: Apache-2.0
"""Class folders of which some classes and a number of images of each are used."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmpretrain.datasets import CustomDataset
from mmpretrain.registry import DATASETS


@DATASETS.register_module()
class SomeClasses(CustomDataset):
    """A subset of a dataset of class folders.

    Args:
        classes: Names of the classes, in the order of the labels.
        per_class: Number of images of each class, drawn at random. Default: all.
        seed: Seed of the draw.
        kwargs: The other arguments of mmpretrain's `CustomDataset`.
    """

    def __init__(
        self,
        *args: Any,
        classes: Sequence[str],
        per_class: int | None = None,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        self.chosen, self.per_class, self.seed = tuple(classes), per_class, seed
        super().__init__(*args, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Return path and label of each image.

        Raises:
            ValueError: There is no such class, or a class has too few images.
        """
        everything = super().load_data_list()
        folders = self._metainfo.pop('classes')
        rng = np.random.default_rng(self.seed)
        samples = []
        for label, name in enumerate(self.chosen):
            if name not in folders:
                raise ValueError(
                    f'`classes` must be names of folders in {self.img_prefix}, which '
                    f'has {list(folders)}, got {name!r}'
                )
            found = [s for s in everything if s['gt_label'] == folders.index(name)]
            count = self.per_class or len(found)
            if count > len(found):
                raise ValueError(
                    f'`per_class` must be at most {len(found)}, the number of images '
                    f'of {name} in {self.img_prefix}, got {count}'
                )
            taken = np.sort(rng.choice(len(found), count, replace=False))
            samples += [dict(found[i], gt_label=label) for i in taken]
        self._metainfo['classes'] = self.chosen
        return samples
