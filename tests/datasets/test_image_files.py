# SPDX-License-Identifier: Apache-2.0
"""Files that must not be opened, and headers that claim what no file can hold."""

import os
import socket
import struct
import zlib

import cv2
import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile
from mmengine.dataset import Compose
from PIL import Image

from mmadaptor.datasets.checked_pipeline import CheckedPipeline
from mmadaptor.datasets.image_files import image_problem, kind_problem, opened
from mmadaptor.errors import DamagedFileError


def chunk(kind, data):
    check = struct.pack('>I', zlib.crc32(kind + data))
    return struct.pack('>I', len(data)) + kind + data + check


def png(width, height, rows, depth=1):
    """Returns a gray PNG whose header claims a size, with so many black rows."""
    compress = zlib.compressobj(1)
    row = bytes(1 + -(-width * depth // 8))
    data = b''.join(compress.compress(row) for _ in range(rows)) + compress.flush()
    header = struct.pack('>IIBBBBB', width, height, depth, 0, 0, 0, 0)
    parts = chunk(b'IHDR', header) + chunk(b'IDAT', data) + chunk(b'IEND', b'')
    return b'\x89PNG\r\n\x1a\n' + parts


def lying_jpeg(side):
    content = bytearray(cv2.imencode('.jpg', np.zeros((16, 16, 3), np.uint8))[1])
    start = content.find(b'\xff\xc0')
    content[start + 5 : start + 9] = struct.pack('>HH', side, side)
    return bytes(content)


def test_only_regular_files_are_opened(tmp_path):
    (tmp_path / 'file').write_text('')
    (tmp_path / 'link').symlink_to('file')
    (tmp_path / 'zero').symlink_to('/dev/zero')
    (tmp_path / 'dangling').symlink_to('nothing')
    (tmp_path / 'loop').symlink_to('loop')
    os.mkfifo(tmp_path / 'pipe')
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / 'socket'))
    server.close()
    said = {
        name: kind_problem(str(tmp_path / name))
        for name in [
            'file',
            'link',
            'zero',
            'dangling',
            'loop',
            'pipe',
            'socket',
            'none',
        ]
    }
    assert {name: text for name, text in said.items() if text} == {
        'zero': 'is a device, not a regular file',
        'pipe': 'is a named pipe, not a regular file',
        'socket': 'is a socket, not a regular file',
    }
    assert kind_problem(str(tmp_path)) == 'is a folder, not a regular file'
    assert kind_problem('http://host/a.png') == kind_problem('a\0.png') == ''


@pytest.mark.parametrize('side', [20000, 32000, 60000])
@pytest.mark.parametrize('kind', ['png', 'jpg'])
def test_a_header_that_lies_is_named(side, kind, tmp_path):
    """libjpeg fills 1 kB up to 3 GB, and takes a quarter of a minute."""
    path = tmp_path / f'a.{kind}'
    content = png(side, side, 3) if kind == 'png' else lying_jpeg(side)
    path.write_bytes(content)
    text = f'it claims {side} x {side} pixels .* more than its {len(content)} bytes'
    with pytest.raises(DamagedFileError, match=f'^{path} is damaged: {text}'):
        CheckedPipeline(Compose([LoadImageFromFile()]))(dict(img_path=str(path)))


def test_what_the_loader_reads_is_never_refused(tmp_path):
    """Of 200 megapixels, the most that deflate packs into a byte; more than PIL's."""
    path = tmp_path / 'large.png'
    path.write_bytes(png(14200, 14200, 14200))
    assert image_problem(str(path)) == ''
    assert cv2.imread(str(path), cv2.IMREAD_GRAYSCALE).shape == (14200, 14200)
    Image.new('L', (9000, 9000)).save(tmp_path / 'dense.jpg', quality=1)
    assert image_problem(str(tmp_path / 'dense.jpg')) == ''


def test_pils_limit_stays_for_others(tmp_path):
    limit = Image.MAX_IMAGE_PIXELS
    (tmp_path / 'large.png').write_bytes(png(14200, 14200, 1))
    (tmp_path / 'text.png').write_text('no image')
    with opened(str(tmp_path / 'large.png')) as image:
        assert image.size == (14200, 14200)
    assert image_problem(str(tmp_path / 'text.png')) == ''
    assert limit == Image.MAX_IMAGE_PIXELS
    with pytest.raises(Image.DecompressionBombError):
        Image.open(tmp_path / 'large.png')
