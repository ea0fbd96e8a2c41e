"""The embedded classification task in two: old classes and new ones."""

import shutil
from pathlib import Path

from mmadaptor.datasets import prepare

OLD = ('columns', 'disc_off', 'disc_on', 'rows')
NEW = ('star5', 'star6')


def root_of(classes: tuple[str, ...]) -> str:
    """The dataset of some classes alone.

    Args:
        classes: The classes.

    Returns:
        Its folder.
    """
    return f'data/shapes_{"_".join(classes)}'


def split_classes() -> None:
    """Makes both datasets, of links into the embedded one."""
    shapes = prepare()
    for classes in (OLD, NEW):
        root = Path(root_of(classes))
        shutil.rmtree(root, ignore_errors=True)
        for split in ('train', 'val'):
            folder = root / 'classes' / split
            folder.mkdir(parents=True)
            for name in classes:
                (folder / name).symlink_to(shapes / 'classes' / split / name)
