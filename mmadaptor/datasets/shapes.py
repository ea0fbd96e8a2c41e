# SPDX-License-Identifier: Apache-2.0
"""The embedded dataset `shapes`, generated locally in the COCO format.

Each image has 128 x 128 pixels and three to six labeled shapes, usually 17 to 57 pixels
wide, on a background with blotches and patterns. Unlabeled triangles, bars and crosses
lie above and below them. The classes form three pairs. Each pair differs in one kind of
cue:

=================  ============================  ============================
classes            difference                    position of the cue
=================  ============================  ============================
disc_on, disc_off  whether the lamp in the rows  16 pixels or more from the
                   of the disc is lit; the       disc, at a side of the image
                   discs look alike
rows, columns      the orientation of stripes    in any 10 pixels of the
                   2 to 3 pixels wide            shape, not in its outline
star5, star6       the number of points          along the whole outline,
                                                 which is often partly hidden
=================  ============================  ============================

Four lamps, each 8 pixels wide and 32 pixels high, fill the left or the right side of
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

import fcntl
import hashlib
import json
import multiprocessing
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from mmengine.logging import print_log

from .draw import draw, draw_background
from .labels import CLASSES, annotate, instances
from .sampling import sample_scene
from .scene import SIZE, Scene, visible_masks

VERSION = 4  # increase it with every change of the images or the files
STAMP = 'shapes.json'
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
    root = check_root(root)
    if not damage(root, wanted):
        return root  # without the lock, which needs write access
    with locked(root):
        if reason := damage(root, wanted):
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
    stamp = read_stamp(check_root(root)) or {}
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


def check_root(root: str | Path) -> Path:
    """Return the folder without symbolic links; it need not exist.

    Raises:
        NotADirectoryError: It is a file.
        FileExistsError: It has other content than this dataset.
    """
    root = Path(root).resolve()
    if root.exists() and not root.is_dir():
        raise NotADirectoryError(
            f'make_shapes: `root` must be a folder, got the file {root}'
        )
    if root.is_dir() and read_stamp(root) is None and any(root.iterdir()):
        raise FileExistsError(
            'make_shapes: `root` must be a new or empty folder, or contain this '
            f'dataset; {root} contains other files (no valid {STAMP}). '
            'Choose another folder, or empty this one'
        )
    return root


def read_stamp(root: Path) -> dict | None:
    """Return the stamp of a dataset, or None if there is no valid one."""
    if not (root / STAMP).is_file():
        return None
    try:
        stamp = json.loads((root / STAMP).read_text())
        return stamp if stamp['name'] == 'shapes' else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def count_files(root: Path) -> int:
    """Count the files in a folder and its subfolders, without the stamp."""
    total = sum(len(files) for _, _, files in os.walk(root))
    return total - (root / STAMP).exists()


def digest_files(root: Path) -> str:
    """Return a digest of the names and contents of all files, without the stamp.

    Raises:
        OSError: A file cannot be read.
    """
    digest = hashlib.blake2b(digest_size=16)
    for folder, subfolders, names in os.walk(root):
        subfolders.sort()
        digest.update(os.fsencode(os.path.relpath(folder, root)))
        for name in sorted(names):
            path = os.path.join(folder, name)
            if path == str(root / STAMP):
                continue
            content = b''
            if os.path.isfile(path):  # reading a pipe does not end
                with open(path, 'rb', buffering=0) as file:
                    content = file.read()
            digest.update(os.fsencode(f'/{name}/{len(content)}/'))
            digest.update(content)
    return digest.hexdigest()


def damage(root: Path, wanted: dict) -> str:
    """Return why a folder is not the complete dataset; empty if it is.

    Args:
        root: Folder of the dataset.
        wanted: Expected entries of its stamp.
    """
    stamp = read_stamp(root)
    if stamp is None:
        return 'there is no dataset yet'
    if {name: stamp.get(name) for name in wanted} != wanted:
        return 'the dataset was made with other arguments'
    if (count := count_files(root)) != stamp.get('files'):
        return f'the dataset has {count} files instead of {stamp.get("files")}'
    try:
        whole = digest_files(root) == stamp.get('digest')
    except OSError as error:
        return f'the dataset cannot be read ({error})'
    return '' if whole else 'files of the dataset are damaged or were changed'


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Hold the lock file next to a folder; the kernel releases it if the process dies.

    Args:
        root: Folder of the dataset.
    """
    root.parent.mkdir(parents=True, exist_ok=True)
    with open(root.parent / f'.{root.name}.lock', 'a') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def build(root: Path, wanted: dict, workers: int) -> None:
    """Write the dataset to a temporary folder, then rename it to its final path.

    Args:
        root: Folder of the dataset.
        wanted: Entries of the stamp.
        workers: Number of processes.
    """
    fresh = root.parent / f'.{root.name}.partial'
    stale = root.parent / f'.{root.name}.old'
    for leftover in (fresh, stale):
        if leftover.exists():
            shutil.rmtree(leftover)
    try:
        for split in SPLITS:
            write_split(fresh, split, wanted[split], wanted['seed'], workers)
        write_stamp(fresh, wanted)
    except BrokenProcessPool as error:
        shutil.rmtree(fresh, ignore_errors=True)
        raise ChildProcessError(
            'make_shapes: a worker process died, perhaps for lack of memory. '
            f'{root} is unchanged. Try again, or with fewer workers (--workers 1)'
        ) from error
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    if read_stamp(root) is not None:
        root.rename(stale)
    fresh.rename(root)
    shutil.rmtree(stale, ignore_errors=True)


def write_stamp(root: Path, wanted: dict) -> None:
    """Write the stamp, to the disk itself: without it a dataset is never replaced.

    Files that a power cut damages do not fit its digest.

    Args:
        root: Folder of the dataset.
        wanted: Entries of the stamp.
    """
    stamp = dict(
        name='shapes', **wanted, files=count_files(root), digest=digest_files(root)
    )
    with open(root / STAMP, 'w') as file:
        file.write(json.dumps(stamp, indent=1) + '\n')
        file.flush()
        os.fsync(file.fileno())


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
