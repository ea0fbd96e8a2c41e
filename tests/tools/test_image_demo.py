# SPDX-License-Identifier: Apache-2.0
"""tools/image_demo.py as a user runs it, on good images and bad ones."""

import os
import resource
import runpy
import shutil
import sys

import numpy as np
import pytest
import tifffile
import torch
from helpers.jobs import ROOT, TEXTS, make_job, refusal, write_coco, write_config
from helpers.toolboxes import Planted
from PIL import Image

from mmadaptor.errors import InputError

DEMO = runpy.run_path(str(ROOT / 'tools' / 'image_demo.py'))
find_images, drawings_for = DEMO['find_images'], DEMO['drawings_for']
limited_memory = DEMO['limited_memory']


@pytest.fixture(params=TEXTS)
def job(request, tmp_path):
    """A toolbox, its config, and a checkpoint as a training leaves it."""
    return make_job(request.param, tmp_path)


@pytest.mark.parametrize('device', ['gpu', 'cuda:99', 'hpu'])
def test_a_device_that_is_not_there_is_named(device, monkeypatch):
    assert f'--device {device}: expected a device of this machine' in refusal(
        monkeypatch, 'image_demo', 'a.png', 'config.py', 'model.pth', '--device', device
    )


def demo(monkeypatch, *arguments):
    monkeypatch.setattr(sys, 'argv', ['image_demo.py', *map(str, arguments)])
    runpy.run_path(str(ROOT / 'tools' / 'image_demo.py'), run_name='__main__')


