# SPDX-License-Identifier: Apache-2.0
"""Single images reach the network as those of a test do, and are visible."""

import numpy as np
import pytest
import tifffile
import torch
from helpers.jobs import (
    CLASSIFIER,
    DETECTOR,
    SEGMENTOR,
    write_coco,
    write_config,
    write_labels,
)
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from PIL import Image

from mmadaptor.datasets.image_reader import ImageReader, as_visible
from mmadaptor.errors import InputError

TEXTS = dict(mmdet=DETECTOR, mmpretrain=CLASSIFIER, mmseg=SEGMENTOR)
LOADERS = dict(
    grey=dict(color_type='grayscale'),
    four=dict(color_type='unchanged'),
    deep=dict(imdecode_backend='tifffile', color_type='unchanged', to_float32=True),
)


def pixels(kind):
    random = np.random.default_rng(0)
    if kind == 'deep':
        return random.integers(0, 2**16, (48, 64, 3), dtype=np.uint16)
    return random.integers(0, 256, (48, 64, 4), dtype=np.uint8)


@pytest.fixture(params=TEXTS)
def cfg(request, tmp_path):
    pytest.importorskip(request.param)
    write_labels(write_coco(tmp_path / 'data'))
    path = write_config(
        tmp_path, TEXTS[request.param], data_root=str(tmp_path / 'data')
    )
    init_default_scope(request.param)
    return Config.fromfile(path)


@pytest.mark.parametrize('kind', LOADERS)
def test_the_network_sees_what_it_is_tested_on(cfg, kind):
    """Whatever the config's loader reads: channels, depth and type."""
    dataset = cfg.test_dataloader.dataset
    dataset.pipeline[0].update(LOADERS[kind])
    expected = DATASETS.build(dataset)
    path = expected.get_data_info(0)['img_path']
    if kind == 'deep':
        tifffile.imwrite(path, pixels(kind))
    else:
        Image.fromarray(pixels(kind)).save(path)
    got = ImageReader(cfg)(path)['inputs']
    assert got.dtype == (torch.float32 if kind == 'deep' else torch.uint8)
    assert len(got) == dict(grey=1, four=4, deep=3)[kind]
    assert torch.equal(got, expected[0]['inputs'])


@pytest.mark.parametrize('kind', LOADERS)
def test_the_eye_sees_its_colors(kind, tmp_path):
    path = str(tmp_path / 'a.tif')
    image = pixels(kind)
    if kind == 'deep':
        tifffile.imwrite(path, image)
    else:
        path = str(tmp_path / 'a.png')
        Image.fromarray(image).save(path)
    step = dict(type='LoadImageFromFile', **LOADERS[kind])
    data = dict(dataset=dict(pipeline=[step]))  # of a wrapper
    init_default_scope('mmengine')
    seen = ImageReader(Config(dict(test_dataloader=dict(dataset=data)))).visible(path)
    assert seen.shape == (48, 64, 3) and seen.dtype == np.uint8
    expected = image[..., :3]
    if kind == 'grey':
        assert (seen[..., 0] == seen[..., 2]).all()
        grey = np.asarray(Image.open(path).convert('RGB').convert('L')).astype(int)
        assert abs(seen[..., 0] - grey).max() <= 1
        return
    if kind == 'deep':
        low, high = int(image.min()), int(image.max())
        expected = np.round((image - float(low)) * 255 / (high - low))
    np.testing.assert_array_equal(seen, expected)


def test_values_by_hand():
    assert as_visible(np.array([[7]], np.uint8), True).tolist() == [[[7, 7, 7]]]
    bands = np.arange(13, dtype=np.uint8)[None, None]
    assert as_visible(bands, False).tolist() == [[[0, 1, 2]]]
    assert as_visible(bands, True).tolist() == [[[2, 1, 0]]]
    # to_float32 of 8 bits stays as it is; everything else fills 0 to 255.
    assert as_visible(np.array([[0.0, 7.0, 200.0]]), True)[0, :, 0].tolist() == [
        0,
        7,
        200,
    ]
    unit = np.array([[0.0, 0.5, 1.0, np.nan, np.inf]])
    assert as_visible(unit, True)[0, :, 0].tolist() == [0, 128, 255, 0, 255]
    assert as_visible(np.array([[-1000, 0, 3000]]), True)[0, :, 0].tolist() == [
        0,
        64,
        255,
    ]
    assert not as_visible(np.full((2, 2), np.nan), True).any()
    assert not as_visible(np.full((2, 2), 3000), True).any()


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(InputError, match='one pipeline, .* got none'):
        ImageReader(Config(dict(test_dataloader=None)))
    dataset = dict(pipeline=[dict(type='Resize', scale=(4, 4))])
    init_default_scope('mmengine')
    reader = ImageReader(Config(dict(test_dataloader=dict(dataset=dataset))))
    with pytest.raises(InputError, match='nowhere.png: no such image file'):
        reader('nowhere.png')
    (tmp_path / 'a.png').write_bytes(b'')
    with pytest.raises(InputError, match='the test pipeline of the config loads no im'):
        reader.visible(str(tmp_path / 'a.png'))


@pytest.mark.parametrize('last', [1, 2])
def test_datasets_in_wrappers_and_lists_have_one_pipeline(last):
    init_default_scope('mmengine')
    leaves = [
        dict(type='A', pipeline=[dict(type='Resize', scale=(n, n))]) for n in (1, last)
    ]
    inner = dict(type='RepeatDataset', times=2, dataset=leaves[0])
    dataset = dict(type='ConcatDataset', datasets=[inner, leaves[1]])
    cfg = Config(dict(test_dataloader=dict(dataset=dataset)))
    if last == 1:
        assert len(ImageReader(cfg).pipeline.transforms) == 1
    else:
        with pytest.raises(InputError, match='one pipeline, .* got several'):
            ImageReader(cfg)
