# SPDX-License-Identifier: Apache-2.0
"""How the processes of a job find each other, and what DDP is told."""

import argparse
import copy
import os
import pathlib

import pytest
import torch
from helpers import toy  # noqa: F401
from helpers.jobs import TOY, write_config
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.registry import MODEL_WRAPPERS, MODELS, init_default_scope
from mmengine.structures import InstanceData, PixelData

from mmadaptor.engine import Runner, distributed
from mmadaptor.engine.command_line import load_config
from mmadaptor.engine.distributed import (
    VARIABLES,
    check_launcher,
    join_on_cpu,
    leave_processes,
    wrapper_for_cpu,
)
from mmadaptor.errors import InputError

CONFIG = (
    pathlib.Path(__file__).parents[2]
    / 'configs'
    / 'mask_rcnn_mamba_adaptor_b0_shapes.py'
)


@pytest.fixture
def environment(monkeypatch):
    """No launcher's variables."""
    for names in (*VARIABLES.values(), ('LOCAL_RANK',)):
        for name in names:
            monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.fixture
def alone(environment):
    """A job of one process that torchrun started on a CPU."""
    values = ('0', '1', '127.0.0.1', '0', '0')
    for name, value in zip(VARIABLES['pytorch'], values):
        environment.setenv(name, value)
    environment.setattr(distributed, 'get_device', lambda: 'cpu')
    yield environment
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize(
    'launcher, lacks, way',
    [
        ('pytorch', 'RANK, WORLD_SIZE', 'dist_train.sh'),
        ('slurm', 'SLURM_PROCID', 'slurm_train.sh'),
        ('mpi', 'OMPI_COMM_WORLD_RANK', 'mpirun'),
    ],
)
def test_launcher_that_did_not_start_the_job(launcher, lacks, way, environment):
    with pytest.raises(InputError, match=f'lacks {lacks}.*{way}'):
        check_launcher(launcher)


def test_processes_that_would_each_do_the_whole_job(environment, tmp_path):
    config = write_config(tmp_path, TOY, work_dir='run')
    environment.setenv('RANK', '0')
    environment.setenv('WORLD_SIZE', '2')
    with pytest.raises(InputError, match='started 2 processes.*--launcher py'):
        load_config(
            argparse.Namespace(
                config=config,
                work_dir=None,
                cfg_options={},
                launcher='none',
                local_rank=0,
            )
        )


def test_a_job_of_one_process_is_left_alone(environment):
    check_launcher('none')
    environment.setenv('WORLD_SIZE', '2')  # without a RANK no launcher set it
    check_launcher('none')
    environment.setenv('WORLD_SIZE', '1')
    environment.setenv('RANK', '0')
    check_launcher('none')
    join_on_cpu('none', {})
    assert not torch.distributed.is_initialized()


def test_gloo_on_a_cpu_and_a_wrapper_without_devices(alone):
    join_on_cpu('pytorch', dict(backend='nccl', timeout=60))
    assert torch.distributed.get_backend() == 'gloo'
    assert os.environ['LOCAL_RANK'] == '0'
    assert wrapper_for_cpu(Config(), None) == dict(
        type='MMDistributedDataParallel',
        device_ids=None,
        broadcast_buffers=False,
        find_unused_parameters=False,
    )


@pytest.mark.parametrize(
    'launcher, values',
    [('slurm', ('0', '1', 'localhost', '0')), ('mpi', ('0', '1', '127.0.0.1', '0'))],
)
def test_other_launchers_on_a_cpu(launcher, values, alone):
    for name, value in zip(VARIABLES[launcher], values):
        alone.setenv(name, value)
    for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK'):
        alone.delenv(name)
    join_on_cpu(launcher, {})
    assert torch.distributed.get_backend() == 'gloo'
    assert os.environ['LOCAL_RANK'] == os.environ[VARIABLES[launcher][-1]] == '0'


