# SPDX-License-Identifier: Apache-2.0
"""Tuning by config, with mmengine's runner: what is trained, saved and loaded."""

import copy
import runpy
import sys
from types import SimpleNamespace

import pytest
import torch
from helpers.jobs import ROOT, write_coco, write_labels
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner as MMEngineRunner
from torch import nn

from mmadaptor.checkpoints.adaptor_only import base_state, digest
from mmadaptor.checkpoints.loading import read_checkpoint
from mmadaptor.engine import Runner
from mmadaptor.engine.hooks.adaptor_checkpoint_hook import _with_a_file
from mmadaptor.errors import InputError
from mmadaptor.models import VMamba

SMALL = dict(embed_dims=16, depths=(1, 1, 2, 1), d_state=1, ssm_ratio=1.0)
BOTH = dict(temporal={}, spatial={}, share=True)


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    """Pictures of two classes, and the checkpoint of a base."""
    root = tmp_path_factory.mktemp('tuning')
    write_coco(root)
    write_labels(root)
    for seed in (1, 2):
        torch.manual_seed(seed)
        base = VMamba(SMALL, out_indices=(3,))
        state = {f'backbone.{k}': v for k, v in base.state_dict().items()}
        torch.save(dict(state_dict=state), root / f'base{seed}.pth')
    return root


def config(root, work_dir, base=1, **backbone):
    backbone = {
        **dict(
            type='mmadaptor.VMamba',
            arch=SMALL,
            out_indices=(3,),
            init_cfg=dict(
                type='Pretrained',
                checkpoint=str(root / f'base{base}.pth'),
                prefix='backbone.',
            ),
        ),
        **backbone,
    }
    dataset = dict(
        type='CustomDataset',
        data_root=str(root),
        data_prefix='classes',
        pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')],
    )
    loader = dict(
        batch_size=2,
        num_workers=0,
        dataset=dataset,
        collate_fn=dict(type='default_collate'),
        sampler=dict(type='DefaultSampler', shuffle=False),
    )
    return Config(
        dict(
            default_scope='mmpretrain',
            work_dir=str(work_dir),
            model=dict(
                type='ImageClassifier',
                backbone=backbone,
                data_preprocessor=dict(num_classes=2, mean=[128.0] * 3, std=[64.0] * 3),
                neck=dict(type='GlobalAveragePooling'),
                head=dict(type='LinearClsHead', num_classes=2, in_channels=128),
            ),
            train_dataloader=loader,
            test_dataloader=copy.deepcopy(loader),
            test_evaluator=dict(type='Accuracy', topk=(1,)),
            test_cfg=dict(),
            train_cfg=dict(by_epoch=True, max_epochs=1),
            optim_wrapper=dict(
                constructor='mmadaptor.OptimWrapperConstructor',
                optimizer=dict(type='AdamW', lr=0.01),
            ),
            default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1)),
            custom_hooks=[dict(type='mmadaptor.AdaptorCheckpointHook')],
            randomness=dict(seed=0),
            experiment_name=str(work_dir).replace('/', '_'),
        )
    )


def train(cfg):
    init_default_scope('mmpretrain')
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


def test_a_digest_is_of_names_types_shapes_and_bits():
    state = dict(a=torch.arange(4.0), b=torch.tensor(2), c=torch.ones(2, 3)[:, ::2])
    assert digest(state) == digest({k: state[k].clone() for k in 'cba'})
    a = state['a']
    changes = [
        dict(d=a),
        dict(a=a * torch.tensor([-1.0, 1, 1, 1])),  # -0 is another number
        dict(a=a.view(2, 2)),
        dict(a=a.view(torch.int32)),
        dict(b=torch.tensor(3)),
        dict(a=state['b'], b=a),
    ]
    found = {digest({**state, **change}) for change in changes} | {digest(state)}
    assert len(found) == len(changes) + 1


