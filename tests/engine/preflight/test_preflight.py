# SPDX-License-Identifier: Apache-2.0
"""Everything that is missing or does not fit comes in one error, before the start."""

import copy

import pytest
import torch
from helpers.jobs import ROOT
from helpers.refusals import build, problems
from mmengine.config import Config
from mmengine.model import BaseModule
from mmengine.registry import MODELS

from mmadaptor.checkpoints.pretrained import (
    drop_pretrained,
    find_pretrained,
    how_to_make,
)
from mmadaptor.datasets.checked_pipeline import CheckedPipeline
from mmadaptor.engine import distributed, preflight
from mmadaptor.errors import InputError, how_to_install


def test_good_configs_pass(det, seg, cls):
    for cfg in (det, seg, cls):
        build(cfg)
        build(cfg, 'test')


def test_the_config_that_a_run_leaves_is_as_it_was(det, seg, cls):
    for cfg in (det, seg, cls):
        runner = build(cfg)
        dataset = runner.train_dataloader.dataset
        dataset = getattr(dataset, 'dataset', dataset)
        assert type(dataset.pipeline) is CheckedPipeline
        assert runner.cfg.train_dataloader == cfg.train_dataloader
        assert runner.cfg.get('val_evaluator') == cfg.get('val_evaluator')


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
    assert '5 problems found' in text
    for path in (
        'train.json', 'val.json', 'train', 'none/imagenet.pth', 'none/start.pth',
    ):  # fmt: skip
        assert f'/{path}\n' in text
    assert 'named by val_dataloader.dataset.ann_file, val_evaluator' in text
    assert 'train_dataloader.dataset.dataset.ann_file' in text
    assert 'model.backbone.init_cfg.checkpoint=PATH' in text
    assert '--from-scratch' in text


def test_what_does_not_fit_is_listed_at_once(det, root):
    (root / 'val.json').write_text('{"images": [')
    (root / 'train' / '2.png').unlink()
    det.model.bbox_head.num_classes = 7
    text = problems(det)
    assert '4 problems found' in text  # a line for each data set, one for val.json
    for said in ('val.json cannot be read', '2.png', 'num_classes is 7'):
        assert said in text


def test_a_missing_file_does_not_hide_a_head_that_does_not_fit(det, root):
    (root / 'train.json').unlink()
    det.model.bbox_head.num_classes = 7
    text = problems(det)
    assert '3 problems found' in text  # the file, and the head for each data set
    assert f'missing: {root}/train.json' in text
    assert 'model.bbox_head.num_classes is 7, but train_dataloader.dataset' in text


def test_a_test_needs_neither_training_data_nor_pretraining(det, root):
    (root / 'train.json').unlink()
    det.model.backbone.init_cfg = dict(type='Pretrained', checkpoint='none.pth')
    build(det, 'test')


def test_a_test_of_adaptors_only_needs_their_base(det, tmp_path):
    det.model.backbone.init_cfg = dict(
        type='Pretrained', checkpoint=str(tmp_path / 'base.pth')
    )
    build(det, 'test')
    det.custom_hooks = [dict(type='mmadaptor.AdaptorCheckpointHook')]
    text = problems(det, 'test')
    assert text.startswith('Test not started: 1 problem found')
    assert 'model.backbone.init_cfg.checkpoint' in text
    assert '--from-scratch' not in text


def test_a_damaged_start_is_found_before_the_data_is_read(det, tmp_path):
    torch.save(dict(state_dict={}), tmp_path / 'cut.pth')
    whole = (tmp_path / 'cut.pth').read_bytes()
    (tmp_path / 'cut.pth').write_bytes(whole[:-30])
    det.load_from = str(tmp_path / 'cut.pth')
    assert 'cut.pth is truncated' in problems(det, 'test')


def test_addresses_are_not_tried(det):
    det.model.backbone.init_cfg = dict(
        type='Pretrained', checkpoint='torchvision://resnet18'
    )
    build(det)


def test_a_toolbox_that_is_not_installed(det, monkeypatch):
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    assert 'The config needs mmdet, which is not installed' in problems(det)


def test_mmdet_without_the_ops_of_mmcv(det, monkeypatch):
    """Under every tool, before mmdet is imported; mmseg can do without them."""
    problem = 'mmcv has no compiled ops: pip install ...'
    monkeypatch.setattr('mmadaptor.errors.problem_of_mmcv_ops', lambda: problem)
    assert problems(det) == f"The config needs mmdet, which needs mmcv's ops. {problem}"
    assert how_to_install('mmseg') == how_to_install('mmpretrain') == ''


def test_a_wrong_keyword_or_type_is_named(det):
    det.model.bbox_head.num_clases = 2
    assert "unexpected keyword argument 'num_clases'" in problems(det)
    del det.model.bbox_head['num_clases']
    det.model.neck.type = 'FPM'
    assert '`model` of the config: FPM is not in the' in problems(det)


def test_other_processes_of_a_job_end_with_the_first(det, root, monkeypatch):
    """Only the first one checks the content; what it says ends all."""
    (root / 'train' / '2.png').unlink()
    said = []
    monkeypatch.setattr(distributed, 'broadcast_object_list', said.append)
    monkeypatch.setattr(preflight, 'is_main_process', lambda: False)
    build(det)
    assert said[-1] == ['']

    def told(text):
        text[0] = 'Training not started: it says'

    monkeypatch.setattr(distributed, 'broadcast_object_list', told)
    assert problems(det) == 'Training not started: it says'