def test_the_runner_joins_and_wraps_on_a_cpu(alone, tmp_path):
    """Whatever builds it: also the toolboxes' own tools."""
    runner = Runner(
        HalfUsed(),
        str(tmp_path),
        launcher='pytorch',
        env_cfg=dict(dist_cfg=dict(backend='nccl')),
        experiment_name=str(tmp_path),
    )
    assert torch.distributed.get_backend() == 'gloo'
    assert runner.model.device_ids is None


def test_a_wrapper_of_the_config_stays():
    wrapper = dict(type='MMDistributedDataParallel', find_unused_parameters=True)
    assert wrapper_for_cpu(Config(), wrapper) == dict(device_ids=None, **wrapper)
    other = dict(type='MMFullyShardedDataParallel', cpu_offload=True)
    assert wrapper_for_cpu(Config(), other) == other


def test_accelerators_are_left_to_mmengine(alone):
    alone.setattr(distributed, 'get_device', lambda: 'cuda')
    join_on_cpu('pytorch', {})
    assert not torch.distributed.is_initialized()


def threads_of_gloo():
    names = pathlib.Path('/proc/self/task').glob('*/comm')
    return sum('gloo' in name.read_text() for name in names)


def test_nothing_of_the_group_outlives_the_job(alone):
    """Its threads would drop tensors, and abort, while Python ends."""
    before = threads_of_gloo()
    join_on_cpu('pytorch', {})
    # As a runner's: a wrapper that holds the group, and a cycle that holds it.
    runner = dict(
        model=MODEL_WRAPPERS.build(
            dict(wrapper_for_cpu(Config(), None), module=torch.nn.Linear(2, 1))
        )
    )
    runner['hook'] = runner
    del runner
    assert threads_of_gloo() > before
    leave_processes()
    assert threads_of_gloo() == before


class HalfUsed(BaseModel):
    """A model with a layer that its loss does not need."""

    def __init__(self):
        super().__init__()
        self.frozen = torch.nn.Parameter(torch.ones(1), requires_grad=False)
        self.used, self.unused = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)

    def forward(self, inputs, mode='loss', **others):
        return dict(loss=self.used(torch.ones(1, 2)).sum())


