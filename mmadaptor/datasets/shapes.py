# SPDX-License-Identifier: Apache-2.0
"""The embedded dataset `shapes`: made on the spot, read as COCO files are.

Pictures of 128 x 128 pixels with three to six labelled shapes, 17 to 57 pixels
wide as a rule, over blotched and patterned backgrounds, among triangles, bars
and crosses that carry no label and lie over them and under them. The classes
come in three pairs, and each pair is told apart by a cue of its own kind:

| classes           | told apart by              | the cue is found           |
|-------------------|----------------------------|----------------------------|
| disc_on, disc_off | the lamp in the disc's     | 16 pixels or more from the |
|                   | rows, lit or not; the      | disc, at a side of the     |
|                   | discs are alike            | picture                    |
| rows, columns     | the way of stripes 2 to 3  | in any 10 pixels of the    |
|                   | pixels wide                | shape; not in its outline  |
| star5, star6      | the number of points       | along the whole outline,   |
|                   |                            | some of it often hidden    |

Four lamps, each 8 pixels wide and 32 high, fill the left or the right side of
every picture, in front of everything, yellow when lit and nearly black when
not, each by chance of its own. They carry no label. Every disc lies in the rows
of one lamp. Colours, sizes, places and turns of the shapes say nothing of their
class. Each cue survives a flip, scaling, and a change of colours short of
inverting them; a crop keeps a disc's class only if it keeps the disc's lamp.

One set of pictures has three forms of labels, in the layout of COCO's own:

    annotations/instances_{train,val}.json    instances: run lengths of the
                                              visible pixels, and their box
    images/{train,val}/000000.png             the pictures
    masks/{train,val}/000000.png              classes by pixel: 0 background,
                                              else the category's id
    classes/{train,val}/CLASS/000000_0.png    a class a picture: each labelled
                                              shape once, over its background
                                              with its lamps, all others left
                                              out
    shapes.json                               the stamp: how it was made

`CLASSES` is in alphabetical order, which is how class folders are
numbered, so a class has the same index in all three forms.
"""

import fcntl
import json
import multiprocessing
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
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

VERSION = 4  # raise it with any change of the pictures or of the files
STAMP = 'shapes.json'
SPLITS = ('train', 'val')


def make_shapes(
    root: str | Path,
    train: int = 2000,
    val: int = 300,
    seed: int = 0,
    workers: int | None = None,
) -> Path:
    """Make the dataset, unless it is there already.

    What is made depends on the three numbers alone, and picture i of a split on
    the seed and i alone. The folder appears at once when all is written: one
    that is there is whole. A dataset made with other numbers is replaced; a
    folder that holds anything else is left alone. Processes that call this at
    once wait for the first of them.

    Args:
        root: The dataset's folder.
        train: How many pictures to train on.
        val: How many to validate on.
        seed: Chooses the pictures.
        workers: Processes that draw; all cores if not given, no extra process
            for 1.

    Returns:
        The dataset's folder.

    Raises:
        ValueError: If a number is not a whole one, or too small.
        NotADirectoryError: If `root` is a file.
        FileExistsError: If `root` holds something else than this dataset.
    """
    for name, value, least in (
        ('train', train, 1),
        ('val', val, 1),
        ('seed', seed, 0),
        ('workers', 1 if workers is None else workers, 1),
    ):
        if type(value) is not int or value < least:
            raise ValueError(
                f'make_shapes: `{name}` must be a whole number of '
                f'{least} or more, got {value!r}'
            )
    wanted = dict(version=VERSION, train=train, val=val, seed=seed, size=SIZE)
    root = check_root(root)
    if is_whole(root, wanted):
        return root  # also where nothing can be written
    with locked(root):
        if not is_whole(root, wanted):
            build(root, wanted, workers or len(os.sched_getaffinity(0)))
    return root


def prepare(root: str | Path = 'data/shapes') -> Path:
    """See that a dataset is there to train on.

    Args:
        root: The dataset's folder. A whole dataset in it stays as it is, also
            one that was made with other numbers than `make_shapes`' defaults;
            otherwise the default one is made.

    Returns:
        The dataset's folder.

    Raises:
        NotADirectoryError: If `root` is a file.
        FileExistsError: If `root` holds something else than this dataset.
    """
    stamp = read_stamp(check_root(root))
    if stamp is None or stamp['version'] != VERSION:
        return make_shapes(root)
    return make_shapes(root, stamp['train'], stamp['val'], stamp['seed'])


