"""Everything that is missing or broken comes in one error, before the start."""

import json

import pytest
import torch
from jobs import DETECTOR, ROOT, write_coco, write_config
from mmengine.config import Config

from mmadaptor.engine.checkpoints.pretrained import (
    drop_pretrained,
    find_pretrained,
    how_to_make,
)
from mmadaptor.engine.checks.preflight import check_test, check_training
from mmadaptor.engine.errors import InputError

pytest.importorskip('mmdet')


@pytest.fixture
def root(tmp_path):
    return write_coco(tmp_path / 'data')


@pytest.fixture
def cfg(root, tmp_path):
    return Config.fromfile(
        write_config(tmp_path, DETECTOR, data_root=str(root)))


def problems(cfg, check=check_training):
    with pytest.raises(InputError) as error:
        check(cfg)
    return str(error.value)


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_a_good_config_passes(cfg):
    check_training(cfg)
    check_test(cfg)


def test_all_that_is_missing_is_listed_at_once(cfg, root):
    (root / 'train.json').unlink()
    (root / 'val.json').unlink()
    for image in (root / 'train').iterdir():
        image.unlink()
    (root / 'train').rmdir()
    cfg.model.backbone.init_cfg = dict(
        type='Pretrained', checkpoint='none/imagenet.pth')
    cfg.load_from = 'none/start.pth'
    text = problems(cfg)
    assert '5 to mend' in text
    for path in ('train.json', 'val.json', 'train', 'none/imagenet.pth',
                 'none/start.pth'):
        assert f'/{path}\n' in text
    assert ('named by val_dataloader.dataset.ann_file, val_evaluator.ann_file'
            in text)
    assert 'train_dataloader.dataset.dataset.ann_file' in text
    assert 'model.backbone.init_cfg.checkpoint=PATH' in text
    assert '--from-scratch' in text


def test_a_test_needs_neither_training_data_nor_pretraining(cfg, root):
    (root / 'train.json').unlink()
    cfg.model.backbone.init_cfg = dict(type='Pretrained', checkpoint='none.pth')
    check_test(cfg)


def test_a_test_of_adaptors_alone_needs_their_base(cfg, tmp_path):
    cfg.load_from = None
    cfg.model.backbone.init_cfg = dict(
        type='Pretrained', checkpoint=str(tmp_path / 'base.pth'))
    check_test(cfg)
    cfg.custom_hooks = [dict(type='mmadaptor.AdaptorCheckpointHook')]
    assert 'model.backbone.init_cfg.checkpoint' in problems(cfg, check_test)


def test_coco_itself_comes_with_its_address(cfg):
    for split in ('val', 'test'):
        cfg[f'{split}_dataloader'].dataset.update(
            data_root='none/coco', metainfo=None)
    assert 'https://cocodataset.org' in problems(cfg, check_test)


@pytest.mark.parametrize('text', ['', '{"images": [', 'no JSON'])
def test_broken_json_is_named(cfg, root, text):
    (root / 'val.json').write_text(text)
    message = problems(cfg)
    assert f'{root / "val.json"} is broken JSON' in message
    assert f'the file has {len(text)} bytes' in message


def test_missing_images_are_counted(cfg, root):
    (root / 'val' / '1.png').unlink()
    (root / 'val' / '3.png').unlink()
    assert 'lacks 2 of the 4 images' in problems(cfg)
    assert '(first: 1.png, 3.png)' in problems(cfg)


def test_images_in_subfolders_are_found(cfg, root):
    (root / 'val' / 'a').mkdir()
    (root / 'val' / '0.png').rename(root / 'val' / 'a' / '0.png')
    assert '(first: 0.png)' in problems(cfg)

    def move(content):
        content['images'][0]['file_name'] = 'a/0.png'

    edit(root / 'val.json', move)
    check_training(cfg)


def test_category_mismatch_shows_both_sides(cfg, root):
    cfg.train_dataloader.dataset.dataset.metainfo = dict(
        classes=('disc', 'ring'))
    text = problems(cfg)
    assert "has no category 'ring' (1 of the 2 in metainfo.classes" in text
    assert 'its categories are disc, box' in text


def test_default_classes_of_coco_do_not_fit_another_file(cfg):
    del cfg.test_dataloader.dataset['metainfo']
    assert '80 in metainfo.classes' in problems(cfg, check_test)


