# SPDX-License-Identifier: Apache-2.0
"""One bad batch costs a step, not the run."""

import re
from types import SimpleNamespace

import pytest
import torch
from helpers import toy
from helpers.jobs import TOY, write_config
from mmengine.config import Config
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.registry import (
    DATASETS,
    MODELS,
    OPTIM_WRAPPER_CONSTRUCTORS,
    OPTIM_WRAPPERS,
)

from mmadaptor.engine import NonFiniteHook, Runner
from mmadaptor.engine.hooks.non_finite_hook import _files_of, _finite
from mmadaptor.errors import InputError


@DATASETS.register_module()
class BadDataset(toy.ToyDataset):
    """Samples of which some have another value than a number."""

    def __init__(self, bad, value=float('nan')):
        self.bad, self.value = set(bad), value
        super().__init__()

    def prepare_data(self, idx):
        inputs = torch.full((4,), self.value if idx in self.bad else 1.0)
        return dict(inputs=inputs, data_samples=toy.Sample(f'image_{idx}.png'))


@MODELS.register_module()
class NormModel(toy.ToyModel):
    """A model whose buffers take part in a bad batch."""

    def __init__(self, width=1):
        super().__init__(width)
        self.norm = torch.nn.BatchNorm1d(4)
        self.register_buffer('mask', torch.full((2,), float('-inf')))

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return super().forward(list(self.norm(torch.stack(list(inputs)))), mode=mode)


@MODELS.register_module()
class RootModel(toy.ToyModel):
    """A finite loss whose gradient is not."""

    def forward(self, inputs, data_samples=None, mode='tensor'):
        x = torch.stack(list(inputs)) * self.layer.weight.sum()
        bad = (torch.stack(list(inputs)) > 100).any()
        x = torch.sqrt((x * 0).abs().sum()) if bad else x.square().mean()
        return dict(loss=x) if mode == 'loss' else [x]


def runner_of(folder, bad, value=float('nan'), options=(), **hook):
    """Builds a runner of two epochs of 8 batches."""
    cfg = Config.fromfile(write_config(folder, TOY, work_dir=str(folder / 'run')))
    cfg.merge_from_dict(
        {
            'model': dict(type='ToyModel', width=5),
            'train_dataloader.dataset': dict(type='BadDataset', bad=bad, value=value),
            'train_dataloader.batch_size': 1,
            'train_dataloader.num_workers': 0,
            'train_dataloader.sampler.shuffle': False,
            'train_cfg.max_epochs': 2,
            'custom_hooks': [],
            'experiment_name': str(folder),  # of two in a second, the log is one
            'default_hooks.non_finite': dict(type='mmadaptor.NonFiniteHook', **hook),
            **dict(options),
        }
    )
    return Runner.from_cfg(cfg)


def log_of(folder):
    (log,) = (folder / 'run').glob('*/*.log')
    return log.read_text()


def weights(path):
    return torch.load(path, weights_only=False)['state_dict']


def test_a_bad_batch_is_skipped_and_named(tmp_path):
    runner_of(tmp_path, [2, 5]).train()
    saved = weights(tmp_path / 'run' / 'epoch_2.pth')
    assert all(value.isfinite().all() for value in saved.values())
    assert not torch.equal(saved['layer.weight'], torch.zeros(4, 4))
    log = log_of(tmp_path)
    assert 'Iteration 3: loss = nan is not finite. The step was skipped.' in log
    assert 'Its batch: image_2.png' in log and 'Its batch: image_5.png' in log
    assert len(re.findall('The step was skipped', log)) == 4  # twice an epoch


def test_without_bad_batches_nothing_changes(tmp_path):
    for name, hook in dict(on=dict(), off=None).items():
        (tmp_path / name).mkdir()
        options = {} if hook is not None else {'default_hooks.non_finite': None}
        runner_of(tmp_path / name, [], options=options).train()
    on, off = (weights(tmp_path / n / 'run' / 'epoch_2.pth') for n in ('on', 'off'))
    torch.testing.assert_close(on, off, rtol=0, atol=0)


def test_a_finite_loss_with_a_bad_gradient_is_skipped(tmp_path):
    options = {'model': dict(type='RootModel', width=5)}
    runner_of(tmp_path, [3], value=1000.0, options=options).train()
    saved = weights(tmp_path / 'run' / 'epoch_2.pth')
    assert all(value.isfinite().all() for value in saved.values())
    log = log_of(tmp_path)
    assert 'Iteration 4: the gradients are not finite. The step was skipped. ' in log
    assert 'image_3.png' in log


def test_clipped_gradients_are_skipped_too(tmp_path):
    options = {'optim_wrapper.clip_grad': dict(max_norm=1.0)}
    runner_of(tmp_path, [2], options=options).train()
    saved = weights(tmp_path / 'run' / 'epoch_2.pth')
    assert all(value.isfinite().all() for value in saved.values())