def test_every_task_draws_and_bad_images_stop_nothing(
    job, tmp_path, monkeypatch, capsys
):
    scope, config, checkpoint = job
    images, out = tmp_path / 'data' / 'val', tmp_path / 'out'
    whole = (images / '0.png').read_bytes()
    (images / '1.png').write_bytes(whole[: len(whole) // 2])
    (images / '4.jpg').write_text('no image')
    Image.open(images / '0.png').convert('CMYK').save(images / '5.jpg')
    Image.open(images / '0.png').convert('L').save(images / '6.png')
    (images / 'notes.txt').write_text('left out')
    message = refusal(
        monkeypatch, 'image_demo', images, config, checkpoint, '--out-dir', out
    )
    lines = message.splitlines()
    assert lines[1] == 'error: 2 images could not be drawn:'
    assert [line.split(': ')[0].strip() for line in lines[2:]] == [
        f'{images}/1.png',
        f'{images}/4.jpg',
    ]
    log = capsys.readouterr().out
    assert f'5 of 7 images were drawn into {out}' in log
    assert f'{images}: 1 files and folders left out' in log
    drawn = {str(path.relative_to(out)) for path in out.rglob('*.*')}
    original = np.asarray(Image.open(images / '0.png'))
    result = np.asarray(Image.open(out / 'vis' / '0.png'))
    assert original.shape == (48, 64, 3)
    assert drawn == {'vis/5.jpg', *(f'vis/{i}.png' for i in (0, 2, 3, 6))}
    # Enlarged, so that labels are readable.
    if scope == 'mmpretrain':
        assert result.shape[:2] == (384, 512)
    else:
        legend = result.shape[1] - 512
        assert result.shape[0] == 384 and (legend > 0) == (scope == 'mmseg')
        assert (result[::8, :512:8] != original).any()


@pytest.mark.parametrize('job', ['mmpretrain'], indirect=True)
@pytest.mark.parametrize('size', [(600, 520), (700, 1)])
def test_the_drawing_of_a_label_has_the_size_of_a_large_image(
    size, job, tmp_path, monkeypatch
):
    """Neither shrunk nor, where it is thin, enlarged to gigabytes."""
    _, config, checkpoint = job
    Image.new('RGB', size).save(tmp_path / 'a.png')
    out = tmp_path / 'out'
    demo(monkeypatch, tmp_path / 'a.png', config, checkpoint, '--out-dir', out)
    assert Image.open(out / 'vis' / 'a.png').size == size


DEEP = """
model['backbone']['in_channels'] = 4
model['data_preprocessor'].update(mean=[30000.0], std=[20000.0])
for loader in (train_dataloader, test_dataloader):
    data = loader['dataset'].get('dataset', loader['dataset'])
    data['pipeline'][0].update(
        color_type='unchanged', imdecode_backend='tifffile', to_float32=True)
del data, loader
"""


@pytest.mark.parametrize('scope', TEXTS)
def test_four_channels_of_16_bits_are_drawn(scope, tmp_path, monkeypatch, capsys):
    """Read by the config's loader: OpenCV's would give 8 bits of three channels."""
    _, config, checkpoint = make_job(scope, tmp_path, DEEP)
    image = np.random.default_rng(0).integers(0, 2**16, (48, 64, 4), dtype=np.uint16)
    tifffile.imwrite(tmp_path / 'a.tif', image)
    seen = []
    convolve = torch.nn.Conv2d.forward
    monkeypatch.setattr(
        torch.nn.Conv2d, 'forward', lambda self, x: seen.append(x) or convolve(self, x)
    )
    demo(
        monkeypatch, tmp_path / 'a.tif', config, checkpoint, '--out-dir', tmp_path / 'o'
    )
    assert '1 of 1 images were drawn' in capsys.readouterr().out
    assert (tmp_path / 'o' / 'vis' / 'a.png').exists()
    expected = (torch.from_numpy(image.astype(np.float32)) - 30000) / 20000
    got = seen[0][0, :, :48, :64].permute(1, 2, 0)
    if scope == 'mmdet':  # whose images are resized
        assert abs(got.std() - expected.std()) < 0.1
    else:
        torch.testing.assert_close(got, expected)


def test_settings_are_replaced(job, tmp_path, monkeypatch):
    _, config, checkpoint = job
    assert "the config has no 'modle'" in refusal(
        monkeypatch,
        'image_demo',
        tmp_path / 'data' / 'val',
        config,
        checkpoint,
        '--cfg-options',
        'modle.type=x',
    )


def test_a_pattern_in_folders(job, tmp_path, monkeypatch, capsys):
    _, config, checkpoint = job
    demo(
        monkeypatch,
        f'{tmp_path}/data/**/0.png',
        config,
        checkpoint,
        '--out-dir',
        tmp_path / 'out',
    )
    drawn = {
        str(p.relative_to(tmp_path / 'out')) for p in (tmp_path / 'out').rglob('*.png')
    }
    folders = ('train', 'val', 'masks', 'classes/disc')
    assert drawn == {f'{folder}/vis/0.png' for folder in folders}
    assert '4 of 4' in capsys.readouterr().out


@pytest.mark.parametrize('job', ['mmdet'], indirect=True)
def test_checkpoints_that_are_not_this_models(job, tmp_path, monkeypatch):
    _, config, checkpoint = job
    content = torch.load(checkpoint, weights_only=False)
    image = tmp_path / 'data' / 'val' / '0.png'
    out = ['--out-dir', tmp_path / 'out']

    del content['state_dict']['bbox_head.retina_cls.bias']
    other = tmp_path / 'other.pth'
    torch.save(dict(content, meta=dict(cfg="default_scope = 'mmpretrain'\n")), other)
    for tool in ('image_demo', 'test'):
        images = [image] if tool == 'image_demo' else []
        folder = out if tool == 'image_demo' else ['--work-dir', tmp_path / 'run']
        message = refusal(monkeypatch, tool, *images, config, other, *folder)
        assert f'{other} does not fit RetinaNet' in message
        assert 'bbox_head.retina_cls.bias' in message
        task = 'The checkpoint holds a model of classification (mmpretrain).'
        assert task in message

    mark = tmp_path / 'ran'
    torch.save(dict(content, x=Planted(mark)), other)
    message = refusal(monkeypatch, 'image_demo', image, config, other, *out)
    assert f'{other} holds a pickled object (posix.mkdir)' in message
    assert not mark.exists()

    message = refusal(monkeypatch, 'image_demo', image, config, 'none.pth', *out)
    assert 'none.pth: no such checkpoint file.' in message
    assert not (tmp_path / 'out').exists()


def test_a_config_of_no_toolbox_is_named(tmp_path, monkeypatch):
    write_coco(tmp_path / 'data', images=1)
    config = write_config(tmp_path, 'model = dict()')
    message = refusal(
        monkeypatch, 'image_demo', tmp_path / 'data' / 'val', config, 'model.pth'
    )
    assert "`default_scope` must be one of ['mmdet', 'mmseg', 'mmpretrain']" in message


def test_what_names_no_image(tmp_path):
    for source in ('none.png', f'{tmp_path}', f'{tmp_path}/*.jpg'):
        with pytest.raises(InputError, match='found none'):
            find_images([source])


def test_what_is_no_regular_file_is_found_and_named_later(tmp_path):
    """By its own name, in a folder, or by a pattern, which leaves out folders."""
    os.mkfifo(tmp_path / 'pipe.png')
    (tmp_path / 'dangling.png').symlink_to('nothing')
    (tmp_path / 'folder.png').mkdir()
    both = [f'{tmp_path}/dangling.png', f'{tmp_path}/pipe.png']
    assert find_images(both) == both
    assert find_images([f'{tmp_path}/*.png']) == both
    assert sorted(find_images([str(tmp_path)])) == sorted(
        [*both, f'{tmp_path}/folder.png']
    )


def test_memory_is_limited_to_what_is_free_on_a_cpu_only():
    """Linux ends a process that asks for more, and with it all other images."""
    limit = resource.getrlimit(resource.RLIMIT_DATA)
    total = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
    with limited_memory('cpu'):
        assert 0 < resource.getrlimit(resource.RLIMIT_DATA)[0] < 2 * total
        with pytest.raises((MemoryError, RuntimeError)):
            [np.empty(total // 4, np.uint8) for _ in range(9)]
    assert resource.getrlimit(resource.RLIMIT_DATA) == limit
    with limited_memory('meta'):
        assert resource.getrlimit(resource.RLIMIT_DATA) == limit


def test_each_image_is_drawn_once(tmp_path, capsys):
    Image.new('RGB', (4, 4)).save(tmp_path / 'a.png')
    shutil.copy(tmp_path / 'a.png', tmp_path / 'a.jpg')
    found = find_images([f'{tmp_path}/*.png', str(tmp_path), f'{tmp_path}/./a.jpg'])
    assert found == [f'{tmp_path}/a.png', f'{tmp_path}/./a.jpg']
    assert 'left out' not in capsys.readouterr().out


def test_each_drawing_has_a_name_of_its_own():
    """In the folder for all drawings; formats that are not drawn become PNG."""
    assert drawings_for(['in/a.jpg', 'in/a.png', 'in/a', 'in/a_.png'], 'out') == [
        'out/vis/a.jpg',
        'out/vis/a.png',
        'out/vis/a_.png',
        'out/vis/a__.png',
    ]
    assert drawings_for(['in/a.JPG', 'in/b/a.webp', 'in/b/a.bmp'], 'out') == [
        'out/vis/a.JPG',
        'out/b/vis/a.png',
        'out/b/vis/a_.png',
    ]


def test_a_drawing_never_replaces_an_image(tmp_path):
    Image.new('RGB', (4, 4)).save(tmp_path / 'a.png')
    (tmp_path / 'link').symlink_to(tmp_path)
    for out in (tmp_path, tmp_path.parent, tmp_path / 'link'):
        with pytest.raises(InputError, match='give another --out-dir'):
            drawings_for([f'{tmp_path}/a.png'], str(out))
