# SPDX-License-Identifier: Apache-2.0
"""Pictures of every kind through the loaders of a job."""

import io

import mmcv
import numpy as np
import pytest
from helpers.jobs import (
    CLASSIFIER,
    DETECTOR,
    SEGMENTOR,
    tool,
    write_coco,
    write_config,
    write_labels,
)
from mmengine.config import Config
from mmengine.registry import TRANSFORMS, init_default_scope
from PIL import Image

from mmadaptor.engine.loading import guard_loading, unguard_loading
from mmadaptor.errors import DamagedFileError, InputError

PIXELS = np.kron(
    np.random.default_rng(0).integers(0, 255, (5, 7, 3), np.uint8),
    np.ones((8, 8, 1), np.uint8),
)  # blocks, which JPEG keeps


def encoded(format, image=None, **settings):
    content = io.BytesIO()
    (image or Image.fromarray(PIXELS)).save(content, format, **settings)
    return content.getvalue()


@pytest.fixture
def load(tmp_path):
    guard = TRANSFORMS.build(
        dict(type='mmadaptor.GuardedLoading', transform=dict(type='LoadImageFromFile'))
    )

    def load(content, name='picture'):
        path = tmp_path / name
        path.write_bytes(content)
        return guard(dict(img_path=str(path)))['img']

    return load


@pytest.mark.parametrize('format', ['JPEG', 'PNG', 'BMP', 'WEBP', 'TIFF', 'PPM'])
def test_a_truncated_picture_is_named(load, format, capfd):
    content = encoded(format)
    load(content)
    with pytest.raises(DamagedFileError, match='cut cannot be read'):
        load(content[: len(content) * 2 // 3], 'cut')


@pytest.mark.parametrize('content', [b'', b'no picture'], ids=['empty', 'text'])
def test_what_is_no_picture_is_named(load, content, capfd):
    with pytest.raises(DamagedFileError, match='other cannot be read'):
        load(content, 'other')


def test_grey_is_three_equal_channels(load):
    grey = Image.fromarray(PIXELS).convert('L')
    expected = np.repeat(np.asarray(grey)[..., None], 3, axis=2)
    np.testing.assert_array_equal(load(encoded('PNG', grey)), expected)


def test_sixteen_bits_become_their_upper_eight(load):
    values = np.arange(40 * 56).reshape(40, 56).astype(np.uint16) * 29
    content = encoded('PNG', Image.fromarray(values))
    np.testing.assert_array_equal(load(content)[..., 1], values >> 8)


def test_cmyk_becomes_the_colours_that_it_shows(load):
    cmyk = Image.fromarray(PIXELS).convert('CMYK')
    np.testing.assert_array_equal(load(encoded('TIFF', cmyk))[..., ::-1], PIXELS)
    got = load(encoded('JPEG', cmyk, quality=95))[..., ::-1]
    assert np.abs(got.astype(int) - PIXELS).mean() < 3


@pytest.fixture
def masked(tmp_path):
    pytest.importorskip('mmseg')
    root = write_coco(tmp_path / 'data')
    write_labels(root)
    cfg = Config.fromfile(
        write_config(tmp_path, SEGMENTOR, 'seg.py', data_root=str(root))
    )
    guard_loading(cfg)
    steps = cfg.train_dataloader.dataset.pipeline
    assert [step['type'] for step in steps] == ['mmadaptor.GuardedLoading'] * 2 + [
        'PackSegInputs'
    ]
    assert steps[1].num_classes == 2
    init_default_scope('mmseg')
    image, mask = (TRANSFORMS.build(step) for step in steps[:2])

    def load(array):
        path = root / 'masks' / '0.png'
        Image.fromarray(array).save(path)
        return mask(
            image(
                dict(
                    img_path=str(root / 'val' / '0.png'),
                    seg_map_path=str(path),
                    seg_fields=[],
                    reduce_zero_label=False,
                )
            )
        )['gt_seg_map']

    return load


def test_masks_are_checked_as_they_are_loaded(masked):
    right = np.zeros((48, 64), np.uint8)
    right[4:9] = 255
    right[9:] = 1
    np.testing.assert_array_equal(masked(right), right)
    with pytest.raises(InputError, match=r'0.png has labels 2, but.*val/0.png'):
        masked(right + 1)
    with pytest.raises(InputError, match=r'is 24 x 32 pixels, but its picture'):
        masked(right[::2, ::2])
    with pytest.raises(InputError, match='has 16 bits a pixel'):
        masked(np.full((48, 64), 256, np.uint16))


@pytest.mark.parametrize('text', [DETECTOR, CLASSIFIER])
def test_pictures_of_the_other_tasks_are_guarded(text, tmp_path):
    cfg = Config.fromfile(write_config(tmp_path, text, data_root='data'))
    before = cfg.to_dict()
    guard_loading(cfg)
    for split in ('train', 'test'):
        dataset = cfg[f'{split}_dataloader'].dataset
        steps = dataset.get('dataset', dataset).pipeline
        assert steps[0] == dict(
            type='mmadaptor.GuardedLoading', transform=dict(type='LoadImageFromFile')
        )
        assert 'mmadaptor.GuardedLoading' not in [s['type'] for s in steps[1:]]
    unguard_loading(cfg)
    assert cfg.to_dict() == before


def test_a_damaged_picture_ends_a_training_by_its_name(tmp_path):
    """Also from a data worker, whose traceback would hide it."""
    pytest.importorskip('mmpretrain')
    root = write_coco(tmp_path / 'data')
    write_labels(root)
    path = root / 'classes' / 'disc' / '2.png'
    path.write_bytes(path.read_bytes()[:300])
    config = write_config(tmp_path, CLASSIFIER, data_root=str(root))
    result = tool(
        'train',
        config,
        '--work-dir',
        tmp_path / 'run',
        '--cfg-options',
        'train_dataloader.num_workers=1',
    )
    assert result.returncode == 1
    assert f'error: {path} cannot be read' in result.stderr
    assert 'Traceback' not in result.stderr


def test_mmcv_reads_a_cut_jpeg_as_nothing(capfd):
    """What the guard relies on: OpenCV gives no half picture."""
    content = encoded(
        'JPEG', Image.fromarray(np.kron(PIXELS, np.ones((8, 8, 1), np.uint8)))
    )
    for cut in (2, 100, len(content) // 2):
        assert mmcv.imfrombytes(content[:-cut]) is None
