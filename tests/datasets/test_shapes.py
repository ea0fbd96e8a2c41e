# SPDX-License-Identifier: Apache-2.0
"""The files of the dataset, and how they are made."""

import filecmp
import json
import multiprocessing
import os
import runpy
import signal
import time
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.jobs import ROOT
from helpers.scenes import picture
from mmengine.config import Config

from mmadaptor.datasets import CLASSES, make_shapes, prepare, shapes
from mmadaptor.engine.preflight import make_embedded_dataset
from mmadaptor.errors import InputError

TRAIN, VAL = 6, 3


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return make_shapes(tmp_path_factory.mktemp('shapes') / 'set', TRAIN, VAL, workers=1)


def files(folder):
    return sorted(
        str(path.relative_to(folder)) for path in folder.rglob('*') if path.is_file()
    )


def same(one, other):
    names = files(one)
    assert names == files(other)
    return not any(filecmp.cmpfiles(one, other, names, shallow=False)[1:])


# The files


def test_images_depend_on_the_seed_only(root, tmp_path):
    again = make_shapes(tmp_path / 'again', TRAIN, VAL, workers=2)
    other = make_shapes(tmp_path / 'other', TRAIN, VAL, seed=1, workers=1)
    assert same(root, again)
    for index in range(TRAIN):
        name = f'images/train/{index:06}.png'
        assert not filecmp.cmp(root / name, other / name, shallow=False)


def test_an_image_does_not_depend_on_their_number(root, tmp_path):
    fewer = make_shapes(tmp_path / 'fewer', 2, 1, workers=1)
    for split, count in (('train', 2), ('val', 1)):
        for index in range(count):
            name = f'images/{split}/{index:06}.png'
            assert filecmp.cmp(root / name, fewer / name, shallow=False)
    assert not filecmp.cmp(
        root / 'images/train/000000.png', root / 'images/val/000000.png', shallow=False
    )


@pytest.mark.parametrize('split, count', [('train', TRAIN), ('val', VAL)])
def test_instances_agree_with_masks(root, split, count):
    coco_api = pytest.importorskip('pycocotools.coco')
    coco = coco_api.COCO(root / f'annotations/instances_{split}.json')
    names = [c['name'] for c in coco.loadCats(coco.getCatIds())]
    assert tuple(names) == CLASSES
    assert len(coco.getImgIds()) == count
    for image in coco.loadImgs(coco.getImgIds()):
        name = f'{split}/{image["file_name"]}'
        colors = cv2.imread(str(root / 'images' / name), cv2.IMREAD_UNCHANGED)
        classes = cv2.imread(str(root / 'masks' / name), cv2.IMREAD_UNCHANGED)
        assert colors.shape == (image['height'], image['width'], 3)
        assert classes.dtype == np.uint8
        drawn = np.zeros_like(classes)
        for label in coco.loadAnns(coco.getAnnIds(image['id'])):
            mask = coco.annToMask(label).astype(bool)
            y, x = np.nonzero(mask)
            assert label['iscrowd'] == 0
            assert label['area'] == mask.sum()
            assert label['bbox'] == [x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1]
            assert not drawn[mask].any(), 'shapes share pixels'
            drawn[mask] = label['category_id']
        np.testing.assert_array_equal(drawn, classes)


def test_class_folders(root):
    for split in ('train', 'val'):
        folder = root / 'classes' / split
        assert tuple(sorted(p.name for p in folder.iterdir())) == CLASSES
        content = json.loads((root / f'annotations/instances_{split}.json').read_text())
        for name in CLASSES:
            category = CLASSES.index(name) + 1
            labels = [
                label
                for label in content['annotations']
                if label['category_id'] == category
            ]
            assert len(list((folder / name).iterdir())) == len(labels)


def test_a_single_label_image_keeps_only_its_lamps(root):
    scene = shapes.make_scene(0, 'train', 1)
    target = next(layer for layer in scene.layers if layer.is_target)
    alone = scene.alone(target)
    assert alone.layers == [target] and alone.lamps == scene.lamps
    path = root / f'classes/train/{scene.label(target)}/000001_0.png'
    np.testing.assert_array_equal(cv2.imread(str(path))[..., ::-1], picture(alone))


# Making it


def times(root):
    return {name: (root / name).stat().st_mtime_ns for name in files(root)}


def test_second_call_does_nothing(root):
    before = times(root)
    assert make_shapes(root, TRAIN, VAL, workers=1) == root
    assert prepare(root) == root
    assert times(root) == before


def test_a_complete_dataset_needs_no_lock(tmp_path, monkeypatch):
    """The dataset may be on a read-only disk."""
    whole = make_shapes(tmp_path / 'set', 1, 1, workers=1)
    monkeypatch.setattr(
        'mmadaptor.datasets.shapes.locked', lambda root: pytest.fail('it was locked')
    )
    assert prepare(whole) == whole


def test_a_missing_file_and_other_arguments_make_it_again(tmp_path):
    root = make_shapes(tmp_path / 'set', 2, 1, workers=1)
    lost = root / 'images/train/000001.png'
    content = lost.read_bytes()
    lost.unlink()
    prepare(root)
    assert lost.read_bytes() == content
    make_shapes(root, 1, 1, workers=1)
    assert not lost.exists()
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == ['set']


def emptied(path):
    path.write_bytes(b'')


def truncated(path):
    path.write_bytes(path.read_bytes()[:-40])