def test_what_belongs_to_a_base():
    """Statistics go with the parameters beside them, in training and frozen."""
    model = nn.ModuleDict(
        dict(
            frozen=nn.BatchNorm1d(2).requires_grad_(False),
            partly=nn.BatchNorm1d(2),
            trained=nn.BatchNorm1d(2),
            plain=nn.BatchNorm1d(2, affine=False),
            temporal=nn.BatchNorm1d(2).requires_grad_(False),
        )
    )
    model.partly.weight.requires_grad_(False)
    model.frozen.register_buffer('cache', torch.ones(2), persistent=False)
    frozen = {f'frozen.{name}' for name in nn.BatchNorm1d(2).state_dict()}
    assert base_state(model).keys() == frozen | {'partly.weight'}


TUNED = dict(adaptors=BOTH, trainable=['adaptors'])


@pytest.fixture(scope='module')
def tuned(root):
    return train(config(root, root / 'tuned', **TUNED))


def test_what_a_tuned_run_leaves(root, tuned):
    content = torch.load(root / 'tuned' / 'epoch_1.pth', weights_only=False)
    names = set(content['state_dict'])
    assert all(
        '.temporal.' in n or '.spatial.' in n or n.startswith('head.') for n in names
    )
    assert {'head.fc.weight', 'backbone.stages.2.1.mixer.temporal.gamma'} <= names
    base = torch.load(root / 'base1.pth')['state_dict']
    for name, value in tuned.model.state_dict().items():
        if name in base:
            assert torch.equal(value, base[name])
    assert (tuned.model.backbone.stages[0][0].mixer.temporal.gamma != 0).any()


def test_the_optimizer_and_the_log(root, tuned):
    held = [p for g in tuned.optim_wrapper.optimizer.param_groups for p in g['params']]
    trainable = [p for p in tuned.model.parameters() if p.requires_grad]
    assert {id(p) for p in held} == {id(p) for p in trainable}
    assert len(held) == len(trainable)
    total = sum(p.numel() for p in tuned.model.parameters())
    some = sum(p.numel() for p in trainable)
    log = next((root / 'tuned').glob('*/*.log')).read_text()
    assert (
        f'Trainable: {some:,} of {total:,} parameters ({100 * some / total:.3f} %)'
    ) in log


def test_images_are_drawn_by_the_tuned_model_on_its_base(root, tuned, tmp_path):
    demo = runpy.run_path(str(ROOT / 'tools' / 'image_demo.py'))
    cfg = config(root, tmp_path, **TUNED)
    arguments = SimpleNamespace(
        config='config.py', checkpoint=str(root / 'tuned' / 'epoch_1.pth'), device='cpu'
    )
    names, models = demo['build'].__globals__, []
    load = names['build_and_load']

    def keep(*args):
        models.append(load(*args))
        return models[0]

    names['build_and_load'] = keep
    draw = demo['build'](cfg, arguments)
    shown = models[0].state_dict()
    for name, value in tuned.model.state_dict().items():
        assert torch.equal(shown[name], value), name
    draw(str(root / 'val' / '0.png'), str(tmp_path / 'drawn.png'))
    assert (tmp_path / 'drawn.png').is_file()


def reloaded(root, work_dir, checkpoint, kind=Runner, **changes):
    cfg = config(root, work_dir, **{**TUNED, **changes})
    cfg.load_from = str(checkpoint)
    init_default_scope('mmpretrain')
    runner = kind.from_cfg(cfg)
    runner.load_or_resume()
    return runner


@pytest.mark.parametrize('kind', [Runner, MMEngineRunner])
def test_it_is_loaded_over_its_base(root, tuned, tmp_path, kind):
    again = reloaded(root, tmp_path, root / 'tuned' / 'epoch_1.pth', kind)
    expected = tuned.model.state_dict()
    for name, value in again.model.state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_resumed_training_goes_on(root, tuned, tmp_path):
    cfg = config(root, tmp_path, **TUNED)
    cfg.load_from, cfg.resume = str(root / 'tuned' / 'epoch_1.pth'), True
    cfg.train_cfg.max_epochs = 2
    resumed = train(cfg)
    assert resumed.epoch == 2
    assert digest(base_state(resumed.model)) == digest(base_state(tuned.model))