def test_left_out_categories_are_noted_and_stop_nothing(cfg, monkeypatch):
    cfg.val_dataloader.dataset.metainfo = dict(classes=('disc', ))
    cfg.train_dataloader.dataset.dataset.metainfo = dict(classes=('disc', ))
    cfg.model.bbox_head.num_classes = 1
    said = []
    monkeypatch.setattr('mmadaptor.engine.checks.preflight.print_log',
                        lambda message, *_: said.append(message))
    check_training(cfg)
    assert len(said) == 2
    assert '1 categories are not in metainfo.classes' in said[0]


def test_head_of_another_number_of_classes(cfg):
    cfg.model.bbox_head.num_classes = 80
    text = problems(cfg)
    assert 'model.bbox_head.num_classes is 80' in text
    assert 'train_dataloader.dataset.dataset has 2 classes' in text


@pytest.mark.parametrize('part, change, says', [
    ('annotations', dict(category_id=9), 'category_id is not in the file'),
    ('annotations', dict(image_id=9), 'image_id is not in the file'),
    ('annotations', dict(id=1), 'annotations of equal id'),
])
def test_annotations_that_lead_nowhere(cfg, root, part, change, says):
    edit(root / 'val.json', lambda content: content[part][0].update(change))
    assert says in problems(cfg)


def test_a_part_that_is_not_there(cfg, root):
    edit(root / 'val.json', lambda content: content.pop('categories'))
    assert 'has no list `categories`' in problems(cfg)


def test_an_entry_without_its_keys(cfg, root):
    edit(root / 'val.json', lambda content: content['images'][2].pop('width'))
    assert 'has 1 `images` without id, file_name, height, width (first: number 2' \
        in problems(cfg)


def test_damaged_start_is_found_before_the_data_is_read(cfg, tmp_path):
    torch.save(dict(state_dict={}), tmp_path / 'cut.pth')
    whole = (tmp_path / 'cut.pth').read_bytes()
    (tmp_path / 'cut.pth').write_bytes(whole[:-30])
    cfg.load_from = str(tmp_path / 'cut.pth')
    assert 'cut.pth is truncated' in problems(cfg, check_test)


def test_addresses_are_taken_as_they_are(cfg):
    cfg.model.backbone.init_cfg = dict(
        type='Pretrained', checkpoint='torchvision://resnet18')
    check_training(cfg)


def test_toolbox_that_is_not_installed(cfg, monkeypatch):
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    assert 'mmdet is not installed: pip install "mmadaptor[det]"' in problems(cfg)


def test_other_processes_of_a_job_leave_the_data_to_the_first(cfg, root, monkeypatch):
    (root / 'train.json').unlink()
    monkeypatch.setenv('RANK', '1')
    check_training(cfg)
    monkeypatch.setenv('RANK', '0')
    assert 'train.json' in problems(cfg)


def test_pretrained_is_found_and_dropped_wherever_it_is():
    model = dict(
        pretrained='a.pth',
        backbone=dict(init_cfg=[dict(type='Kaiming'),
                                dict(type='Pretrained', checkpoint='b.pth')]),
        heads=[dict(init_cfg=dict(type='Pretrained', checkpoint='c.pth'))])
    assert dict(find_pretrained(model)) == {
        'model.pretrained': 'a.pth',
        'model.backbone.init_cfg.1.checkpoint': 'b.pth',
        'model.heads.0.init_cfg.checkpoint': 'c.pth'}
    drop_pretrained(model)
    assert not dict(find_pretrained(model))
    assert model['backbone']['init_cfg'] == [dict(type='Kaiming')]


@pytest.mark.parametrize('name, paths', [
    ('mask_rcnn_vmamba_s_ms3x_coco', [
        'data/coco/annotations/instances_train2017.json', 'data/coco/train2017',
        'data/coco/annotations/instances_val2017.json', 'data/coco/val2017',
        'checkpoints/vmamba_s_imagenet.pth']),
    ('upernet_vmamba_s_ade20k', [
        f'data/ade/ADEChallengeData2016/{part}/{split}'
        for part in ('images', 'annotations')
        for split in ('training', 'validation')
    ] + ['checkpoints/vmamba_s_imagenet.pth']),
    ('vmamba_s_imagenet', ['data/imagenet/train', 'data/imagenet/val']),
])
def test_what_each_task_lacks_and_how_to_get_it(
        name, paths, tmp_path, monkeypatch):
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
