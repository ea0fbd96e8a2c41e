# SPDX-License-Identifier: Apache-2.0
"""Datasets of real pictures, from small packages that are made here."""

import gzip
import hashlib
import itertools
import json
import runpy
import struct
from dataclasses import replace
from functools import partial

import cv2
import numpy as np
import pytest
from helpers.jobs import ROOT
from helpers.packages import NEEDS_DPKG, write_deb, write_wheel

from mmadaptor.datasets import fashion, trees
from mmadaptor.datasets.fashion import FASHION
from mmadaptor.datasets.packages import Package
from mmadaptor.datasets.real import RealDataset
from mmadaptor.datasets.trees import TREES, Box
from mmadaptor.errors import InputError


def of_files(dataset, contents):
    """Return a dataset whose package has these files."""
    files = {name: hashlib.sha256(c).hexdigest() for name, c in contents.items()}
    return replace(dataset, package=replace(dataset.package, files=files))


def idx(numbers):
    head = struct.pack(f'>BBBB{numbers.ndim}I', 0, 0, 8, numbers.ndim, *numbers.shape)
    return gzip.compress(head + numbers.tobytes())


def voc(*boxes):
    sides = ('xmin', 'ymin', 'xmax', 'ymax')
    objects = [
        ''.join(f'<{side}>{n}</{side}>' for side, n in zip(sides, box)) for box in boxes
    ]
    objects = [f'<object><bndbox>{text}</bndbox></object>' for text in objects]
    return f'<annotation>{"".join(objects)}</annotation>'


ONE = Package('pip', 'deepforest==2.1.0', {'a/b.txt': ''}, 'MIT')


def one(content=b'text'):
    return replace(ONE, files={'a/b.txt': hashlib.sha256(content).hexdigest()})


# Fashion-MNIST


@pytest.fixture(scope='module')
def clothes():
    """Three training images and one test image of each class, in turn."""
    rng = np.random.default_rng(0)
    contents = {}
    for split, count in (('train', 30), ('test', 10)):
        images = rng.integers(0, 256, (count, 28, 28), np.uint8)
        labels = np.arange(count, dtype=np.uint8) % 10
        for name, numbers in zip(fashion.FILES[split], (images, labels)):
            contents[f'{fashion.FOLDER}/{name}'] = idx(numbers)
    return contents