def test_another_base_is_refused(root, tuned, tmp_path):
    with pytest.raises(
        InputError,
        match=(
            r'epoch_1.pth was tuned on another base, or other parts of it were '
            r'frozen: expected the digest [0-9a-f]{16}, got [0-9a-f]{16} for \d+ '
        ),
    ):
        reloaded(root, tmp_path, root / 'tuned' / 'epoch_1.pth', base=2)


@pytest.mark.parametrize('trainable', [['adaptors', 'norms'], None], ids=str)
def test_what_trains_now_and_did_not_is_refused(root, tuned, tmp_path, trainable):
    with pytest.raises(InputError, match='or other parts of it were frozen'):
        reloaded(root, tmp_path, root / 'tuned' / 'epoch_1.pth', trainable=trainable)


def test_what_is_frozen_now_and_was_not_is_named(root, tmp_path):
    train(config(root, tmp_path / 'norms', trainable=['norms']))
    with pytest.raises(
        InputError,
        match=r'it trained \d+ weights that the config freezes, such as backbone',
    ):
        reloaded(
            root,
            tmp_path,
            tmp_path / 'norms' / 'epoch_1.pth',
            adaptors=None,
            trainable=[],
        )


def test_a_changed_file_is_refused(root, tuned, tmp_path):
    content = torch.load(root / 'tuned' / 'epoch_1.pth', weights_only=False)
    content['state_dict']['head.fc.bias'] += 1
    torch.save(content, tmp_path / 'changed.pth')
    with pytest.raises(InputError, match='changed.pth was changed after it was saved'):
        reloaded(root, tmp_path, tmp_path / 'changed.pth')


@pytest.mark.parametrize('note', [3, 'x', dict(base='y')])
def test_a_wrong_note_is_refused(root, tuned, tmp_path, note):
    content = torch.load(root / 'tuned' / 'epoch_1.pth', weights_only=False)
    content['meta']['tuning'] = note
    torch.save(content, tmp_path / 'changed.pth')
    with pytest.raises(InputError, match=r'changed.pth: expected the digests'):
        reloaded(root, tmp_path, tmp_path / 'changed.pth')


def test_unshared_adaptors_do_not_fit_shared_ones(root, tmp_path):
    apart = dict(temporal=dict(gamma_init=1.0), spatial={})
    train(config(root, tmp_path / 'apart', adaptors=apart, trainable=['adaptors']))
    with pytest.raises(
        InputError,
        match=(
            r'stages.2.1.mixer.\S+ and backbone.stages.2.0.mixer.\S+ are one shared'
        ),
    ):
        reloaded(root, tmp_path, tmp_path / 'apart' / 'epoch_1.pth')


def test_other_adaptors_are_named(root, tuned, tmp_path):
    with pytest.raises(InputError, match='unexpected:\n.*mixer.spatial.alpha'):
        reloaded(
            root,
            tmp_path,
            root / 'tuned' / 'epoch_1.pth',
            adaptors=dict(temporal={}, share=True),
        )


def test_frozen_parameters_in_the_optimizer_are_refused(root, tmp_path):
    cfg = config(root, tmp_path, **TUNED)
    del cfg.optim_wrapper['constructor']
    with pytest.raises(InputError, match='frozen parameters. Set optim_wrapper.constr'):
        train(cfg)


