import filecmp
import json
import multiprocessing
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmadaptor.datasets import (
    CLASSES,
    PALETTE,
    SEGMENTATION_CLASSES,
    SEGMENTATION_PALETTE,
    make_shapes,
    prepare,
    shapes,
)
from mmadaptor.datasets.draw import draw, draw_background
from mmadaptor.datasets.labels import run_lengths
from mmadaptor.datasets.sampling import MIN_PIXELS
from mmadaptor.datasets.scene import (
    LAMP_DISTANCE,
    LAMP_HEIGHT,
    LAMP_WIDTH,
    LAMPS,
    SIDES,
    SIZE,
    Lamps,
    lamps_window,
    layer_mask,
    shape_distance,
    visible_masks,
)

TRAIN, VAL = 6, 3
KNOWN_SUMS = [6972957, 5947046, 6268657, 5874719]


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return make_shapes(
        tmp_path_factory.mktemp('shapes') / 'set', TRAIN, VAL, workers=1)


def files(folder):
    return sorted(
        str(path.relative_to(folder)) for path in folder.rglob('*')
        if path.is_file())


def same(one, other):
    names = files(one)
    assert names == files(other)
    return not any(filecmp.cmpfiles(one, other, names, shallow=False)[1:])


def scenes(count=40):
    return [shapes.make_scene(0, 'train', index) for index in range(count)]


def picture(scene):
    return draw(scene, draw_background(scene.background))


def lamp_pixels(lamps):
    pixels = np.zeros((SIZE, SIZE), bool)
    pixels[lamps_window(lamps)] = True
    return pixels


def discs(scene):
    return [layer for layer in scene.layers if layer.kind == 'disc']


def switched(scene, lamp):
    lit = list(scene.lamps.lit)
    lit[lamp] = not lit[lamp]
    return replace(scene, lamps=Lamps(scene.lamps.side, tuple(lit)))


# What is in the pictures


