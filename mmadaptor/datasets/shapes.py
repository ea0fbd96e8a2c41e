# SPDX-License-Identifier: Apache-2.0
"""The embedded dataset `shapes`, generated locally in the COCO format.

Each image has 128 x 128 pixels and three to six labeled shapes, usually 17 to 57 pixels
wide, on a background with blotches and patterns. Unlabeled triangles, bars and crosses
lie above and below them. The classes form three pairs. Each pair differs in one kind of
cue:

=================  ============================  ============================
classes            difference                    position of the cue
=================  ============================  ============================
disc_on, disc_off  whether the lamp in the rows  a side of the image, 2 to 98
                   of the disc is lit; the       pixels from the disc, half of
                   discs look alike              them 49 or more
rows, columns      the orientation of stripes    in any 10 pixels of the
                   2 to 3 pixels wide            shape, not in its outline
star5, star6       the number of points          along the whole outline,
                                                 which is often partly hidden
=================  ============================  ============================

Four lamps, each 16 pixels wide and 32 pixels high, fill the left or the right side of
every image, in front of everything. A lit lamp is yellow, an unlit one nearly black.
Each is lit independently at random. Lamps have no label. Every disc lies in the rows of
one lamp. Colors, sizes, positions and rotations of the shapes are independent of their
class. Each cue survives flips, scaling, and color changes except inversion. A crop
keeps the class of a disc only if it keeps the lamp of the disc.

One set of images has labels in three forms, in the folder layout of COCO:

.. code-block:: text

    annotations/instances_{train,val}.json    instances: run lengths and boxes of the
                                              visible pixels
    images/{train,val}/000000.png             the images
    masks/{train,val}/000000.png              class of each pixel: 0 for background, or
                                              the category id
    classes/{train,val}/CLASS/000000_0.png    one class per image: each labeled shape
                                              alone, on its background with its lamps
    shapes.json                               the stamp: arguments of the generation,
                                              number of files and their digest

`CLASSES` is in alphabetical order, because class folders are numbered in that order. A
class has the same index in all three forms.
"""

import json
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from mmengine.logging import print_log

from .draw import draw, draw_background
from .labels import CLASSES, annotate, instances
from .sampling import sample_scene
from .scene import SIZE, Scene, visible_masks
from .stamped_folder import check_root, damage, fresh_folder, locked, read_stamp

VERSION = 5  # increase it with every change of the images or the files
NAME = 'shapes'
SPLITS = ('train', 'val')


def make_shapes(
    root: str | Path,
    train: int = 2000,
    val: int = 300,
    seed: int = 0,
    workers: int | None = None,
) -> Path:
    """Make the dataset, unless it exists and all its files are as they were written.

    The content depends on `train`, `val` and `seed` only, and image i of a split on the
    seed and i only. The folder is created atomically after all files are written, so
    that an existing folder is complete. A dataset made with other arguments is
    replaced. A folder with other content is never changed. Concurrent calls wait for
    the first one.

    Args:
        root: Folder of the dataset.
        train: Number of training images.
        val: Number of validation images.
        seed: Random seed.
        workers: Number of processes. Default: one per available core. 1 uses no extra
            process.

    Returns:
        The resolved folder of the dataset.

    Raises:
        ValueError: A number is not an integer, or is too small.
        NotADirectoryError: `root` is a file.
        FileExistsError: `root` has other content than this dataset.
        ChildProcessError: A worker process died.
    """
    check_numbers(train, val, seed, 1 if workers is None else workers)
    wanted = dict(version=VERSION, train=train, val=val, seed=seed, size=SIZE)
    root = check_root(root, NAME)
    if not damage(root, NAME, wanted):
        return root  # without the lock, which needs write access
    with locked(root):
        if reason := damage(root, NAME, wanted):
            print_log(
                f'{root}: {reason}. Making the dataset of {train} + {val} images',
                'current',
            )
            build(root, wanted, workers or len(os.sched_getaffinity(0)))
    return root