def test_the_embedded_dataset_is_made_where_the_config_asks(monkeypatch):
    made = []
    monkeypatch.setattr(preflight, 'prepare', made.append)
    preflight.make_embedded_dataset(Config())
    preflight.make_embedded_dataset(Config(dict(embedded_dataset='data/shapes')))
    assert made == ['data/shapes']


def test_a_folder_that_holds_other_files_is_named(tmp_path):
    (tmp_path / 'mine.txt').write_text('precious')
    with pytest.raises(InputError, match=f'embedded_dataset: .*{tmp_path}'):
        preflight.make_embedded_dataset(Config(dict(embedded_dataset=str(tmp_path))))


def test_pretrained_is_found_and_dropped_wherever_it_is():
    pytest.importorskip('mmseg')
    model = dict(
        type='mmseg.EncoderDecoder',
        pretrained='a.pth',
        backbone=dict(
            type='mmseg.ResNet',
            init_cfg=[
                dict(type='Kaiming'),
                dict(type='Pretrained', checkpoint='b.pth'),
            ],
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


class OpenClip(BaseModule):
    """A backbone that has `pretrained` in a meaning of its own."""

    def __init__(self, pretrained):
        super().__init__()
        self.tag = pretrained


class InheritedOpenClip(OpenClip):
    """One that hands it on."""


def test_pretrained_of_a_class_of_ones_own_is_no_path(seg):
    MODELS.register_module('OpenClip', module=OpenClip, force=True)
    MODELS.register_module('InheritedOpenClip', module=InheritedOpenClip, force=True)
    for kind in ('OpenClip', 'InheritedOpenClip', OpenClip):
        own = dict(type=kind, pretrained='laion2b_s34b_b88k')
        for model in (
            own,
            dict(type='ImageClassifier', backbone=own),
            dict(
                type='mmseg.EncoderDecoder',
                pretrained='openai',
                backbone=dict(type=kind),
            ),
        ):
            before = copy.deepcopy(model)
            assert not dict(find_pretrained(model))
            drop_pretrained(model)  # as a training does that is resumed
            assert model == before


@pytest.mark.parametrize('kind', ['mmseg.ResNet', 'ResNet'])
def test_pretrained_of_a_class_of_a_toolbox_is_a_path(kind):
    """Also before a runner sets the scope."""
    pytest.importorskip('mmseg')
    model = dict(type='Unknown', backbone=dict(type=kind, pretrained='a.pth'))
    assert dict(find_pretrained(model)) == {'model.backbone.pretrained': 'a.pth'}
    drop_pretrained(model)
    assert model['backbone']['pretrained'] is None


def test_a_folder_is_no_checkpoint(det, tmp_path):
    det.load_from = str(tmp_path)
    text = problems(det, 'test')
    assert f'{tmp_path} is a folder; expected the file of a checkpoint' in text
    assert 'named by load_from' in text


SEG = [
    f'data/ade/ADEChallengeData2016/{part}/{split}'
    for part in ('images', 'annotations')
    for split in ('training', 'validation')
]


@pytest.mark.parametrize(
    'name, paths',
    [
        (
            'mask_rcnn_vmamba_t_ms3x_coco',
            [
                'data/coco/annotations/instances_train2017.json',
                'data/coco/train2017',
                'data/coco/annotations/instances_val2017.json',
                'data/coco/val2017',
                'checkpoints/vmamba_t_imagenet.pth',
            ],
        ),
        ('upernet_vmamba_t_ade20k', [*SEG, 'checkpoints/vmamba_t_imagenet.pth']),
        ('vmamba_t_imagenet', ['data/imagenet/train', 'data/imagenet/val']),
    ],
)
def test_what_each_task_lacks_and_how_to_get_it(name, paths, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = problems(Config.fromfile(ROOT / 'configs' / f'{name}.py'))
    assert f'{len(paths)} problems found' in text
    for path in paths:
        assert f'missing: {tmp_path / path}' in text
    assert 'Get ' in text
    recipe = 'vmamba_t_imagenet.py, then link work_dirs/vmamba_t_imagenet/'
    assert (recipe in text) == ('_imagenet' not in name)


def test_a_checkpoint_in_a_work_folder_is_its_configs(tmp_path):
    (tmp_path / 'base.py').write_text('')
    config = str(tmp_path / 'detector.py')
    said = how_to_make('work_dirs/base/epoch_3.pth', config)
    assert said.startswith('Make work_dirs/base/epoch_3.pth by: python')
    assert said.endswith('base.py.')
    assert how_to_make('elsewhere/other.pth', config) == ''
    assert how_to_make('work_dirs/base/epoch_3.pth', None) == ''


def test_a_checkpoint_of_classes_in_another_order(det, cls, tmp_path):
    """Its labels are other classes; a training starts from it, a test would fail."""
    path = str(tmp_path / 'trained.pth')
    for cfg, classes in ((det, ('box', 'disc')), (cls, ('disc', 'box'))):
        cfg.load_from = path
        torch.save(dict(meta=dict(dataset_meta=dict(classes=classes))), path)
        text = problems(cfg, 'test')
        assert '1 problem found' in text
        assert f'and {path} has {", ".join(classes)}' in text
        build(cfg)
        torch.save(dict(meta=dict(dataset_meta=dict(classes=classes[::-1]))), path)
        assert not [note for note in build(cfg, 'test').notes if 'labels' in note]
    torch.save(dict(meta=dict(dataset_meta=dict(classes=('Box', 'Disc')))), path)
    (note,) = [note for note in build(cls, 'test').notes if 'labels' in note]
    assert note.startswith('The same labels have other names: test_dataloader.dataset')
