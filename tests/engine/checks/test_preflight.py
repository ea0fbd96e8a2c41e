# SPDX-License-Identifier: Apache-2.0
"""Everything that is missing or broken comes in one error, before the start."""

import pytest
import torch
from helpers.jobs import ROOT
from helpers.refusals import problems
from mmengine.config import Config

from mmadaptor.checkpoints.pretrained import (
    drop_pretrained,
    find_pretrained,
    how_to_make,
)
from mmadaptor.engine.checks.preflight import check_test, check_training


def test_good_configs_pass(det, seg, cls):
    for cfg in (det, seg, cls):
        check_training(cfg)
        check_test(cfg)


def test_all_that_is_missing_is_listed_at_once(det, root):
    (root / 'train.json').unlink()
    (root / 'val.json').unlink()
    for image in (root / 'train').iterdir():
        image.unlink()
    (root / 'train').rmdir()
    det.model.backbone.init_cfg = dict(
        type='Pretrained', checkpoint='none/imagenet.pth'
    )
    det.load_from = 'none/start.pth'
    text = problems(det)
    assert '5 to mend' in text
    for path in (
        'train.json',
        'val.json',
        'train',
        'none/imagenet.pth',
        'none/start.pth',
    ):
        assert f'/{path}\n' in text
    assert 'named by val_dataloader.dataset.ann_file, val_evaluator.ann_file' in text
    assert 'train_dataloader.dataset.dataset.ann_file' in text
    assert 'model.backbone.init_cfg.checkpoint=PATH' in text
    assert '--from-scratch' in text


def test_a_test_needs_neither_training_data_nor_pretraining(det, root):
    (root / 'train.json').unlink()
    det.model.backbone.init_cfg = dict(type='Pretrained', checkpoint='none.pth')
    check_test(det)


def test_a_test_of_adaptors_alone_needs_their_base(det, tmp_path):
    det.load_from = None
    det.model.backbone.init_cfg = dict(
        type='Pretrained', checkpoint=str(tmp_path / 'base.pth')
    )
    check_test(det)
    det.custom_hooks = [dict(type='mmadaptor.AdaptorCheckpointHook')]
    assert 'model.backbone.init_cfg.checkpoint' in problems(det, check_test)


def test_damaged_start_is_found_before_the_data_is_read(det, tmp_path):
    torch.save(dict(state_dict={}), tmp_path / 'cut.pth')
    whole = (tmp_path / 'cut.pth').read_bytes()
    (tmp_path / 'cut.pth').write_bytes(whole[:-30])
    det.load_from = str(tmp_path / 'cut.pth')
    assert 'cut.pth is truncated' in problems(det, check_test)


def test_addresses_are_taken_as_they_are(det):
    det.model.backbone.init_cfg = dict(
        type='Pretrained', checkpoint='torchvision://resnet18'
    )
    check_training(det)


def test_toolbox_that_is_not_installed(det, monkeypatch):
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    assert 'the config needs mmdet, which is not installed' in problems(det)


def test_other_processes_of_a_job_leave_the_data_to_the_first(det, root, monkeypatch):
    (root / 'train.json').unlink()
    monkeypatch.setenv('RANK', '1')
    check_training(det)
    monkeypatch.setenv('RANK', '0')
    assert 'train.json' in problems(det)


def test_pretrained_is_found_and_dropped_wherever_it_is():
    model = dict(
        pretrained='a.pth',
        backbone=dict(
            init_cfg=[dict(type='Kaiming'), dict(type='Pretrained', checkpoint='b.pth')]
        ),
        heads=[dict(init_cfg=dict(type='Pretrained', checkpoint='c.pth'))],
    )
    assert dict(find_pretrained(model)) == {
        'model.pretrained': 'a.pth',
        'model.backbone.init_cfg.1.checkpoint': 'b.pth',
        'model.heads.0.init_cfg.checkpoint': 'c.pth',
    }
    drop_pretrained(model)
    assert not dict(find_pretrained(model))
    assert model['backbone']['init_cfg'] == [dict(type='Kaiming')]


@pytest.mark.parametrize(
    'name, paths',
    [
        (
            'mask_rcnn_vmamba_s_ms3x_coco',
            [
                'data/coco/annotations/instances_train2017.json',
                'data/coco/train2017',
                'data/coco/annotations/instances_val2017.json',
                'data/coco/val2017',
                'checkpoints/vmamba_s_imagenet.pth',
            ],
        ),
        (
            'upernet_vmamba_s_ade20k',
            [
                f'data/ade/ADEChallengeData2016/{part}/{split}'
                for part in ('images', 'annotations')
                for split in ('training', 'validation')
            ]
            + ['checkpoints/vmamba_s_imagenet.pth'],
        ),
        ('vmamba_s_imagenet', ['data/imagenet/train', 'data/imagenet/val']),
    ],
)
def test_what_each_task_lacks_and_how_to_get_it(name, paths, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = problems(Config.fromfile(ROOT / 'configs' / f'{name}.py'))
    assert f'{len(paths)} to mend' in text
    for path in paths:
        assert f'missing: {tmp_path / path}\n' in text
    assert 'Get ' in text
    recipe = 'vmamba_s_imagenet.py, then link work_dirs/vmamba_s_imagenet/'
    assert (recipe in text) == ('_imagenet' not in name)


def test_a_checkpoint_in_a_work_folder_is_its_configs(tmp_path):
    (tmp_path / 'base.py').write_text('')
    config = str(tmp_path / 'detector.py')
    said = how_to_make('work_dirs/base/epoch_3.pth', config)
    assert said.startswith('Make work_dirs/base/epoch_3.pth by python')
    assert said.endswith('base.py.')
    assert how_to_make('elsewhere/other.pth', config) == ''
    assert how_to_make('work_dirs/base/epoch_3.pth', None) == ''