def prepare(root: str | Path = 'data/shapes') -> Path:
    """Make the dataset unless a complete one exists.

    Args:
        root: Folder of the dataset. A complete dataset is kept, even if it was made
            with other arguments than the defaults of `make_shapes`. If files are
            missing or damaged, it is made again with its own arguments. If there is no
            dataset of this version, the default one is made.

    Returns:
        The resolved folder of the dataset.

    Raises:
        NotADirectoryError: `root` is a file.
        FileExistsError: `root` has other content than this dataset.
        ChildProcessError: A worker process died.
    """
    stamp = read_stamp(check_root(root, NAME), NAME) or {}
    if stamp.get('version') != VERSION:
        return make_shapes(root)
    try:
        return make_shapes(
            root, *(stamp.get(name) for name in ('train', 'val', 'seed'))
        )
    except ValueError:  # a stamp without an argument, or with a wrong one
        return make_shapes(root)


def check_numbers(train: int, val: int, seed: int, workers: int) -> None:
    """Refuse numbers of another type, and those that are too small."""
    for name, value, least in (
        ('train', train, 1),
        ('val', val, 1),
        ('seed', seed, 0),
        ('workers', workers, 1),
    ):
        if type(value) is not int or value < least:
            raise ValueError(
                f'make_shapes: `{name}` must be an integer of '
                f'{least} or more, got {value!r}'
            )


def build(root: Path, wanted: dict, workers: int) -> None:
    """Write the dataset to a temporary folder, then rename it to its final path.

    Args:
        root: Folder of the dataset.
        wanted: Entries of the stamp.
        workers: Number of processes.
    """
    try:
        with fresh_folder(root, NAME, wanted) as fresh:
            for split in SPLITS:
                write_split(fresh, split, wanted[split], wanted['seed'], workers)
    except BrokenProcessPool as error:
        raise ChildProcessError(
            'make_shapes: a worker process died, perhaps for lack of memory. '
            f'{root} is unchanged. Try again, or with fewer workers (--workers 1)'
        ) from error


def write_split(root: Path, split: str, count: int, seed: int, workers: int) -> None:
    """Write the images and labels of one split.

    Args:
        root: Folder to write to.
        split: 'train' or 'val'.
        count: Number of images.
        seed: Seed of the dataset.
        workers: Number of processes.
    """
    for folder in (
        f'images/{split}',
        f'masks/{split}',
        *(f'classes/{split}/{name}' for name in CLASSES),
    ):
        (root / folder).mkdir(parents=True)
    write = partial(write_image, root, split, seed)
    if workers == 1:
        labels = [write(index) for index in range(count)]
    else:
        context = multiprocessing.get_context('fork')
        with ProcessPoolExecutor(workers, context) as pool:
            labels = list(pool.map(write, range(count), chunksize=16))
    (root / 'annotations').mkdir(exist_ok=True)
    content = instances(f'shapes, {split}', VERSION, labels)
    (root / f'annotations/instances_{split}.json').write_text(json.dumps(content))


def make_scene(seed: int, split: str, index: int) -> Scene:
    """Make the scene of one image.

    Args:
        seed: Seed of the dataset.
        split: 'train' or 'val'.
        index: Index of the image in its split.
    """
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    return sample_scene(rng)


def write_image(root: Path, split: str, seed: int, index: int) -> list[dict]:
    """Draw and write an image, its mask and its single-label images.

    Args:
        root: Folder to write to.
        split: 'train' or 'val'.
        seed: Seed of the dataset.
        index: Index of the image in its split.

    Returns:
        The annotations of its labeled shapes, without ids.
    """
    scene = make_scene(seed, split, index)
    behind = draw_background(scene.background)
    write_png(root / f'images/{split}/{index:06}.png', draw(scene, behind))
    mask = np.zeros((SIZE, SIZE), np.uint8)
    labels = []
    for layer, visible in zip(scene.layers, visible_masks(scene), strict=True):
        if not layer.is_target:
            continue
        name = scene.label(layer)
        category = CLASSES.index(name) + 1
        mask[visible] = category
        alone = f'classes/{split}/{name}/{index:06}_{len(labels)}.png'
        write_png(root / alone, draw(scene.alone(layer), behind))
        labels.append(annotate(visible, index, category))
    write_png(root / f'masks/{split}/{index:06}.png', mask)
    return labels


def write_png(path: Path, image: np.ndarray) -> None:
    """Write an image; unlike `cv2.imwrite`, raise an error if the disk is full.

    Args:
        path: The file.
        image: RGB `(H, W, 3)` or indices `(H, W)`, uint8.
    """
    if image.ndim == 3:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    path.write_bytes(cv2.imencode('.png', image)[1].tobytes())