@pytest.mark.parametrize('allowed', [0, 2])
def test_too_many_in_a_row_stop_the_training(tmp_path, allowed):
    runner = runner_of(tmp_path, range(3, 8), max_skipped=allowed)
    pattern = (
        rf'Iteration {4 + allowed}: loss = nan.*image_{3 + allowed}\.png'
        rf'(?s:.*)iteration {allowed + 1} of these in a row.*There is no checkpoint'
    )
    with pytest.raises(InputError, match=pattern):
        runner.train()
    assert all(p.isfinite().all() for p in runner.model.parameters())


def test_good_iterations_in_between_start_the_count_anew(tmp_path):
    runner_of(tmp_path, [0, 1, 3, 4, 6, 7], max_skipped=4).train()
    assert (tmp_path / 'run' / 'epoch_2.pth').exists()


def test_the_last_checkpoint_is_named_and_kept(tmp_path):
    """From the second epoch on, all is bad: weights were set by someone else."""
    runner = runner_of(tmp_path, [])

    def spoil(runner):
        if runner.epoch == 1:
            with torch.no_grad():
                runner.model.ballast[0] = float('inf')

    runner.hooks[0].before_train_epoch = spoil
    pattern = r'A checkpoint was not saved\..*: ballast\..*run/epoch_1\.pth'
    with pytest.raises(InputError, match=pattern):
        runner.train()
    assert sorted(p.name for p in (tmp_path / 'run').glob('*.pth*')) == ['epoch_1.pth']
    assert all(
        v.isfinite().all() for v in weights(tmp_path / 'run/epoch_1.pth').values()
    )


def test_bad_buffers_stop_at_once_and_masks_do_not(tmp_path):
    """A batch norm takes the NaN into its running mean; `-inf` masks are meant."""
    options = {'model': dict(type='NormModel'), 'train_dataloader.batch_size': 2}
    runner_of(tmp_path, [], options=options).train()
    assert 'mask' in weights(tmp_path / 'run' / 'epoch_2.pth')
    (tmp_path / 'bad').mkdir()
    runner = runner_of(tmp_path / 'bad', [5], options=options)
    with pytest.raises(InputError, match=r'Iteration 3: (?s:.*)norm\.running_mean'):
        runner.train()


def test_a_norm_that_overflows_is_finite():
    big = torch.full((3,), 1e30)
    assert not big.norm().isfinite() and _finite([big, torch.ones(2)])
    for bad in ('inf', '-inf', 'nan'):
        assert not _finite([big, torch.tensor([1.0, float(bad)])])


def test_an_averaged_model_has_its_masks_too(tmp_path):
    options = {'model': dict(type='NormModel'), 'train_dataloader.batch_size': 2}
    options['custom_hooks'] = [dict(type='EMAHook')]
    runner_of(tmp_path, [], options=options).train()
    saved = torch.load(tmp_path / 'run' / 'epoch_2.pth', weights_only=False)
    assert not saved['ema_state_dict']['module.mask'].isfinite().any()


def test_sparse_gradients_are_looked_at():
    for value in (1.0, float('nan')):
        sparse = torch.sparse_coo_tensor([[0, 1]], [value, 1.0], (4,))
        assert _finite([sparse, torch.ones(2)]) == (value == 1.0)


@pytest.mark.parametrize('part', ['state_dict', 'ema_state_dict', 'optimizer'])
def test_every_part_of_a_checkpoint_is_looked_at(part, tmp_path):
    value = torch.ones(2)
    tensors = {'a': value, 'steps': torch.tensor(3)}
    checkpoint = {part: dict(state={0: tensors}, groups=[dict(lr=0.1)], none=None)}
    hook, runner = NonFiniteHook(), SimpleNamespace(work_dir=str(tmp_path))
    hook.before_save_checkpoint(runner, checkpoint)
    value[1] = float('inf')
    with pytest.raises(
        InputError, match=r'was not saved\. .* not finite: state\.0\.a\.'
    ):
        hook.before_save_checkpoint(runner, checkpoint)


@pytest.mark.parametrize(
    'dtype', ['float16', 'bfloat16', 'float64', 'complex64', 'float8_e4m3fn']
)
def test_numbers_of_every_type_are_looked_at(dtype, tmp_path):
    hook, runner = NonFiniteHook(), SimpleNamespace(work_dir=str(tmp_path))
    good, bad = (
        torch.tensor([1.0, value]).to(getattr(torch, dtype))
        for value in (2.0, float('nan'))
    )
    assert _finite([good, torch.ones(1)]) and not _finite([torch.ones(1), bad])
    hook.before_save_checkpoint(runner, dict(state_dict=dict(a=good)))
    with pytest.raises(InputError, match='not finite: a'):
        hook.before_save_checkpoint(runner, dict(state_dict=dict(a=bad)))


def test_weights_that_are_bad_from_the_start_are_refused(tmp_path):
    runner = runner_of(tmp_path, [])
    runner.model.ballast.data[0] = float('nan')
    runner.model.init_weights = lambda: None
    with pytest.raises(InputError, match='weights that are not finite: ballast'):
        runner.train()


