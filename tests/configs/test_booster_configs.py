# SPDX-License-Identifier: Apache-2.0
"""Boosters start as their base; rates and shares are as the configs say."""

import gc
import pathlib

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import EpochBasedTrainLoop
from test_configs import small, write_pictures

from mmadaptor.checkpoints.adaptor_only import count_trainable
from mmadaptor.engine import Runner
from mmadaptor.errors import InputError

ROOT = pathlib.Path(__file__).parents[2] / 'configs'


@pytest.fixture(autouse=True)
def collected():
    """Runners refer to themselves: without this every model stays in memory."""
    yield
    gc.collect()


def read(name):
    cfg = Config.fromfile(ROOT / f'{name}.py')
    init_default_scope(cfg.default_scope)
    return cfg


def optimizer_of(cfg, model):
    from mmengine.optim import build_optim_wrapper

    return build_optim_wrapper(model, cfg.optim_wrapper).optimizer


@pytest.mark.parametrize(
    'name, base',
    [
        ('vmamba_t_booster_imagenet', 'vmamba_t_imagenet'),
        ('vim_ti_booster_imagenet', 'vim_ti_imagenet'),
    ],
)
def test_a_booster_starts_as_its_pretrained_base(name, base, tmp_path):
    """Bit for bit, by the config's own load_from; rates are ten to one."""
    torch.manual_seed(1)
    plain = MODELS.build(read(base).model).eval()
    with torch.no_grad():
        for p in plain.parameters():
            p.add_(torch.randn_like(p) * 0.02)
    cfg = read(name)
    assert cfg.load_from == f'checkpoints/{base}.pth'
    path = tmp_path / f'{base}.pth'
    torch.save(dict(state_dict=plain.state_dict()), path)
    cfg.update(
        load_from=str(path),
        work_dir=str(tmp_path),
        train_dataloader=None,
        train_cfg=None,
        val_dataloader=None,
        val_cfg=None,
        val_evaluator=None,
        test_dataloader=None,
        test_cfg=None,
        test_evaluator=None,
        param_scheduler=None,
    )
    wrapper = cfg.pop('optim_wrapper')
    runner = Runner.from_cfg(cfg)
    runner._train_loop = object.__new__(EpochBasedTrainLoop)  # a training starts
    runner.call_hook('before_run')
    runner.load_or_resume()
    boosted = runner.model.eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(boosted(images), plain(images))
    cfg.optim_wrapper = wrapper
    names = {id(p): n for n, p in boosted.named_parameters()}
    for group in optimizer_of(cfg, boosted).param_groups:
        for p in group['params']:
            key = names[id(p)]
            adaptor = '.temporal.' in key or '.spatial.' in key
            assert group['lr'] == pytest.approx(1e-3 if adaptor else 1e-4), key
            flat = p.ndim == 1 or 'alpha' in key
            if adaptor:
                assert group['weight_decay'] == (0 if flat else 0.05), key
    state = plain.state_dict()
    state.pop('head.fc.bias')
    torch.save(dict(state_dict=state), path)
    with pytest.raises(InputError, match=r'1 missing:\s+head.fc.bias'):
        runner._has_loaded = False
        runner.load_or_resume()


def test_rates_of_the_detector():
    cfg = read('mask_rcnn_vmamba_t_booster_coco')
    cfg.model.backbone.init_cfg = None
    model = MODELS.build(cfg.model)
    names = {id(p): n for n, p in model.named_parameters()}
    for group in optimizer_of(cfg, model).param_groups:
        for p in group['params']:
            key = names[id(p)]
            adaptor = '.temporal.' in key or '.spatial.' in key
            assert group['lr'] == pytest.approx(1e-3 if adaptor else 1e-4), key
            if adaptor:
                flat = p.ndim == 1 or 'alpha' in key
                assert group['weight_decay'] == (0 if flat else 0.05), key


