# SPDX-License-Identifier: Apache-2.0
"""Hostile images for the demo and a training: named, the rest goes on, bounded.

Each tool starts once, with all files in a folder.
"""

import json
import os
import shutil
import struct
import zlib

import numpy as np
import pytest
import torch
from helpers.jobs import (
    CLASSIFIER,
    DETECTOR,
    tool,
    write_coco,
    write_config,
    write_labels,
)
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from PIL import Image

SIDE = 13_500  # 182 megapixels, more than PIL opens
MEMORY = 8 * 2**20  # kB of address space; a lying JPEG alone takes 6 GB more


def chunk(kind, data, check=None):
    check = zlib.crc32(kind + data) if check is None else check
    return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', check)


def png(width, height, rows=None, check=None, more=b''):
    """Returns a black PNG of one bit a pixel, with so many rows."""
    compress = zlib.compressobj(1)
    row = bytes(1 + -(-width // 8))
    rows = height if rows is None else rows
    data = b''.join(compress.compress(row) for _ in range(rows)) + compress.flush()
    header = struct.pack('>IIBBBBB', width, height, 1, 0, 0, 0, 0)
    parts = chunk(b'IHDR', header) + more + chunk(b'IDAT', data, check)
    return b'\x89PNG\r\n\x1a\n' + parts + chunk(b'IEND', b'')


def lying_jpeg(content):
    content = bytearray(content)
    start = content.find(b'\xff\xc0')
    content[start + 5 : start + 9] = struct.pack('>HH', 32_000, 32_000)
    return bytes(content)


def write_hostile(folder, whole):
    """Writes images that must fail; returns what is said of each."""
    jpeg = folder / 'whole.jpg'
    Image.open(whole).save(jpeg, quality=95)
    content, photo = whole.read_bytes(), jpeg.read_bytes()
    jpeg.unlink()
    cannot = 'cannot be read'
    written = {
        'truncated.png': content[: len(content) // 2],
        'truncated.jpg': photo[: len(photo) // 2],
        'empty.png': b'',
        'empty.jpg': b'',
        'text.png': b'no image',
        'page.jpg': b'<html>404</html>',
        'header.png': content[:8],
        'garbage.png': content[:8] + os.urandom(500),
        'crc.png': png(64, 48, check=1),
        'nothing.png': png(0, 0, rows=1),
        'archive.png': b'PK\x03\x04' + bytes(99),
        'pickle.png': b'\x80\x04K\x01.',
        'script.jpg': b'#!/bin/sh\n',
        'vector.png': b'<svg xmlns="http://www.w3.org/2000/svg" width="9"/>',
        'lying.png': png(60_000, 60_000, rows=3),
        'lying30.png': png(30_000, 30_000, rows=3),
        'lying.jpg': lying_jpeg(photo),
    }
    for name, data in written.items():
        (folder / name).write_bytes(data)
    said = dict.fromkeys(written, cannot)
    said |= {name: 'is damaged: it claims' for name in written if 'lying' in name}
    os.mkfifo(folder / 'pipe.png')
    (folder / 'folder.png').mkdir()
    (folder / 'zero.png').symlink_to('/dev/zero')
    (folder / 'dangling.png').symlink_to('nothing.at.all')
    (folder / 'loop.png').symlink_to('loop.png')
    for name, kind in (
        ('pipe', 'named pipe'),
        ('folder', 'folder'),
        ('zero', 'device'),
    ):
        said[f'{name}.png'] = f'is a {kind}, not a regular file'
    said |= {'dangling.png': 'No such file', 'loop.png': 'symbolic links'}
    if os.geteuid():  # root reads it
        (folder / 'locked.png').write_bytes(content)
        (folder / 'locked.png').chmod(0)
        said['locked.png'] = 'Permission denied'
    return said


def write_harmless(folder, whole):
    """Writes unusual images that OpenCV reads; returns their names."""
    image = Image.open(whole)
    exif = Image.Exif()
    exif[0x010E] = 'x' * 60_000
    exif[0x0112] = 99  # no such rotation
    image.save(folder / 'exif.jpg', exif=exif)
    image.convert('CMYK').save(folder / 'cmyk.jpg')
    image.convert('P').save(folder / 'palette.png')
    image.convert('RGBA').save(folder / 'alpha.png')
    image.convert('1').save(folder / 'bits.png')
    frames = [image.rotate(90 * i) for i in range(3)]
    image.save(folder / 'animated.png', save_all=True, append_images=frames)
    deep = np.asarray(image.convert('L')).astype(np.uint16) * 257
    Image.fromarray(deep).save(folder / 'deep.png')
    shutil.copy(whole, folder / 'a png.jpg')
    (folder / 'link.png').symlink_to(whole)
    note = chunk(b'zTXt', b'note\0\0' + zlib.compress(bytes(2**26)))
    (folder / 'note.png').write_bytes(png(64, 48, more=note))
    (folder / 'large.png').write_bytes(png(SIDE, SIDE))
    return [path.name for path in folder.iterdir()]


@pytest.fixture(scope='module')
def hostile(tmp_path_factory):
    """A folder of good, harmless and hostile images, and what is said of the last."""
    root = tmp_path_factory.mktemp('hostile')
    write_coco(root / 'data')
    write_labels(root / 'data')
    whole = root / 'data' / 'val' / '0.png'
    images = root / 'images'
    images.mkdir()
    harmless = write_harmless(images, whole)
    said = write_hostile(images, whole)
    assert len(said) >= 20
    return root, images, harmless, said


def size_of(path):
    side = SIDE if path.name == 'large.png' else 0
    return dict(height=side or 48, width=side or 64)


def bounded(name, *arguments):
    """Runs a tool in bounded memory, and in 200 seconds at most."""
    done = tool(name, *arguments, prelude=f'ulimit -v {MEMORY}')
    assert done.returncode == 1, (done.returncode, done.stderr[-2000:])
    assert 'Traceback' not in done.stderr + done.stdout
    return done


def test_the_demo_names_each_and_draws_the_rest(hostile, tmp_path):
    root, images, harmless, said = hostile
    pytest.importorskip('mmpretrain')
    small = "dict(type='Resize', scale=(64, 48)), dict(type='PackInputs')"
    text = CLASSIFIER.replace("dict(type='PackInputs')", small)
    config = write_config(tmp_path, text, data_root=str(root / 'data'))
    cfg = Config.fromfile(config)
    init_default_scope('mmpretrain')
    weights = MODELS.build(cfg.model).state_dict()
    meta = dict(dataset_meta=dict(classes=('box', 'disc')))
    checkpoint, out = tmp_path / 'model.pth', tmp_path / 'out'
    torch.save(dict(state_dict=weights, meta=meta), checkpoint)
    done = bounded('image_demo', images, config, checkpoint, '--out-dir', out)
    assert f'{len(harmless)} of {len(harmless) + len(said)} images' in done.stdout, (
        done.stderr
    )
    _, _, listed = done.stderr.partition(f'{len(said)} images could not be drawn:\n')
    lines = listed.splitlines()[: len(said)]
    named = {line.split(': ')[0].strip(): line for line in lines}
    assert set(named) == {f'{images}/{name}' for name in said}
    for name, text in said.items():
        if text != 'cannot be read':  # OpenCV gives no reason
            assert text in named[f'{images}/{name}']
    assert len(
        list((out / 'vis').iterdir()) + list(out.parent.glob('out_*/vis/*'))
    ) == (len(harmless))


def test_a_training_names_each_before_it_starts(hostile, tmp_path):
    root, images, harmless, said = hostile
    pytest.importorskip('mmdet')
    names = [*said, *harmless]
    for split, part in (('train', names[::2]), ('val', names[1::2])):
        path = root / 'data' / f'{split}.json'
        content = json.loads(path.read_text())
        content['annotations'] = []
        content['images'] = [
            dict(id=i, file_name=f'{images}/{name}', **size_of(images / name))
            for i, name in enumerate(part)
        ]
        path.write_text(json.dumps(content))
    config = write_config(tmp_path, DETECTOR, data_root=str(root / 'data'))
    done = bounded('train', config, '--work-dir', tmp_path / 'run')
    for name in said:
        assert f'{images}/{name}' in done.stderr, (name, done.stderr)
    assert 'Training not started' in done.stderr
    for name in harmless:
        assert f'{images}/{name}' not in done.stderr
