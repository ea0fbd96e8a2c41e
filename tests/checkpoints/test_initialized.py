# SPDX-License-Identifier: Apache-2.0
"""`init_cfg=Pretrained` of models, heads and backbones of the toolboxes."""

import pytest
import torch
from helpers.jobs import TOY, write_config
from mmengine.config import Config
from mmengine.model import BaseModel, BaseModule, PretrainedInit
from mmengine.registry import MODELS, init_default_scope

from mmadaptor.checkpoints.initialized import checked_initializers
from mmadaptor.engine import Runner
from mmadaptor.errors import CheckpointMismatchError, InputError

BEFORE = PretrainedInit.__call__


class Part(BaseModule):
    def __init__(self, wide=3, init_cfg=None):
        super().__init__(init_cfg)
        self.first = torch.nn.Linear(2, 2)
        self.fc = torch.nn.Linear(2, wide)


class Whole(BaseModel):
    def __init__(self, part=None, init_cfg=None, wide=3, head=None):
        super().__init__(init_cfg=init_cfg)
        self.head = head or Part(wide, init_cfg=part)

    def forward(self, inputs):
        return self.head.fc(self.head.first(inputs))


def saved(path, state, **others):
    torch.save(dict(state_dict=state, **others), path)
    return dict(type='Pretrained', checkpoint=str(path))


def twos(module, prefix=''):
    return {prefix + k: torch.full_like(v, 2) for k, v in module.state_dict().items()}


def initialize(model, **exceptions):
    with checked_initializers(model, **exceptions):
        model.init_weights()
    assert PretrainedInit.__call__ is BEFORE
    return model


@pytest.mark.parametrize('kind', ['Pretrained', PretrainedInit], ids=str)
@pytest.mark.parametrize('prefix', ['', 'module.'])
def test_the_whole_model_is_loaded(kind, prefix, tmp_path):
    init_cfg = dict(saved(tmp_path / 'a.pth', twos(Whole(), prefix)), type=kind)
    model = initialize(Whole(init_cfg=init_cfg))
    assert all((p == 2).all() for p in model.parameters())


@pytest.mark.parametrize('part', [None, 'head'])
@pytest.mark.parametrize(
    'state, says',
    [
        (dict(x=torch.ones(3)), '4 missing'),
        (twos(Part(wide=5)), r'fc.weight: expected \(3, 2\), got \(5, 2\)'),
    ],
    ids=['another model', 'other classes'],
)
def test_a_file_of_another_model_is_an_error(part, state, says, tmp_path):
    if part is None:
        state = {f'head.{k}' if k != 'x' else k: v for k, v in state.items()}
    init_cfg = saved(tmp_path / 'other.pth', state)
    model = Whole(init_cfg) if part else Whole(init_cfg=init_cfg)
    with pytest.raises(
        CheckpointMismatchError, match=f'(?s)other.pth does not.*{says}'
    ):
        initialize(model)
    assert PretrainedInit.__call__ is BEFORE


@pytest.mark.parametrize('part', [None, 'head'])
def test_skipped_weights_keep_their_values(part, tmp_path):
    state = twos(Part(wide=5)) if part else twos(Whole(wide=5))
    init_cfg = saved(tmp_path / 'wide.pth', state)
    model = Whole(init_cfg) if part else Whole(init_cfg=init_cfg)
    initialize(model, skip=[r'^head\.fc\.'])
    assert (model.head.first.weight == 2).all() and (model.head.fc.weight != 2).all()


def test_a_whole_model_may_lack_only_what_is_named(tmp_path):
    state = twos(Whole())
    del state['head.fc.bias']
    init_cfg = saved(tmp_path / 'less.pth', state)
    with pytest.raises(
        CheckpointMismatchError, match=r'1 missing:\n    head\.fc\.bias'
    ):
        initialize(Whole(init_cfg=init_cfg))
    initialize(Whole(init_cfg=init_cfg), optional=[r'fc\.bias'])


def test_a_part_by_prefix(tmp_path):
    state = twos(Part(), 'neck.')
    init_cfg = saved(tmp_path / 'a.pth', dict(state, other=torch.ones(1)))
    model = initialize(Whole(dict(init_cfg, prefix='neck')))
    assert (model.head.fc.weight == 2).all()
    with pytest.raises(InputError, match=r"prefix 'body\.'; its names start with neck"):
        initialize(Whole(dict(init_cfg, prefix='body.')))
    init_cfg = saved(tmp_path / 'a.pth', twos(Part(), 'module.'))  # of a wrapper
    assert (initialize(Whole(init_cfg)).head.fc.weight == 2).all()