@NEEDS_DPKG
def test_fashion(clothes, tmp_path):
    dataset = replace(
        of_files(FASHION, clothes), write=partial(fashion.write, val_per_class=1)
    )
    root = dataset.make(tmp_path / 'fashion', write_deb(tmp_path, clothes))
    found = {str(p.relative_to(root)) for p in root.rglob('*.png')}
    images = fashion.read_idx(clothes[f'{fashion.FOLDER}/{fashion.FILES["train"][0]}'])
    expected = {}
    for label, name in enumerate(fashion.LABELS):
        expected |= {f'train/{name}/{i:05}.png': i for i in (label, label + 10)}
        expected |= {f'val/{name}/{label + 20:05}.png': label + 20}
    assert found == {*expected} | {
        f'test/{name}/{label:05}.png' for label, name in enumerate(fashion.LABELS)
    }
    for name, index in expected.items():
        read = cv2.imread(str(root / name), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(read, images[index])


# Trees


@pytest.mark.parametrize(
    'length, train, test',
    [
        (600, [(0, 256), (128, 384), (256, 512), (344, 600)], [0, 200, 400, 600]),
        (400, [(0, 256), (128, 384), (144, 400)], [0, 200, 400]),
        (384, [(0, 256), (128, 384)], [0, 192, 384]),
        (256, [(0, 256)], [0, 256]),
        (100, [(0, 100)], [0, 100]),
        (1035, None, [0, 207, 414, 621, 828, 1035]),
    ],
)
def test_tiles(length, train, test):
    assert train is None or trees.overlapping(length) == train
    assert trees.separate(length) == [*itertools.pairwise(test)]


@pytest.mark.parametrize(
    'box, bbox, crowd',
    [
        ((110, 120, 130, 140), [10, 20, 20, 20], 0),  # inside
        ((90, 120, 110, 140), [0, 20, 10, 20], 0),  # half of it
        ((89, 120, 109, 140), [0, 20, 9, 20], 1),  # less than half
        ((80, 120, 100, 140), None, None),  # beside
        ((190, 190, 210, 210), [90, 90, 10, 10], 1),  # a quarter
    ],
)
def test_a_box_in_a_tile(box, bbox, crowd):
    found = trees.label(Box(*box), Box(100, 100, 200, 200))
    if bbox is None:
        assert found is None
    else:
        area = bbox[2] * bbox[3]
        assert found == dict(category_id=1, bbox=bbox, area=area, iscrowd=crowd)


@pytest.fixture
def forest():
    """For each split pictures of noise with two boxes, the second at the border."""
    rng = np.random.default_rng(0)
    contents = {}
    for names in trees.PICTURES.values():
        for picture, boxes in names:
            pixels = rng.integers(0, 256, (300, 260, 3), np.uint8)
            contents[f'{trees.FOLDER}/{picture}'] = cv2.imencode('.png', pixels)[
                1
            ].tobytes()
            contents[f'{trees.FOLDER}/{boxes}'] = voc(
                (10, 20, 50, 70), (240, 250, 270, 290)
            ).encode()
    return contents


def test_trees(forest, tmp_path):
    coco_api = pytest.importorskip('pycocotools.coco')
    root = of_files(TREES, forest).make(
        tmp_path / 'trees', write_wheel(tmp_path, forest)
    )
    for split, names in trees.PICTURES.items():
        coco = coco_api.COCO(root / f'annotations/instances_{split}.json')
        assert coco.loadCats(coco.getCatIds()) == [dict(id=1, name='tree')]
        tops, lefts = ((0, 44), (0, 4)) if split == 'train' else ((0, 150), (0, 130))
        images = coco.loadImgs(coco.getImgIds())
        assert [image['file_name'] for image in images] == [
            f'{name.partition(".")[0]}_{top}_{left}.png'
            for name, _ in names
            for top in tops
            for left in lefts
        ]
        for image in images:
            pixels = cv2.imread(str(root / 'images' / split / image['file_name']))
            assert pixels.shape == (image['height'], image['width'], 3)
        # The first box, and what of the second is in the picture.
        counted = [a for a in coco.loadAnns(coco.getAnnIds()) if not a['iscrowd']]
        if split != 'train':
            assert [a['bbox'] for a in counted] == [
                [10, 20, 40, 50],
                [110, 100, 20, 40],
            ] * len(names)
            assert len(coco.getAnnIds()) == len(counted)
        else:
            boxes = {image['id']: [] for image in images}
            for a in coco.loadAnns(coco.getAnnIds()):
                boxes[a['image_id']].append((a['bbox'], a['iscrowd']))
            assert list(boxes.values()) == [
                [([10, 20, 40, 50], 0), ([240, 250, 16, 6], 1)],
                [([6, 20, 40, 50], 0), ([236, 250, 20, 6], 1)],
                [([10, 0, 40, 26], 0), ([240, 206, 16, 40], 0)],
                [([6, 0, 40, 26], 0), ([236, 206, 20, 40], 0)],
            ]


def test_a_picture_and_its_tiles_agree(forest, tmp_path):
    root = of_files(TREES, forest).make(
        tmp_path / 'trees', write_wheel(tmp_path, forest)
    )
    name = trees.PICTURES['test'][0][0]
    encoded = np.frombuffer(forest[f'{trees.FOLDER}/{name}'], np.uint8)
    tiles = [
        [
            cv2.imread(str(root / f'images/test/{name.partition(".")[0]}_{y}_{x}.png'))
            for x in (0, 130)
        ]
        for y in (0, 150)
    ]
    np.testing.assert_array_equal(
        np.concatenate([np.concatenate(row, 1) for row in tiles]),
        cv2.imdecode(encoded, cv2.IMREAD_COLOR),
    )


# Complete or absent


@pytest.fixture
def made(tmp_path):
    """A small dataset, and its folder."""

    def write(contents, root):
        (root / 'copy.txt').write_bytes(contents['a/b.txt'])

    dataset = RealDataset('some', 1, one(), write)
    return dataset, dataset.make(
        tmp_path / 'set', write_wheel(tmp_path, {'a/b.txt': b'text'})
    )


def state(root):
    return {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in root.iterdir()}


def test_an_intact_dataset_needs_no_package(made, tmp_path):
    dataset, root = made
    before = state(root)
    assert dataset.make(root, tmp_path / 'no such file') == root
    assert state(root) == before
    assert json.loads((root / 'some.json').read_text())['version'] == 1


def test_a_failure_leaves_what_was_there(made, tmp_path):
    dataset, root = made
    wheel = write_wheel(tmp_path, {'a/b.txt': b'text'})
    before = state(root)

    def interrupted(contents, folder):
        (folder / 'half.txt').write_text('')
        raise KeyboardInterrupt

    newer = replace(dataset, version=2)
    with pytest.raises(KeyboardInterrupt):
        replace(newer, write=interrupted).make(root, wheel)
    with pytest.raises(InputError, match='another file'):
        replace(newer, package=one(b'changed')).make(root, wheel)
    assert state(root) == before
    names = {p.name for p in tmp_path.iterdir()}
    assert names == {'set', '.set.lock', wheel.name}
    assert newer.make(root, wheel) == root
    assert json.loads((root / 'some.json').read_text())['version'] == 2


def test_a_damaged_dataset_is_made_again(made, tmp_path):
    dataset, root = made
    (root / 'copy.txt').write_bytes(b'tex')
    dataset.make(root, write_wheel(tmp_path, {'a/b.txt': b'text'}))
    assert (root / 'copy.txt').read_bytes() == b'text'


def test_a_folder_of_others_is_left_alone(made, tmp_path):
    dataset, _ = made
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine' / 'thesis.txt').write_text('words')
    with pytest.raises(FileExistsError, match=r'some: `root` must be a new or empty'):
        dataset.make(tmp_path / 'mine')
    assert [p.name for p in (tmp_path / 'mine').iterdir()] == ['thesis.txt']


# The command


def call(monkeypatch, *arguments):
    monkeypatch.setattr('sys.argv', ['make_data.py', *map(str, arguments)])
    runpy.run_path(str(ROOT / 'tools' / 'make_data.py'), run_name='__main__')


def test_the_command(forest, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(trees, 'TREES', of_files(TREES, forest))
    wheel = write_wheel(tmp_path, forest)
    call(monkeypatch, 'trees', tmp_path / 'trees', '--package', wheel)
    assert capsys.readouterr().out.splitlines()[-1] == (
        f'The dataset is in {tmp_path}/trees. Source: deepforest==2.1.0; '
        f'licence: {TREES.package.licence}'
    )


def test_the_command_ends_with_a_sentence(tmp_path, monkeypatch):
    wheel = write_wheel(tmp_path, {})
    with pytest.raises(SystemExit) as ended:
        call(monkeypatch, 'trees', tmp_path / 'trees', '--package', wheel)
    assert ended.value.code.startswith(f'error: {wheel.name} does not contain ')
    assert len(ended.value.code.splitlines()) == 1
    assert not (tmp_path / 'trees').exists()