def flipped(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def piped(path):
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize('damage', [emptied, truncated, flipped, piped])
@pytest.mark.parametrize(
    'name', ['images/train/000001.png', 'annotations/instances_val.json']
)
def test_damaged_files_make_it_again(damage, name, tmp_path, monkeypatch):
    """As a power cut leaves them: the names are there, the contents are not."""
    root = make_shapes(tmp_path / 'set', 2, 1, workers=1)
    content = (root / name).read_bytes()
    damage(root / name)
    log = []
    monkeypatch.setattr(shapes, 'print_log', lambda text, *_: log.append(text))
    prepare(root)
    assert (root / name).read_bytes() == content
    assert len(log) == 1 and f'{root}: files of the dataset are damaged' in log[0]
    prepare(root)
    assert len(log) == 1


def test_files_that_were_added_are_not_removed(tmp_path):
    root = make_shapes(tmp_path / 'set', 1, 1, workers=1)
    (root / 'notes.txt').write_text('mine')
    for make in (prepare, partial(make_shapes, train=2, val=1, workers=1)):
        with pytest.raises(FileExistsError, match='move yours out of it'):
            make(root)
    assert (root / 'notes.txt').read_text() == 'mine'
    (root / 'notes.txt').unlink()
    assert make_shapes(root, 2, 1, workers=1) == root


def test_exchanged_files_make_it_again(tmp_path):
    root = make_shapes(tmp_path / 'set', 2, 1, workers=1)
    first, second = (root / f'images/train/00000{i}.png' for i in (0, 1))
    content = first.read_bytes()
    first.rename(tmp_path / 'kept')
    second.rename(first)
    (tmp_path / 'kept').rename(second)
    prepare(root)
    assert first.read_bytes() == content


@pytest.mark.parametrize('key', ['version', 'train', 'seed', 'files', 'digest'])
@pytest.mark.parametrize('value', [None, [1], '3', -1])
def test_a_stamp_without_a_key_or_with_a_wrong_one(key, value, tmp_path, monkeypatch):
    root = make_shapes(tmp_path / 'set', 1, 1, workers=1)
    stamp = json.loads((root / 'shapes.json').read_text())
    content = dict(stamp, **{key: value})
    if value is None:
        del content[key]
    (root / 'shapes.json').write_text(json.dumps(content))
    made = []
    monkeypatch.setattr(shapes, 'build', lambda root, wanted, _: made.append(wanted))
    prepare(root)
    default = key in ('version', 'train', 'seed')
    assert [wanted['train'] for wanted in made] == [2000 if default else 1]


def dies(*_):
    os._exit(9)


def test_a_worker_that_dies_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(shapes, 'write_image', dies)
    root = tmp_path / 'set'
    arguments = [str(root), '--train', '2', '--val', '1', '--workers', '2']
    monkeypatch.setattr('sys.argv', ['make_shapes.py', *arguments])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / 'tools' / 'make_shapes.py'), run_name='__main__')
    message = ended.value.code
    assert message.startswith('error: make_shapes: a worker process died')
    assert len(message.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ['.set.lock']
    with pytest.raises(InputError, match='embedded_dataset: .* a worker process died'):
        make_embedded_dataset(Config(dict(embedded_dataset=str(root))))


def test_an_interrupt_leaves_the_old_dataset(root, tmp_path, monkeypatch):
    kept = make_shapes(tmp_path / 'set', 1, 1, workers=1)
    before = times(kept)

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(shapes, 'write_image', interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_shapes(kept, 2, 1, workers=1)
    assert times(kept) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ['.set.lock', 'set']


def test_a_killed_process_leaves_no_folder_that_looks_complete(tmp_path):
    root = tmp_path / 'set'
    child = multiprocessing.get_context('fork').Process(
        target=make_shapes, args=(root, 500, 1, 0, 1)
    )
    child.start()
    partial = tmp_path / '.set.partial/images/train'
    deadline = time.monotonic() + 20
    while not (partial.is_dir() and any(partial.iterdir())):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    assert not root.exists()
    make_shapes(root, 1, 1, workers=1)
    assert (root / 'shapes.json').exists()
    assert not (tmp_path / '.set.partial').exists()


def test_full_disk_leaves_the_old_dataset(root, tmp_path, monkeypatch):
    kept = make_shapes(tmp_path / 'set', 1, 1, workers=1)
    before = times(kept)

    def full(self, data):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(Path, 'write_bytes', full)
    with pytest.raises(OSError, match='No space left'):
        make_shapes(kept, 2, 1, workers=1)
    assert times(kept) == before


@pytest.mark.parametrize(
    'name, value',
    [
        ('train', 0),
        ('val', -1),
        ('train', 2.5),
        ('val', True),
        ('seed', -1),
        ('seed', '0'),
        ('workers', 0),
    ],
)
def test_wrong_numbers(tmp_path, name, value):
    numbers = {**dict(train=1, val=1, seed=0, workers=1), name: value}
    with pytest.raises(ValueError, match=f'`{name}` must be .* got {value!r}'):
        make_shapes(tmp_path / 'set', **numbers)
    assert not (tmp_path / 'set').exists()


def test_wrong_folders(tmp_path):
    file = tmp_path / 'file'
    file.write_text('')
    with pytest.raises(NotADirectoryError, match='`root` must be a folder'):
        make_shapes(file, 1, 1)
    precious = tmp_path / 'mine' / 'thesis.txt'
    precious.parent.mkdir()
    precious.write_text('words')
    for make in (make_shapes, prepare):
        with pytest.raises(FileExistsError, match='contains other files'):
            make(precious.parent)
    assert precious.read_text() == 'words'