def check_root(root: str | Path) -> Path:
    """The folder's full path.

    Args:
        root: The dataset's folder, which need not exist.

    Returns:
        Its path, without symbolic links.

    Raises:
        NotADirectoryError: If it is a file.
        FileExistsError: If it holds something else than this dataset.
    """
    root = Path(root).resolve()
    if root.exists() and not root.is_dir():
        raise NotADirectoryError(
            f'make_shapes: `root` must be a folder, got the file {root}'
        )
    if root.is_dir() and read_stamp(root) is None and any(root.iterdir()):
        raise FileExistsError(
            f'make_shapes: `root` must be a new or empty folder, or hold the '
            f'dataset already; {root} holds other files (no valid {STAMP}). '
            'Name another folder, or empty this one'
        )
    return root


def read_stamp(root: Path) -> dict | None:
    """How a dataset was made.

    Args:
        root: The dataset's folder.

    Returns:
        The stamp, or None where there is none, or none of ours.
    """
    try:
        stamp = json.loads((root / STAMP).read_text())
        return stamp if stamp['name'] == 'shapes' else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def count_files(root: Path) -> int:
    """How many files a folder holds.

    Args:
        root: The folder.

    Returns:
        The number of files in it and in all its folders, the stamp left out.
    """
    total = sum(len(files) for _, _, files in os.walk(root))
    return total - (root / STAMP).exists()


def is_whole(root: Path, wanted: dict) -> bool:
    """Whether a folder is the dataset that is wanted, with no file missing.

    Args:
        root: The dataset's folder.
        wanted: What its stamp has to say.

    Returns:
        Whether nothing is left to do.
    """
    stamp = read_stamp(root)
    return (
        stamp is not None
        and stamp.items() >= wanted.items()
        and stamp['files'] == count_files(root)
    )


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Hold the lock beside a folder; it goes with the process, if killed.

    Args:
        root: The dataset's folder.

    Yields:
        When no other process is at work on it.
    """
    root.parent.mkdir(parents=True, exist_ok=True)
    with open(root.parent / f'.{root.name}.lock', 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def build(root: Path, wanted: dict, workers: int) -> None:
    """Write the dataset beside its place, then put it there.

    Args:
        root: The dataset's folder.
        wanted: The numbers it is made with.
        workers: Processes that draw.
    """
    fresh = root.parent / f'.{root.name}.partial'
    stale = root.parent / f'.{root.name}.old'
    for leftover in (fresh, stale):
        if leftover.exists():
            shutil.rmtree(leftover)
    print_log(
        f'Making the dataset of {wanted["train"]} + {wanted["val"]} pictures in {root}',
        'current',
    )
    for split in SPLITS:
        write_split(fresh, split, wanted[split], wanted['seed'], workers)
    stamp = dict(name='shapes', **wanted, files=count_files(fresh))
    (fresh / STAMP).write_text(json.dumps(stamp, indent=1) + '\n')
    if read_stamp(root) is not None:
        root.rename(stale)
    fresh.rename(root)
    shutil.rmtree(stale, ignore_errors=True)


def write_split(root: Path, split: str, count: int, seed: int, workers: int) -> None:
    """Write the pictures and labels of one split.

    Args:
        root: The folder to write to.
        split: 'train' or 'val'.
        count: How many pictures.
        seed: The dataset's seed.
        workers: Processes that draw.
    """
    for folder in (
        f'images/{split}',
        f'masks/{split}',
        *(f'classes/{split}/{name}' for name in CLASSES),
    ):
        (root / folder).mkdir(parents=True)
    write = partial(write_picture, root, split, seed)
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
    """The content of one picture.

    Args:
        seed: The dataset's seed.
        split: 'train' or 'val'.
        index: The picture's number in its split.

    Returns:
        The scene.
    """
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    return sample_scene(rng)


def write_picture(root: Path, split: str, seed: int, index: int) -> list[dict]:
    """Draw a picture and write it, its mask and its single-label pictures.

    Args:
        root: The folder to write to.
        split: 'train' or 'val'.
        seed: The dataset's seed.
        index: The picture's number in its split.

    Returns:
        The annotations of its labelled shapes, without ids.
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


def write_png(path: Path, picture: np.ndarray) -> None:
    """Write a picture; a full disk raises, which `cv2.imwrite` does not.

    Args:
        path: The file.
        picture: RGB `(H, W, 3)` or indices `(H, W)`, uint8.
    """
    if picture.ndim == 3:
        picture = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    path.write_bytes(cv2.imencode('.png', picture)[1].tobytes())