def test_the_files_of_a_batch_of_any_form():
    sample = toy.Sample('a.png')
    for batch in ([sample], dict(sup=[sample], unsup=[sample]), [[sample]]):
        assert 'a.png' in _files_of(dict(data_samples=batch))
    for batch in (torch.ones(3), None, 3, [torch.ones(1)]):
        assert _files_of(dict(data_samples=batch)) == 'it names no files'
    assert _files_of([1, 2]) == 'it names no files'


@pytest.mark.parametrize('bad', [0, 3])
def test_accumulated_gradients_name_the_batch_that_was_bad(tmp_path, bad):
    options = {'optim_wrapper.accumulative_counts': 4, 'train_cfg.max_epochs': 1}
    runner = runner_of(tmp_path, [bad], options=options, max_skipped=1)
    runner.train()
    log = log_of(tmp_path)
    assert f'Iteration {bad + 1}: loss = nan is not finite.' in log
    assert log.count('not finite') == 1
    assert f'Its batch: image_{bad}.png' in log


@OPTIM_WRAPPERS.register_module()
class ScaledOptimWrapper(OptimWrapper):
    """As mmengine's with a gradient scaler: it leaves out steps by itself."""

    loss_scaler = None

    def update_params(self, loss, *args, **kwargs):
        if loss.isfinite():
            super().update_params(loss, *args, **kwargs)


def test_with_a_scaler_single_bad_losses_do_not_add_up(tmp_path):
    options = {'optim_wrapper.type': 'ScaledOptimWrapper'}
    runner_of(tmp_path, [1, 3, 5], options=options, max_skipped=1).train()
    log = log_of(tmp_path)
    assert log.count('loss = nan is not finite. Its batch: ') == 6
    with pytest.raises(InputError, match='iteration 2 of these in a row'):
        (tmp_path / 'row').mkdir()
        runner_of(tmp_path / 'row', [1, 2], options=options, max_skipped=1).train()


def test_its_argument_is_checked():
    with pytest.raises(InputError, match='max_skipped.*expected 0 or more, got -1'):
        NonFiniteHook(max_skipped=-1)


@OPTIM_WRAPPERS.register_module()
class SwitchedOptimWrapper(OptimWrapper):
    """As mmengine's `AmpOptimWrapper` with `loss_scale=dict(enabled=...)`."""

    def __init__(self, enabled, **kwargs):
        super().__init__(**kwargs)
        self.loss_scaler = torch.amp.GradScaler('cpu', enabled=enabled)

    def backward(self, loss, **kwargs):
        self.loss_scaler.scale(loss).backward()
        self._inner_count += 1

    def step(self, **kwargs):
        self.loss_scaler.step(self.optimizer)
        self.loss_scaler.update()


@pytest.mark.parametrize('enabled', [True, False])
def test_a_scaler_that_is_switched_off_skips_nothing(enabled, tmp_path):
    wrapper = dict(type='SwitchedOptimWrapper', enabled=enabled)
    wrapper['optimizer'] = dict(type='AdamW', lr=0.01)
    runner = runner_of(tmp_path, [2], options={'optim_wrapper': wrapper})
    runner.train()
    assert all(p.isfinite().all() for p in runner.model.parameters())
    assert log_of(tmp_path).count('The step was skipped') == 2 * (not enabled)


@MODELS.register_module()
class PairModel(toy.ToyModel):
    """Two parts with an optimizer each; the loss of one is not finite."""

    def __init__(self, bad, width=1):
        super().__init__(width)
        self.bad = bad
        self.parts = torch.nn.ModuleDict({n: torch.nn.Linear(4, 1) for n in 'ab'})

    def train_step(self, data, optim_wrapper):
        for name, part in self.parts.items():
            loss = part(torch.stack(list(data['inputs']))).square().mean()
            loss = loss * float('nan') if name == self.bad else loss
            optim_wrapper[name].update_params(loss)
        return dict(loss_b=torch.ones(()))


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class PairConstructor:
    """An optimizer for each part."""

    def __init__(self, optim_wrapper_cfg, paramwise_cfg=None):
        pass

    def __call__(self, model):
        return OptimWrapperDict(
            **{
                name: OptimWrapper(torch.optim.AdamW(part.parameters()))
                for name, part in model.parts.items()
            }
        )


@pytest.mark.parametrize('bad', ['a', 'b'])
def test_any_of_several_optimizers_is_counted(bad, tmp_path):
    options = {
        'model': dict(type='PairModel', bad=bad),
        'optim_wrapper': dict(
            constructor='PairConstructor', optimizer=dict(type='AdamW')
        ),
    }
    runner = runner_of(tmp_path, [], options=options, max_skipped=3)
    with pytest.raises(InputError, match='Iteration 4: the gradients are not finite'):
        runner.train()
    assert all(p.isfinite().all() for p in runner.model.parameters())