BLOCKS = {96: 2, 192: 2, 384: 8, 768: 2}  # by width
SHARED = sum(55 * d + 24 for d in BLOCKS)
# The stem has 48 and 96 channels; a block has three norms; the output has one.
NORMS = 2 * (48 + sum(BLOCKS) + 3 * sum(d * n for d, n in BLOCKS.items()) + 768)
CONVS = sum(9 * d * n for d, n in BLOCKS.items())
# What trains in addition to the head, if it is simple.
WAYS = dict(
    a_d=sum(2 * 4 * d * n for d, n in BLOCKS.items()),
    adaptors=SHARED,
    adaptors_norms_conv=SHARED + NORMS + CONVS,
    adaptors_norms=SHARED + NORMS,
    bitfit=None,
    conv=CONVS,
    full=None,
    linear=0,
    lora=None,
    norms=NORMS,
    spatial=sum(30 * d * n for d, n in BLOCKS.items()),
    # Predictors (24 D + 24) and gamma.
    temporal=sum((25 * d + 24) * n for d, n in BLOCKS.items()),
    unshared=sum((55 * d + 24) * n for d, n in BLOCKS.items()),
)


def test_the_ways_are_all():
    assert [p.stem for p in sorted((ROOT / 'tuning').glob('*.py'))] == [
        f'vmamba_t_{way}_cub' for way in WAYS
    ]


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """Two pictures as CUB-200 has them."""
    root = tmp_path_factory.mktemp('data')
    cub = root / 'CUB_200_2011'
    for file, values in dict(
        images=write_pictures(cub / 'images'),
        image_class_labels=(1, 2),
        train_test_split=(1, 1),
    ).items():
        lines = [f'{i + 1} {value}' for i, value in enumerate(values)]
        (cub / f'{file}.txt').write_text('\n'.join(lines))
    return root


def test_what_is_missing_of_cub(tmp_path):
    """Adaptors alone have to have a base."""
    cfg = read('tuning/vmamba_t_adaptors_cub')
    cfg.work_dir = str(tmp_path)
    runner = Runner.from_cfg(cfg)
    with pytest.raises(InputError) as refused:
        runner.train()
    said = str(refused.value)
    assert '/data/CUB_200_2011/images\n' in said and 'Get CUB-200-2011' in said
    assert 'vmamba_t_imagenet.pth' in said and '--from-scratch' not in said


@pytest.mark.parametrize('way', WAYS)
def test_ways_of_tuning(way, data, tmp_path):
    """Each trains its head, and of the backbone what it says."""
    cfg = Config(small(read(f'tuning/vmamba_t_{way}_cub').to_dict(), data))
    cfg.update(
        work_dir=str(tmp_path), val_dataloader=None, val_cfg=None, val_evaluator=None
    )
    cfg.train_dataloader.update(
        num_workers=0, batch_size=2, collate_fn=dict(type='default_collate')
    )
    for crop in cfg.train_dataloader.dataset.pipeline:
        if crop.type in ('Resize', 'RandomCrop'):
            crop.update({k: 64 for k in ('scale', 'crop_size') if k in crop})
    runner = Runner.from_cfg(cfg)
    model = runner.model
    runner._train_loop = runner.build_train_loop(cfg.train_cfg)
    runner.optim_wrapper = runner.build_optim_wrapper(cfg.optim_wrapper)
    schedulers = runner.build_param_scheduler(cfg.param_scheduler)
    assert max(s.end for s in schedulers) >= runner._train_loop.max_epochs == 100
    trained, total = count_trainable(model)
    head = 769 * 200
    if way == 'full':
        assert trained == total
    elif WAYS[way] is not None:
        assert trained - head == WAYS[way]
    else:
        assert 0 < trained - head < 0.02 * total
    held = {
        id(p) for g in runner.optim_wrapper.optimizer.param_groups for p in g['params']
    }
    assert held == {id(p) for p in model.parameters() if p.requires_grad}
    before = {n: p.clone() for n, p in model.named_parameters()}
    losses = model.train_step(next(iter(runner.train_dataloader)), runner.optim_wrapper)
    assert torch.isfinite(losses['loss'])
    for name, p in model.named_parameters():
        assert p.requires_grad or torch.equal(p, before[name]), name
