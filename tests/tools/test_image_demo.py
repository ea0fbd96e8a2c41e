# SPDX-License-Identifier: Apache-2.0
"""tools/image_demo.py as a user runs it, on good pictures and bad ones."""

import runpy
import shutil
import sys

import numpy as np
import pytest
import torch
from helpers.jobs import (
    CLASSIFIER,
    DETECTOR,
    ROOT,
    SEGMENTOR,
    refusal,
    write_coco,
    write_config,
    write_labels,
)
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from PIL import Image

from mmadaptor.engine.inference import find_pictures, places_for
from mmadaptor.errors import InputError

META = dict(
    mmdet=dict(classes=('disc', 'box')),
    mmpretrain=dict(classes=('box', 'disc')),
    mmseg=dict(classes=('ground', 'box'), palette=[[0, 0, 0], [255, 0, 0]]),
)
TEXTS = dict(mmdet=DETECTOR, mmpretrain=CLASSIFIER, mmseg=SEGMENTOR)


@pytest.fixture(params=TEXTS)
def job(request, tmp_path):
    """A toolbox, its config, and a checkpoint as a training leaves it."""
    scope = request.param
    pytest.importorskip(scope)
    root = write_coco(tmp_path / 'data')
    write_labels(root)
    config = write_config(tmp_path, TEXTS[scope], data_root=str(root))
    cfg = Config.fromfile(config)
    init_default_scope(scope)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    if scope == 'mmdet':  # boxes to draw, though nothing was learned
        torch.nn.init.constant_(model.bbox_head.retina_cls.bias, 0.0)
    checkpoint = tmp_path / 'model.pth'
    torch.save(
        dict(
            state_dict=model.state_dict(),
            meta=dict(cfg=cfg.pretty_text, dataset_meta=META[scope]),
        ),
        checkpoint,
    )
    return scope, config, checkpoint


@pytest.mark.parametrize('device', ['gpu', 'cuda:99', 'hpu'])
def test_a_device_that_is_not_there_is_named(device, monkeypatch):
    assert f'--device {device}: expected a device of this machine' in refusal(
        monkeypatch, 'image_demo', 'a.png', 'config.py', 'model.pth', '--device', device
    )


def demo(monkeypatch, *arguments):
    monkeypatch.setattr(sys, 'argv', ['image_demo.py', *map(str, arguments)])
    runpy.run_path(str(ROOT / 'tools' / 'image_demo.py'), run_name='__main__')


def test_every_task_draws_and_bad_pictures_stop_nothing(
    job, tmp_path, monkeypatch, capsys
):
    scope, config, checkpoint = job
    pictures, out = tmp_path / 'data' / 'val', tmp_path / 'out'
    whole = (pictures / '0.png').read_bytes()
    (pictures / '1.png').write_bytes(whole[: len(whole) // 2])
    (pictures / '4.jpg').write_text('no picture')
    Image.open(pictures / '0.png').convert('CMYK').save(pictures / '5.jpg')
    Image.open(pictures / '0.png').convert('L').save(pictures / '6.png')
    (pictures / 'notes.txt').write_text('left out')
    message = refusal(
        monkeypatch, 'image_demo', pictures, config, checkpoint, '--out-dir', out
    )
    assert '2 could not be drawn' in message
    assert f'{pictures}/1.png cannot be read' in message
    assert f'{pictures}/4.jpg cannot be read' in message
    log = capsys.readouterr().out
    assert '5 of 7 pictures are drawn' in log
    assert '1 left out' in log and 'notes.txt' in log
    assert '1 pictures of mode CMYK are read as 8-bit RGB' in log
    assert '1 pictures of mode L are read as 8-bit RGB' in log
    drawn = {path.name for path in out.iterdir()}
    assert drawn == {'0.png', '2.png', '3.png', '5.jpg.png', '6.png'}
    original = np.asarray(Image.open(pictures / '0.png'))
    result = np.asarray(Image.open(out / '0.png'))
    assert original.shape == (48, 64, 3)
    if scope != 'mmpretrain':
        factor = 8 if scope == 'mmdet' else 1
        assert result.shape == (48 * factor, 64 * factor, 3)
        assert (result[::factor, ::factor] != original).any()


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
    assert drawn == {'train/0.png', 'val/0.png', 'masks/0.png', 'classes/disc/0.png'}
    assert '4 of 4' in capsys.readouterr().out


@pytest.mark.parametrize('job', ['mmdet'], indirect=True)
def test_checkpoints_that_are_not_this_models(job, tmp_path, monkeypatch):
    _, config, checkpoint = job
    content = torch.load(checkpoint, weights_only=False)
    picture = tmp_path / 'data' / 'val' / '0.png'

    other = tmp_path / 'other.pth'
    torch.save(dict(content, meta=dict(cfg="default_scope = 'mmpretrain'\n")), other)
    for tool in ('image_demo', 'test'):
        images = [picture] if tool == 'image_demo' else []
        message = refusal(monkeypatch, tool, *images, config, other)
        assert (
            f'{other} holds a model of classification (mmpretrain), but the '
            'config is of detection (mmdet)'
        ) in message

    del content['state_dict']['bbox_head.retina_cls.bias']
    torch.save(content, other)
    message = refusal(
        monkeypatch, 'image_demo', picture, config, other, '--out-dir', tmp_path / 'out'
    )
    assert f'{other} does not fit RetinaNet' in message
    assert 'bbox_head.retina_cls.bias' in message
    assert not (tmp_path / 'out').exists()

    message = refusal(monkeypatch, 'image_demo', picture, config, 'none.pth')
    assert 'none.pth' in message


def test_what_names_no_picture(tmp_path):
    for source in ('none.png', f'{tmp_path}', f'{tmp_path}/*.jpg'):
        with pytest.raises(InputError, match='found none'):
            find_pictures([source])


def test_each_picture_is_drawn_once(tmp_path):
    Image.new('RGB', (4, 4)).save(tmp_path / 'a.png')
    shutil.copy(tmp_path / 'a.png', tmp_path / 'a.jpg')
    found, notes = find_pictures([str(tmp_path), f'{tmp_path}/*.png'])
    assert found == [f'{tmp_path}/a.jpg', f'{tmp_path}/a.png'] and not notes
    assert places_for(found, 'out') == ['out/a.jpg.png', 'out/a.png']


def test_each_drawing_has_a_place_of_its_own():
    assert places_for(['in/a.png.png', 'in/a', 'in/a.png'], 'out') == [
        'out/a.png.png',
        'out/a.png',
        'out/a.png.png.png',
    ]


def test_a_drawing_never_replaces_a_picture(tmp_path):
    Image.new('RGB', (4, 4)).save(tmp_path / 'a.png')
    with pytest.raises(InputError, match='name another --out-dir'):
        places_for([f'{tmp_path}/a.png'], str(tmp_path))