def test_the_log_says_where_weights_come_from_and_they_go_where_they_shall(tmp_path):
    init_cfg, places = saved(tmp_path / 'a.pth', twos(Part())), []

    def place(storage, location):
        places.append(location)
        return storage

    part = Part()
    start = dict(init_info='at random', tmp_mean_value=0.0)
    part._params_init_info = {p: dict(start) for p in part.parameters()}
    with checked_initializers():
        PretrainedInit(init_cfg['checkpoint'], map_location=place)(part)
    said = [info['init_info'] for info in part._params_init_info.values()]
    assert said == [f'Pretrained: loaded from {tmp_path / "a.pth"}'] * 4
    assert places == ['cpu'] * 4


@pytest.mark.parametrize(
    'lacking, skip, fits, lines',
    [
        (['first.weight', 'first.bias'], [], True, '2 missing'),
        (['first.weight', 'first.bias', 'fc.bias'], [], False, '3 missing'),
        (['fc.weight', 'fc.bias'], [r'fc\.'], True, ''),
        (['first.bias'], [r'fc\.'], True, '1 missing'),
        (['first.weight', 'first.bias'], [r'fc\.'], False, '2 missing'),
    ],
)
def test_a_part_gets_half_of_its_weights(lacking, skip, fits, lines, tmp_path, log):
    """Of those that are not skipped."""
    state = {key: v for key, v in twos(Part()).items() if key not in lacking}
    model = Whole(saved(tmp_path / 'a.pth', state))
    if not fits:
        with pytest.raises(
            CheckpointMismatchError, match=f'(?s)not fit head Part.*{lines}'
        ):
            initialize(model, skip=skip)
        return
    initialize(model, skip=skip)
    assert lines in ''.join(log) and len(log) == bool(lines)


@pytest.fixture
def log(monkeypatch):
    said = []
    monkeypatch.setattr(
        'mmadaptor.checkpoints.initialized.warn', lambda text, *_: said.append(text)
    )
    return said


RESNET = dict(type='mmdet.ResNet', depth=18, base_channels=4)


def resnet(**arguments):
    init_default_scope('mmdet')
    return MODELS.build(dict(RESNET, **arguments))


def test_a_stock_backbone_takes_a_classifier_and_it_is_said(tmp_path, log):
    """torchvision's files have a classifier, and DCN adds layers to a ResNet."""
    state = twos(resnet())
    init_cfg = saved(tmp_path / 'a.pth', {**state, 'fc.bias': torch.ones(9)})
    model = initialize(Whole(head=resnet(init_cfg=init_cfg)))
    assert (model.head.layer4[1].conv2.weight == 2).all()
    assert '1 unexpected:\n    fc.bias' in log.pop()
    plugins = [
        dict(
            cfg=dict(type='ContextBlock', ratio=0.5),
            stages=(False, True, True, True),
            position='after_conv2',
        )
    ]
    bottlenecks = dict(depth=50, base_channels=4)
    init_cfg = saved(tmp_path / 'b.pth', twos(resnet(**bottlenecks)))
    model = resnet(**bottlenecks, plugins=plugins, init_cfg=init_cfg)
    initialize(Whole(head=model))
    assert 'missing:\n    layer2.0.context_block' in log.pop()
    initialize(Whole(head=resnet(**bottlenecks, init_cfg=init_cfg)))
    assert log == []


def test_a_stock_backbone_of_another_size_is_an_error(tmp_path):
    init_cfg = saved(tmp_path / 'wide.pth', twos(resnet(base_channels=8)))
    with pytest.raises(CheckpointMismatchError, match=r'conv1.weight: expected \(4, 3'):
        initialize(Whole(head=resnet(init_cfg=init_cfg)))


def test_what_a_toolbox_resizes_itself_is_loaded(tmp_path):
    """mmpretrain's ViT resizes its position embedding when it loads one."""
    init_default_scope('mmpretrain')
    arch = dict(embed_dims=8, num_layers=1, num_heads=1, feedforward_channels=8)
    vit = dict(type='VisionTransformer', arch=arch, patch_size=8)
    small, large = (MODELS.build(dict(vit, img_size=size)) for size in (16, 32))
    init_cfg = saved(tmp_path / 'small.pth', twos(small))
    large.init_cfg = init_cfg
    initialize(Whole(head=large))
    assert large.pos_embed.shape == (1, 17, 8)
    torch.testing.assert_close(large.pos_embed, torch.full((1, 17, 8), 2.0))


def test_the_runner_checks(tmp_path):
    init_cfg = saved(tmp_path / 'other.pth', dict(x=torch.ones(3)))
    cfg = Config.fromfile(write_config(tmp_path, TOY, work_dir=str(tmp_path)))
    cfg.model.init_cfg = init_cfg
    runner = Runner.from_cfg(cfg)
    with pytest.raises(
        CheckpointMismatchError, match='other.pth does not fit ToyModel'
    ):
        runner.train()
    assert not list(tmp_path.glob('epoch*'))
