# SPDX-License-Identifier: Apache-2.0
"""What the config's own loaders read is right, and what they leave out is said."""

import os
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.refusals import build, edit, problems
from mmengine.registry import TRANSFORMS
from PIL import Image
from torch import nn

from mmadaptor.engine.preflight.content import Part, unreadable_files
from mmadaptor.engine.preflight.report import Report

tifffile = pytest.importorskip('tifffile')
BANDS = np.arange(48 * 64 * 13).reshape(48, 64, 13).astype(np.uint16) % 60000


def write_tiffs(cfg, folder, image):
    cfg.train_dataloader.dataset.img_suffix = '.tif'
    for path in folder.glob('*.png'):
        tifffile.imwrite(path.with_suffix('.tif'), image, planarconfig='contig')


def test_thirteen_bands_of_sixteen_bits(seg, root):
    write_tiffs(seg, root / 'val', BANDS)
    loader = seg.train_dataloader.dataset.pipeline[0]
    loader.update(imdecode_backend='tifffile', color_type='unchanged')
    runner = build(seg)
    assert runner.notes == []
    np.testing.assert_array_equal(
        runner.train_dataloader.dataset[0]['inputs'], BANDS.transpose(2, 0, 1)
    )
    del loader['imdecode_backend']  # OpenCV has four at most
    assert '0.tif or its labels' in problems(seg)


def rotated(root):
    """Save the images of `seg` as cameras do, turned by a quarter."""
    exif = Image.Exif()
    exif[0x0112] = 6
    for path in (root / 'val').glob('*.png'):
        Image.open(path).transpose(Image.Transpose.ROTATE_90).save(
            path.with_suffix('.jpg'), exif=exif
        )


def test_masks_that_fit_the_image_as_it_is_loaded(seg, root):
    """The loader turns an image as its EXIF data says, but not if told otherwise."""
    rotated(root)
    seg.train_dataloader.dataset.img_suffix = '.jpg'
    build(seg)
    seg.train_dataloader.dataset.pipeline[0].color_type = 'color_ignore_orientation'
    assert 'has 48 x 64 pixels, its image has 64 x 48' in problems(seg)


@pytest.mark.parametrize(
    'image, says',
    [
        (BANDS[..., 0], 'has values up to 39923 (uint16), and LoadImageFromFile reads'),
        (BANDS[..., :4].astype(np.uint8), 'has 4 channels, and LoadImageFromFile re'),
    ],
)
def test_what_the_loader_leaves_out_is_noted(seg, root, image, says):
    write_tiffs(seg, root / 'val', image)
    (note,) = build(seg).notes
    assert note.startswith(f'train_dataloader.dataset: {root}/val/0.tif {says}')
    assert note.endswith("color_type='unchanged' would read all")
    seg.train_dataloader.dataset.pipeline[0].color_type = 'unchanged'
    assert build(seg).notes == []


def test_transparency_is_left_out_without_a_word(seg, root):
    for path in (root / 'val').iterdir():
        Image.open(path).convert('RGBA').save(path)
    assert build(seg).notes == []


def test_boxes_of_photos_that_are_rotated(det, root):
    """Their labels are of the stored bitmap, and OpenCV rotates it."""
    exif = Image.Exif()
    exif[0x0112] = 6
    for path in (root / 'train').glob('*.png'):
        Image.open(path).save(path.with_suffix('.jpg'), exif=exif)
    edit(
        root / 'train.json',
        lambda c: [
            image.update(file_name=f'{image["id"]}.jpg') for image in c['images']
        ],
    )
    text = problems(det)
    assert '1 problem found' in text  # often of all files: the first one is enough
    assert f'{root}/train/0.jpg has 64 x 48 pixels as it is loaded' in text
    assert 'train.json says 48 x 64 (height x width)' in text and 'EXIF' in text
    loader = det.train_dataloader.dataset.dataset.pipeline[0]
    loader.update(color_type='color_ignore_orientation')
    build(det)


@TRANSFORMS.register_module()
class ReadPicture:
    """A loader whose name does not say so."""

    def __call__(self, results):
        image = np.asarray(Image.open(results['img_path']))
        return results | dict(
            img=image, img_shape=image.shape[:2], ori_shape=image.shape[:2]
        )


@TRANSFORMS.register_module()
class LoadShapes:
    """A loader that needs what the transforms before it made."""

    def __call__(self, results):
        assert results['img'].shape[:2] == results['ori_shape']
        results['gt_seg_map'] = np.ones(results['ori_shape'], np.int64)
        results['seg_fields'].append('gt_seg_map')
        return results


def test_loaders_of_ones_own(seg):
    pack = seg.train_dataloader.dataset.pipeline[-1]
    seg.train_dataloader.dataset.pipeline = [
        dict(type='ReadPicture'), dict(type='LoadShapes'), pack,
    ]  # fmt: skip
    (note,) = build(seg).notes
    assert 'such as ground, have no pixel in' in note


def test_checks_draw_no_random_numbers(seg):
    """So the weights are those of a config without a random transform."""
    resize = dict(type='RandomResize', scale=(64, 48), ratio_range=(0.5, 2.0))
    pipeline = seg.train_dataloader.dataset.pipeline
    pipeline.insert(1, resize)
    seg.randomness = dict(seed=3)
    np.random.seed(1)
    build(seg)
    after = np.random.rand()
    pipeline.pop(1)
    build(seg)
    assert np.random.rand() == after


def test_addresses_are_left_to_the_loader():
    """mmengine finds the backend by the prefix."""
    report = Report()
    dataset = SimpleNamespace(
        ann_file='https://example.org/train.json',
        data_prefix=dict(img='s3://bucket/train/'),
    )
    Part('train', dataset, report, nn.Module()).check_paths()
    assert not report


def test_masks_that_nothing_reads_may_be_missing(seg, det, root):
    """A test without labels, and a prefix that a base config has."""
    (root / 'masks').rename(root / 'others')
    dataset = seg.test_dataloader.dataset
    assert f'missing: {root}/masks' in problems(seg, 'test')
    dataset.pipeline.pop(1)
    build(seg, 'test')
    det.test_dataloader.dataset.data_prefix.seg = 'masks/'
    build(det, 'test')


def test_files_are_looked_for_by_name_too(tmp_path, monkeypatch):
    """A folder may not be listed, and a file system may know several names."""
    (tmp_path / 'a.png').touch()
    paths = [str(tmp_path / 'a.png'), str(tmp_path / 'b.png')]

    def refuse(folder):
        raise PermissionError(13, 'Permission denied', folder)

    monkeypatch.setattr(os, 'scandir', refuse)
    assert unreadable_files(paths) == {'do not exist': paths[1:]}
    report = Report()
    dataset = SimpleNamespace(ann_file='', data_prefix=dict(img=str(tmp_path)))
    Part('train', dataset, report, nn.Module()).check_paths()
    assert not report


def test_a_file_of_another_backend_is_not_opened_here(seg, root):
    """A path that is a pipe here may be a file there."""
    from mmengine.fileio import LocalBackend, register_backend

    class Store(LocalBackend):
        def get(self, filepath):
            return super().get(str(filepath).replace('val/0.png', 'val/1.png'))

    register_backend('store', Store, force=True)
    (root / 'val' / '0.png').unlink()
    os.mkfifo(root / 'val' / '0.png')
    for part in seg.train_dataloader.dataset.pipeline[:2]:
        part.backend_args = dict(backend='store')
    seg.train_dataloader.dataset.backend_args = dict(backend='store')
    (root / 'list.txt').write_text('0\n1\n')
    seg.train_dataloader.dataset.ann_file = 'list.txt'
    build(seg)