class Features(BaseModel):
    """A backbone and a loss that needs all of its maps."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = MODELS.build(backbone)

    def forward(self, inputs, mode='loss'):
        return dict(loss=sum(x.square().mean() for x in self.backbone(inputs)))


def train(model, batch, steps=3):
    """Steps of DDP as a job takes them; a parameter left out ends them."""
    join_on_cpu('pytorch', {})
    wrapper = wrapper_for_cpu(Config(), None)
    assert not wrapper['find_unused_parameters']
    model = MODEL_WRAPPERS.build(dict(wrapper, module=model.train()))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    for _ in range(steps):
        losses = model.train_step(batch, OptimWrapper(optimizer))
    return losses


def test_ddp_notices_an_unused_parameter(alone):
    with pytest.raises(RuntimeError, match='not used in producing loss'):
        train(HalfUsed(), dict(inputs=torch.ones(1, 2)))


BOOSTER = dict(
    type='mmadaptor.VMamba',
    arch=dict(embed_dims=8, depths=(1, 1, 1, 1), d_state=1, ssm_ratio=1.0),
)


@pytest.mark.parametrize(
    'backbone',
    [
        dict(type='mmadaptor.MambaAdaptor', arch='b0'),
        dict(**BOOSTER, adaptors=dict(temporal=dict(), spatial=dict())),
        dict(
            **BOOSTER,
            adaptors=dict(temporal=dict(sequences=1), blocks=[[], [], [0], [0]]),
        ),
        dict(
            **BOOSTER,
            adaptors=dict(spatial=dict(dilations=(1,))),
            out_indices=(1, 3),
            frozen_stages=1,
        ),
    ],
)
def test_every_parameter_of_a_backbone_is_used(backbone, alone):
    train(Features(backbone), dict(inputs=torch.randn(2, 3, 32, 32)))


def test_every_parameter_of_the_embedded_detector_is_used(alone):
    pytest.importorskip('mmdet')
    from mmdet.testing import demo_mm_inputs

    cfg = Config.fromfile(CONFIG)
    init_default_scope('mmdet')
    model = MODELS.build(cfg.model)
    batch = demo_mm_inputs(
        2, [(3, 64, 64)] * 2, num_items=[2, 2], num_classes=6, with_mask=True
    )
    losses = train(model, batch)
    assert torch.isfinite(losses['loss'])


def fcn(kind, **head):
    model = dict(
        type='mmseg.EncoderDecoder',
        data_preprocessor=dict(type='mmseg.SegDataPreProcessor', size=(64, 64)),
        backbone=BACKBONE,
        decode_head=dict(
            type=f'mmseg.{kind}',
            in_channels=64,
            channels=8,
            num_classes=3,
            norm_cfg=dict(type='GN', num_groups=2),
            **head,
        ),
    )
    from mmseg.structures import SegDataSample

    sample = SegDataSample(gt_sem_seg=PixelData(data=torch.ones(1, 64, 64).long()))
    return 'mmseg', model, sample


def retinanet():
    from mmdet.structures import DetDataSample

    path = Config._get_cfg_path('mmdet::retinanet/retinanet_r50_fpn_1x_coco.py', '')[0]
    model = Config.fromfile(path).model
    model.backbone = BACKBONE
    model.neck.update(in_channels=[8, 16, 32, 64], out_channels=8, start_level=1)
    model.bbox_head.update(in_channels=8, feat_channels=8, stacked_convs=1)
    objects = InstanceData(
        bboxes=torch.tensor([[4.0, 4.0, 40.0, 40.0]]), labels=torch.tensor([1])
    )
    shape = dict(img_shape=(64, 64), pad_shape=(64, 64), batch_input_shape=(64, 64))
    sample = DetDataSample(metainfo=shape, gt_instances=objects)
    sample.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4))
    return 'mmdet', model, sample


def classifier():
    from mmpretrain.structures import DataSample

    model = dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(BACKBONE, out_indices=(0, 1, 2, 3)),
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(type='mmpretrain.LinearClsHead', num_classes=3, in_channels=64),
    )
    return 'mmpretrain', model, DataSample().set_gt_label(1)


BACKBONE = dict(
    type='mmadaptor.VMamba', **{k: v for k, v in BOOSTER.items() if k != 'type'}
)
HEADS = dict(
    fcn=lambda: fcn('FCNHead', num_convs=1),
    pspnet=lambda: fcn('PSPHead', pool_scales=(1, 2)),
    deeplab=lambda: fcn('DepthwiseSeparableASPPHead', c1_in_channels=8, c1_channels=8),
    retinanet=retinanet,
    classifier=classifier,
)


@pytest.mark.parametrize('name', HEADS)
def test_heads_that_do_not_read_every_output(name, alone, tmp_path):
    """Three steps of DDP are those of one process; unread norms stay as they are."""
    scope, config, sample = HEADS[name]()
    init_default_scope(scope)
    model = MODELS.build(config).train()
    plain = copy.deepcopy(model)
    runner = Runner(
        model, str(tmp_path), launcher='pytorch', experiment_name=str(tmp_path)
    )
    assert runner.model.find_unused_parameters
    torch.manual_seed(0)
    images = torch.randn(2, 3, 64, 64)
    for trained in (runner.model, plain):
        optimizer = OptimWrapper(torch.optim.AdamW(trained.parameters(), lr=1e-2))
        for _ in range(3):
            data = dict(
                inputs=list(images), data_samples=[sample.clone() for _ in images]
            )
            torch.manual_seed(0)  # drop path and dropout
            trained.train_step(data, optimizer)
    torch.testing.assert_close(model.state_dict(), plain.state_dict())
    norms = {n: p for n, p in model.backbone.named_parameters() if n.startswith('norm')}
    unread = [n for n, p in norms.items() if n.endswith('bias') and not p.any()]
    read = dict(deeplab='03', retinanet='123').get(name, '3')
    assert unread == [f'norm{i}.bias' for i in range(4) if str(i) not in read]