def test_a_base_that_no_file_holds_is_refused(root, tmp_path):
    cfg = config(root, tmp_path, **TUNED, init_cfg=None)
    with pytest.raises(
        InputError,
        match='saves no base, and backbone.* is frozen, .* names a file for that part',
    ):
        train(cfg)
    # Nor does a file of another part.
    head = {'head.fc.weight': torch.ones(2, 128), 'head.fc.bias': torch.ones(2)}
    torch.save(dict(state_dict=head), tmp_path / 'head.pth')
    cfg.model.head.init_cfg = dict(
        type='Pretrained', checkpoint=str(tmp_path / 'head.pth'), prefix='head.'
    )
    with pytest.raises(InputError, match='saves no base, and backbone'):
        train(cfg)


PRETRAINED = dict(type='Pretrained', checkpoint='a.pth')


@pytest.mark.parametrize(
    'model, prefix',
    [
        (dict(init_cfg=PRETRAINED), ''),
        # mmpretrain's is the whole classifier.
        (dict(type='mmpretrain.ImageClassifier', pretrained='a.pth'), ''),
        (
            dict(backbone=dict(init_cfg=[dict(type='Constant'), PRETRAINED])),
            'backbone.',
        ),
        (
            dict(backbone=dict(type='LoRAModel', module=dict(init_cfg=PRETRAINED))),
            'backbone.module.',
        ),
        (
            dict(backbone=dict(type='mmpretrain.ResNet', pretrained='a.pth')),
            'backbone.',
        ),
    ],
)
def test_what_a_file_holds_the_base_of(model, prefix):
    cfg = Config(dict(default_scope='mmpretrain', model=model))
    assert _with_a_file(cfg) == (prefix,)


def test_the_file_of_a_segmentor_is_that_of_its_backbone():
    pytest.importorskip('mmseg')
    model = dict(type='EncoderDecoder', pretrained='a.pth')
    assert _with_a_file(Config(dict(default_scope='mmseg', model=model))) == (
        'backbone.',
    )


def test_frozen_adaptors_are_saved_and_loaded(root, tmp_path):
    """They start at random, and no base has them."""
    frozen = dict(adaptors=dict(temporal={}, spatial={}), frozen_stages=1)
    expected = train(config(root, tmp_path, **{**TUNED, **frozen})).model.state_dict()
    torch.manual_seed(9)
    again = reloaded(root, tmp_path / 'again', tmp_path / 'epoch_1.pth', **frozen)
    for name, value in again.model.state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_ema_is_refused(root, tmp_path):
    cfg = config(root, tmp_path, **TUNED)
    cfg.custom_hooks.append(dict(type='EMAHook'))
    with pytest.raises(InputError, match='exclude each other'):
        train(cfg)


@pytest.mark.parametrize('trainable', [None, [], ['biases', 'norms']])
def test_baselines(root, tmp_path, trainable):
    runner = train(config(root, tmp_path, trainable=trainable))
    names = set(torch.load(tmp_path / 'epoch_1.pth', weights_only=False)['state_dict'])
    expected = {n for n, p in runner.model.named_parameters() if p.requires_grad}
    assert names == expected
    again = reloaded(
        root, tmp_path, tmp_path / 'epoch_1.pth', adaptors=None, trainable=trainable
    )
    for name, value in again.model.state_dict().items():
        assert torch.equal(value, runner.model.state_dict()[name])


def lora(root, work_dir, base=1):
    cfg = config(root, work_dir, base)
    cfg.model.backbone = dict(
        type='LoRAModel',
        module=cfg.model.backbone,
        alpha=8,
        rank=2,
        targets=[dict(type=r'.*mixer\.(in_proj|out_proj)')],
    )
    return cfg


def test_lora_by_mmpretrain(root, tmp_path):
    runner = train(lora(root, tmp_path))
    names = set(torch.load(tmp_path / 'epoch_1.pth', weights_only=False)['state_dict'])
    assert names and all('.lora_' in n or n.startswith('head.') for n in names)
    for base in (1, 2):
        cfg = lora(root, tmp_path / str(base), base)
        cfg.load_from = str(tmp_path / 'epoch_1.pth')
        again = Runner.from_cfg(cfg)
        if base == 2:
            with pytest.raises(InputError, match='tuned on another base'):
                again.load_or_resume()
            return
        again.load_or_resume()
        other = dict(runner.model.named_parameters())
        for name, value in again.model.named_parameters():
            assert torch.equal(value, other[name])