@pytest.mark.parametrize('side', SIDES)
def test_lamps_fill_their_side(side):
    lamps = Lamps(side, (True, False) * (LAMPS // 2))
    pixels = lamp_pixels(lamps)
    pixels = pixels if side == 'left' else pixels[:, ::-1]
    assert pixels[:, :LAMP_WIDTH].all()
    assert not pixels[:, LAMP_WIDTH:].any()
    image = picture(replace(scenes(1)[0], lamps=lamps)).astype(int)
    column = image[lamps_window(lamps)]
    for lamp, is_lit in enumerate(lamps.lit):
        top = lamp * LAMP_HEIGHT
        core = column[top + 1:top + LAMP_HEIGHT - 1]
        assert (core.mean() > 150) == is_lit


def test_the_lamp_in_its_rows_alone_decides_the_class_of_a_disc():
    scene = next(s for s in scenes() if discs(s))
    disc = discs(scene)[0]
    rows = np.nonzero(layer_mask(disc).any(1))[0] // LAMP_HEIGHT
    assert len(set(rows)) == 1
    for lamp in range(LAMPS):
        other = switched(scene, lamp)
        assert (other.label(disc) != scene.label(disc)) == (lamp == rows[0])
        differs = (picture(scene) != picture(other)).any(-1)
        assert differs.any()
        assert not (differs & ~lamp_pixels(scene.lamps)).any()


def test_discs_are_far_from_the_lamps_and_in_the_rows_of_one():
    seen = 0
    for scene in scenes():
        column = np.nonzero(lamp_pixels(scene.lamps)[0])[0]
        for disc in discs(scene):
            rows, columns = np.nonzero(layer_mask(disc))
            assert abs(columns[:, None] - column).min() >= LAMP_DISTANCE
            assert rows.min() // LAMP_HEIGHT == rows.max() // LAMP_HEIGHT
            seen += 1
    assert seen > 60


def test_half_of_the_discs_are_on_at_any_place_and_of_any_look():
    found = [(scene.label(disc) == 'disc_on', disc.centre[0], disc.radius)
             for scene in scenes(400) for disc in discs(scene)]
    is_on, *properties = (np.array(values) for values in zip(
        *found, strict=True))
    assert abs(is_on.mean() - .5) < .05
    for values in properties:
        assert abs(np.corrcoef(is_on, values)[0, 1]) < .08


def test_stripes_run_along_rows_and_along_columns():
    for kind, across in (('rows', 0), ('columns', 1)):
        layer = next(layer for scene in scenes() for layer in scene.layers
                     if layer.kind == kind)
        layer = replace(
            layer, centre=(64., 64.), radius=26., angle=0., stripe=2.,
            stripe_angle=0. if kind == 'rows' else np.pi / 2,
            colours=((255, 255, 255), (0, 0, 0)))
        scene = replace(scenes(1)[0], layers=[layer])
        patch = picture(scene)[54:74, 54:74].astype(int)
        changes = [abs(np.diff(patch, axis=axis)).mean() for axis in (0, 1)]
        assert changes[across] > 100
        assert changes[1 - across] < 10


@pytest.mark.parametrize('kind, points', [('star5', 5), ('star6', 6)])
def test_stars_have_their_points(kind, points):
    layer = next(layer for scene in scenes() for layer in scene.layers
                 if layer.kind == kind)
    angle = np.arange(720) * np.pi / 360
    reach = .8 * layer.radius  # between the notches and the points
    ring = shape_distance(layer, reach * np.cos(angle),
                          reach * np.sin(angle)) < 0
    assert (ring & ~np.roll(ring, 1)).sum() == points


def test_three_to_six_shapes_in_sight():
    for scene in scenes():
        visible = [mask.sum() for layer, mask in zip(
            scene.layers, visible_masks(scene)) if layer.is_target]
        assert 3 <= len(visible) <= 6
        assert min(visible) >= MIN_PIXELS


def test_visible_masks_of_a_pile():
    scene = scenes(1)[0]
    low = replace(scene.layers[0], kind='columns', centre=(90., 80.),
                  radius=20., angle=0.)
    high = replace(low, centre=(106., 80.))
    pile = replace(scene, layers=[low, high], lamps=Lamps('right', (True,) * LAMPS))
    below, above = visible_masks(pile)
    # Squares of 31 pixels a side. The lower covers columns 75 to 105 and the
    # upper 91 to 121, of which the lamps hide those from 120.
    assert above.sum() == 29 * 31
    assert below.sum() == 16 * 31


# The files


def test_pictures_depend_on_the_seed_alone(root, tmp_path):
    again = make_shapes(tmp_path / 'again', TRAIN, VAL, workers=2)
    other = make_shapes(tmp_path / 'other', TRAIN, VAL, seed=1, workers=1)
    assert same(root, again)
    for index in range(TRAIN):
        name = f'images/train/{index:06}.png'
        assert not filecmp.cmp(root / name, other / name, shallow=False)


def test_a_picture_does_not_depend_on_how_many_there_are(root, tmp_path):
    fewer = make_shapes(tmp_path / 'fewer', 2, 1, workers=1)
    for split, count in (('train', 2), ('val', 1)):
        for index in range(count):
            name = f'images/{split}/{index:06}.png'
            assert filecmp.cmp(root / name, fewer / name, shallow=False)
    assert not filecmp.cmp(
        root / 'images/train/000000.png',
        root / 'images/val/000000.png',
        shallow=False)


def test_known_pixels():
    """Pictures are the same on every machine and with every version."""
    found = [int(picture(scene).astype(np.int64).sum()) for scene in scenes(4)]
    assert found == KNOWN_SUMS


@pytest.mark.parametrize('split, count', [('train', TRAIN), ('val', VAL)])
def test_instances_agree_with_masks(root, split, count):
    coco_api = pytest.importorskip('pycocotools.coco')
    coco = coco_api.COCO(root / f'annotations/instances_{split}.json')
    names = [c['name'] for c in coco.loadCats(coco.getCatIds())]
    assert tuple(names) == CLASSES
    assert len(coco.getImgIds()) == count
    for image in coco.loadImgs(coco.getImgIds()):
        name = f'{split}/{image["file_name"]}'
        colours = cv2.imread(str(root / 'images' / name), cv2.IMREAD_UNCHANGED)
        classes = cv2.imread(str(root / 'masks' / name), cv2.IMREAD_UNCHANGED)
        assert colours.shape == (image['height'], image['width'], 3)
        assert classes.dtype == np.uint8
        drawn = np.zeros_like(classes)
        for label in coco.loadAnns(coco.getAnnIds(image['id'])):
            mask = coco.annToMask(label).astype(bool)
            y, x = np.nonzero(mask)
            assert label['iscrowd'] == 0
            assert label['area'] == mask.sum()
            assert label['bbox'] == [
                x.min(), y.min(),
                np.ptp(x) + 1, np.ptp(y) + 1
            ]
            assert not drawn[mask].any(), 'shapes share pixels'
            drawn[mask] = label['category_id']
        np.testing.assert_array_equal(drawn, classes)


def test_class_folders(root):
    for split in ('train', 'val'):
        folder = root / 'classes' / split
        assert tuple(sorted(p.name for p in folder.iterdir())) == CLASSES
        content = json.loads(
            (root / f'annotations/instances_{split}.json').read_text())
        for name in CLASSES:
            category = CLASSES.index(name) + 1
            labels = [
                label for label in content['annotations']
                if label['category_id'] == category
            ]
            assert len(list((folder / name).iterdir())) == len(labels)


def test_single_label_picture_keeps_its_lamps_alone(root):
    scene = shapes.make_scene(0, 'train', 1)
    target = next(layer for layer in scene.layers if layer.is_target)
    alone = scene.alone(target)
    assert alone.layers == [target] and alone.lamps == scene.lamps
    path = root / f'classes/train/{scene.label(target)}/000001_0.png'
    np.testing.assert_array_equal(
        cv2.imread(str(path))[..., ::-1], picture(alone))


def test_run_lengths():
    mask = np.array([[0, 1, 1], [0, 0, 1]], bool)
    assert run_lengths(mask) == [2, 1, 1, 2]
    assert run_lengths(~mask) == [0, 2, 1, 1, 2]


def test_names_and_colours_fit():
    assert list(CLASSES) == sorted(CLASSES)
    assert len(set(PALETTE)) == len(CLASSES) == 6
    assert ('background', *CLASSES) == SEGMENTATION_CLASSES
    assert len(SEGMENTATION_PALETTE) == 7


# Making it


def times(root):
    return {name: (root / name).stat().st_mtime_ns for name in files(root)}


def test_second_call_does_nothing(root):
    before = times(root)
    assert make_shapes(root, TRAIN, VAL, workers=1) == root
    assert prepare(root) == root
    assert times(root) == before


def test_lost_file_and_other_numbers_make_it_anew(tmp_path):
    root = make_shapes(tmp_path / 'set', 2, 1, workers=1)
    lost = root / 'images/train/000001.png'
    content = lost.read_bytes()
    lost.unlink()
    prepare(root)
    assert lost.read_bytes() == content
    make_shapes(root, 1, 1, workers=1)
    assert not lost.exists()
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == ['set']


def test_killed_in_the_middle_leaves_nothing_that_looks_whole(tmp_path):
    root = tmp_path / 'set'
    child = multiprocessing.get_context('fork').Process(
        target=make_shapes, args=(root, 500, 1, 0, 1))
    child.start()
    partial = tmp_path / '.set.partial/images/train'
    deadline = time.monotonic() + 20
    while not (partial.is_dir() and any(partial.iterdir())):
        assert time.monotonic() < deadline
        time.sleep(.01)
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    assert not root.exists()
    make_shapes(root, 1, 1, workers=1)
    assert (root / shapes.STAMP).exists()
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


@pytest.mark.parametrize('name, value', [
    ('train', 0), ('val', -1), ('train', 2.5), ('val', True), ('seed', -1),
    ('seed', '0'), ('workers', 0)
])
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
        with pytest.raises(FileExistsError, match='holds other files'):
            make(precious.parent)
    assert precious.read_text() == 'words'
