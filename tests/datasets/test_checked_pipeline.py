# SPDX-License-Identifier: Apache-2.0
"""Images of every kind through the loaders of a job."""

import io

import mmcv
import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile
from mmengine.dataset import Compose
from PIL import Image

from mmadaptor.datasets.checked_pipeline import CheckedPipeline
from mmadaptor.errors import DamagedFileError

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
    pipeline = CheckedPipeline(Compose([LoadImageFromFile()]))

    def load(content, name='image'):
        path = tmp_path / name
        path.write_bytes(content)
        return pipeline(dict(img_path=str(path)))['img']

    return load


@pytest.mark.parametrize('format', ['JPEG', 'PNG', 'BMP', 'WEBP', 'TIFF', 'PPM'])
def test_a_truncated_image_is_named(load, format, tmp_path):
    content = encoded(format)
    assert load(content).shape == PIXELS.shape
    with pytest.raises(
        DamagedFileError, match=f'^{tmp_path}/cut cannot be read: LoadImageFromFile'
    ):
        load(content[: len(content) * 2 // 3], 'cut')


@pytest.mark.parametrize('content', [b'', b'no image'], ids=['empty', 'text'])
def test_what_is_no_image_is_named(load, content):
    with pytest.raises(DamagedFileError, match='other cannot be read'):
        load(content, 'other')


def test_a_missing_image_is_named(tmp_path):
    pipeline = CheckedPipeline(Compose([LoadImageFromFile()]))
    with pytest.raises(DamagedFileError, match=r'none\.png cannot be read'):
        pipeline(dict(img_path=str(tmp_path / 'none.png')))


def test_grey_is_three_equal_channels(load):
    grey = Image.fromarray(PIXELS).convert('L')
    expected = np.repeat(np.asarray(grey)[..., None], 3, axis=2)
    np.testing.assert_array_equal(load(encoded('PNG', grey)), expected)


def test_sixteen_bits_become_their_upper_eight(load):
    values = np.arange(40 * 56).reshape(40, 56).astype(np.uint16) * 29
    content = encoded('PNG', Image.fromarray(values))
    np.testing.assert_array_equal(load(content)[..., 1], values >> 8)


def test_cmyk_becomes_the_colors_that_it_shows(load):
    cmyk = Image.fromarray(PIXELS).convert('CMYK')
    np.testing.assert_array_equal(load(encoded('TIFF', cmyk))[..., ::-1], PIXELS)
    got = load(encoded('JPEG', cmyk, quality=95))[..., ::-1]
    assert np.abs(got.astype(int) - PIXELS).mean() < 3


def test_opencv_reads_a_cut_jpeg_as_nothing():
    """What the errors above rely on: there is no half image."""
    content = encoded(
        'JPEG', Image.fromarray(np.kron(PIXELS, np.ones((8, 8, 1), np.uint8)))
    )
    for cut in (2, 100, len(content) // 2):
        assert mmcv.imfrombytes(content[:-cut]) is None


def test_a_transform_that_drops_a_sample_ends_its_pipeline():
    pipeline = CheckedPipeline(Compose([lambda results: None, lambda results: 1 / 0]))
    assert pipeline(dict(img_path='a.png')) is None