def test_resume_loads_the_base_of_adaptors_only(root, tuned, tmp_path):
    """And of no other checkpoint, whose weights take its place."""
    for checkpoint, base in (('tuned/epoch_1.pth', 1), ('whole.pth', None)):
        if base is None:
            content = torch.load(root / 'tuned/epoch_1.pth', weights_only=False)
            del content['meta']['tuning']
            torch.save(content, root / checkpoint)
        cfg = config(root, tmp_path / str(base), **TUNED)
        cfg.update(load_from=str(root / checkpoint), resume=True)
        runner = Runner.from_cfg(cfg)
        init_cfg = runner.model.backbone.init_cfg
        assert (init_cfg is None) == (base is None)


def test_the_tools_train_and_test_it(root, tmp_path, monkeypatch, capsys):
    config(root, tmp_path / 'run', **TUNED).dump(tmp_path / 'config.py')
    for name, arguments in (
        ('train', []),
        ('test', [str(tmp_path / 'run' / 'epoch_1.pth')]),
    ):
        path = str(ROOT / 'tools' / f'{name}.py')
        monkeypatch.setattr(
            sys, 'argv', [path, str(tmp_path / 'config.py'), *arguments]
        )
        runpy.run_path(path, run_name='__main__')
    assert 'accuracy/top1' in capsys.readouterr().out
    names = set(
        torch.load(tmp_path / 'run' / 'epoch_1.pth', weights_only=False)['state_dict']
    )
    assert all(
        '.temporal.' in n or '.spatial.' in n or n.startswith('head.') for n in names
    )


@pytest.mark.parametrize('name', ['whole.pth', 'whole.safetensors'])
def test_merged_with_the_base_it_is_a_checkpoint_like_any(
    root, tuned, tmp_path, monkeypatch, capsys, name
):
    cfg = config(root, tmp_path, **TUNED)
    cfg.dump(tmp_path / 'config.py')
    merge = str(ROOT / 'tools' / 'merge_adaptors.py')
    source = str(root / 'tuned' / 'epoch_1.pth')
    monkeypatch.setattr(
        sys, 'argv', ['merge', str(tmp_path / 'config.py'), source, source]
    )
    with pytest.raises(SystemExit, match='give another name'):
        runpy.run_path(merge, run_name='__main__')
    monkeypatch.setattr(
        sys,
        'argv',
        [
            'merge',
            str(tmp_path / 'config.py'),
            str(root / 'tuned' / 'epoch_1.pth'),
            str(tmp_path / name),
        ],
    )
    capsys.readouterr()
    runpy.run_path(merge, run_name='__main__')
    said = capsys.readouterr()
    assert f'{len(tuned.model.state_dict())} tensors.' in said.out
    assert 'stages.2.1' not in said.out + said.err
    whole = read_checkpoint(str(tmp_path / name))
    expected = tuned.model.state_dict()
    assert set(whole['state_dict']) == set(expected)
    assert all(torch.equal(v, expected[k]) for k, v in whole['state_dict'].items())
    assert 'tuning' not in whole['meta'] and whole['meta']['epoch'] == 1


def test_as_a_base_it_has_to_be_merged_first(root, tuned):
    path = str(root / 'tuned' / 'epoch_1.pth')
    backbone = VMamba(
        SMALL,
        out_indices=(3,),
        init_cfg=dict(type='Pretrained', checkpoint=path, prefix='backbone.'),
    )
    with pytest.raises(InputError, match='without its base.*merge_adaptors.py'):
        backbone.init_weights()
