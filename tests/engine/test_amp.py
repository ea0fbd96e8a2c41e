# SPDX-License-Identifier: Apache-2.0
"""Mixed precision on a CPU: the backbone in bfloat16, all else in float32."""

import pathlib

import pytest
import torch
from helpers.jobs import TOY, refusal, write_config
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.registry import MODELS, OPTIM_WRAPPERS, init_default_scope
from torch.utils._python_dispatch import TorchDispatchMode

import mmadaptor  # noqa: F401
from mmadaptor.engine import CPUAmpOptimWrapper, Runner, amp
from mmadaptor.engine.amp import lower_on_cpu
from mmadaptor.errors import InputError
from mmadaptor.ops import cross_selective_scan

CONFIG = (
    pathlib.Path(__file__).parents[2]
    / 'configs'
    / 'mask_rcnn_mamba_adaptor_b0_shapes.py'
)


@pytest.fixture(autouse=True)
def cpu(monkeypatch):
    monkeypatch.setattr(amp, 'get_device', lambda: 'cpu')
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Small(BaseModel):
    """A backbone, and a head that says what it gets."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.backbone = MODELS.build(
            dict(
                type='mmadaptor.MambaAdaptor',
                out_indices=(0, 3),
                arch=dict(embed_dims=8, depths=(1, 1, 1, 1), d_state=1, ssm_ratio=1.0),
            )
        )

    def forward(self, inputs, mode='loss'):
        self.maps = self.backbone(inputs)
        self.matmul = (torch.ones(2, 2) @ torch.ones(2, 2)).dtype
        return dict(loss=sum(x.square().mean() for x in self.maps))


class Dtypes(TorchDispatchMode):
    """The types that go into our ops and come out."""

    def __init__(self):
        super().__init__()
        self.seen = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func.namespace == 'mmadaptor':
            first = result if isinstance(result, torch.Tensor) else result[0]
            self.seen[func.__name__.split('.')[0]] = (
                [a.dtype for a in args if isinstance(a, torch.Tensor)],
                first.dtype,
            )
        return result


def wrapper(model, lr=1e-3):
    return OPTIM_WRAPPERS.build(
        dict(
            type='mmadaptor.CPUAmpOptimWrapper',
            optimizer=torch.optim.AdamW(model.parameters(), lr=lr),
        )
    )


def test_backbone_is_lowered_and_nothing_else():
    model = Small()
    inner = []
    model.backbone.stages[1].register_forward_hook(
        lambda module, inputs, outputs: inner.append(outputs.dtype)
    )
    steps = wrapper(model)
    model.train_step(dict(inputs=torch.randn(2, 3, 32, 32)), steps)
    assert inner == [torch.bfloat16]
    assert {x.dtype for x in model.maps} == {torch.float32} == {model.matmul}
    assert {s['exp_avg'].dtype for s in steps.optimizer.state.values()} == {
        torch.float32
    }
    model(torch.randn(2, 3, 32, 32))
    assert inner == [torch.bfloat16, torch.float32]


def test_states_stay_in_float32():
    model = Small()
    with Dtypes() as dtypes:
        model.train_step(dict(inputs=torch.randn(2, 3, 32, 32)), wrapper(model))
    x, delta, A, *_ = dtypes.seen['cross_selective_scan'][0]
    assert (x, delta, A) == (torch.bfloat16, torch.bfloat16, torch.float32)
    # Adaptor-T looks the states up and reads them out.
    assert dtypes.seen['memory_readout'] == ([torch.float32] * 3, torch.float32)


def test_the_scan_adds_up_in_float32():
    """Rounded inputs and a rounded result, and nothing rounded in between."""
    torch.manual_seed(0)
    A = -torch.rand(4, 8, 1) * 0.01  # a long memory: a bfloat16 sum would stall
    full = dict(
        x=torch.rand(1, 24, 24, 8),
        delta=torch.rand(1, 24, 24, 4, 8),
        B=torch.rand(1, 24, 24, 4, 1),
        C=torch.rand(1, 24, 24, 4, 1),
    )
    rounded = {k: v.bfloat16().float() for k, v in full.items()}
    with torch.autocast('cpu', dtype=torch.bfloat16):
        y = cross_selective_scan(**full, A=A)
    torch.testing.assert_close(
        y.float(), cross_selective_scan(**rounded, A=A), rtol=2**-8, atol=0
    )


def test_what_is_no_bfloat16_keeps_its_type():
    class Two(torch.nn.Module):
        def forward(self, x):
            return x.bfloat16(), torch.tensor([3])

    module = Two()
    with amp.lowered(module):
        assert [y.dtype for y in module(torch.ones(1))] == [torch.float32, torch.int64]


def test_an_error_inside_leaves_no_autocast_behind():
    model = Small()
    with pytest.raises(RuntimeError):
        model.train_step(dict(inputs=torch.randn(2, 4, 32, 32)), wrapper(model))
    assert not torch.is_autocast_enabled('cpu')
    assert model(torch.randn(2, 3, 32, 32))['loss'].dtype == torch.float32


def test_the_embedded_detector_learns_as_in_float32():
    pytest.importorskip('mmdet')
    from mmdet.testing import demo_mm_inputs

    init_default_scope('mmdet')
    cfg = Config.fromfile(CONFIG)
    losses = {}
    for lowered in (False, True):
        torch.manual_seed(0)
        model = MODELS.build(cfg.model).train()
        model.init_weights()
        batch = demo_mm_inputs(
            2, [(3, 128, 128)] * 2, num_items=[2, 2], num_classes=6, with_mask=True
        )
        steps = (
            wrapper(model)
            if lowered
            else OPTIM_WRAPPERS.build(
                dict(
                    type='OptimWrapper',
                    optimizer=torch.optim.AdamW(model.parameters(), lr=1e-3),
                )
            )
        )
        losses[lowered] = [
            model.train_step(batch, steps)['loss'].item()
            for _ in range(12 if lowered else 1)
        ]
    assert torch.isfinite(torch.tensor(losses[True])).all()
    assert losses[True][0] == pytest.approx(losses[False][0], rel=0.02)
    assert losses[True][-1] < 0.8 * losses[True][0]


WRAPPER = dict(type='AmpOptimWrapper', optimizer=dict(type='SGD', lr=0.1))


@pytest.mark.parametrize(
    'dtype', [{}, dict(dtype='bfloat16'), dict(dtype=torch.bfloat16)]
)
@pytest.mark.parametrize(
    'kind',
    # The last one as mmengine dumps a class.
    ['AmpOptimWrapper', AmpOptimWrapper, 'mmengine.optim.AmpOptimWrapper'],
)
def test_amp_of_mmengine_becomes_ours(dtype, kind):
    wrapper = dict(
        type=kind, loss_scale='dynamic', clip_grad=dict(max_norm=5.0), **dtype
    )
    assert lower_on_cpu(wrapper, Small()) == dict(
        type='mmadaptor.CPUAmpOptimWrapper', clip_grad=dict(max_norm=5.0)
    )


def test_other_wrappers_and_accelerators_are_left_alone(monkeypatch):
    wrapper = dict(type='OptimWrapper')
    assert lower_on_cpu(wrapper, Small()) is wrapper
    built = OptimWrapper(torch.optim.SGD(Small().parameters(), lr=0.1))
    assert lower_on_cpu(built, Small()) is built
    monkeypatch.setattr(amp, 'get_device', lambda: 'cuda')
    wrapper = dict(type='AmpOptimWrapper', dtype='float16')
    assert lower_on_cpu(wrapper, Small()) is wrapper


def test_any_tool_gets_it_by_the_runner(tmp_path):
    runner = Runner(Small(), str(tmp_path), experiment_name=str(tmp_path))
    assert type(runner.build_optim_wrapper(dict(WRAPPER))) is CPUAmpOptimWrapper
    with pytest.raises(InputError, match='CPU mixed precision supports bfloat16 only'):
        runner.build_optim_wrapper(dict(WRAPPER, dtype='float64'))


def test_what_a_cpu_cannot_do_is_an_error(tmp_path, monkeypatch):
    toy = write_config(tmp_path, TOY, work_dir=str(tmp_path / 'run'))
    message = refusal(monkeypatch, 'train', toy, '--amp-dtype', 'float16')
    assert 'supports bfloat16 only' in message and 'Got float16' in message
    message = refusal(monkeypatch, 'train', toy, '--amp')
    assert 'ToyModel has no `backbone`. Omit --amp.' in message
