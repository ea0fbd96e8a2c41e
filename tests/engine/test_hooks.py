"""The hooks, without a runner around them where that is enough."""

import errno
import pathlib
import random
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import toy  # noqa: F401
from jobs import TOY, write_config
from mmengine.config import Config
from mmengine.dataset import worker_init_fn
from mmengine.fileio import get_file_backend
from mmengine.logging import MessageHub
from mmengine.runner import Runner
from PIL import Image

from mmadaptor.engine import (
    ConfusionMatrixHook,
    CurvesHook,
    EpochSeedHook,
    StrictLoadHook,
)
from mmadaptor.engine.errors import (
    CheckpointMismatchError,
    CheckpointWriteError,
    InputError,
)
from mmadaptor.engine.hooks.safe_checkpoint_hook import BACKEND


def draws(epoch, rank, monkeypatch, seed=3):
    monkeypatch.setattr(
        'mmadaptor.engine.hooks.epoch_seed_hook.get_rank', lambda: rank)
    loader = SimpleNamespace(worker_init_fn=partial(
        worker_init_fn, num_workers=2, rank=rank, seed=seed))
    runner = SimpleNamespace(seed=seed, epoch=epoch, train_dataloader=loader)
    EpochSeedHook().before_train_epoch(runner)
    own = random.random(), np.random.rand(), torch.rand(()).item()
    workers = []
    for worker in range(2):
        loader.worker_init_fn(worker)
        workers += [random.random(), np.random.rand(), torch.rand(()).item()]
    return [*own, *workers]


def test_seeds_depend_on_seed_epoch_and_rank_alone(monkeypatch):
    again = [draws(1, 0, monkeypatch) for _ in range(2)]
    assert again[0] == again[1]
    others = [draws(0, 0, monkeypatch), draws(1, 1, monkeypatch),
              draws(1, 0, monkeypatch, seed=4)]
    for other in others:
        assert not set(other) & set(again[0])
    # This process and each of its workers draw differently.
    assert len(set(again[0])) == 9


def test_a_start_function_of_the_user_is_left_alone():
    def mine(worker):
        pass

    loader = SimpleNamespace(worker_init_fn=mine)
    EpochSeedHook().before_train_epoch(
        SimpleNamespace(seed=1, epoch=0, train_dataloader=loader))
    assert loader.worker_init_fn is mine


def test_persistent_workers_are_refused():
    runner = SimpleNamespace(
        train_dataloader=SimpleNamespace(persistent_workers=True))
    with pytest.raises(InputError, match='persistent_workers=False'):
        EpochSeedHook().before_train(runner)


@pytest.fixture
def backend():
    return get_file_backend('x.pth', backend_args=dict(backend=BACKEND))


def test_a_write_that_fails_leaves_the_old_file(backend, tmp_path, monkeypatch):
    path = tmp_path / 'a.pth'
    backend.put(b'old', path)

    def full(_):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr('os.fsync', full)
    with pytest.raises(CheckpointWriteError,
                       match=r'a\.pth .*No space left on device.*--resume'):
        backend.put(b'new', path)
    assert path.read_bytes() == b'old'
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not pathlib.Path('/dev/full').exists(), reason='Linux only')
def test_the_full_device_itself(backend, tmp_path):
    (tmp_path / 'b.pth.part').symlink_to('/dev/full')
    with pytest.raises(CheckpointWriteError, match='No space left'):
        backend.put(b'new', tmp_path / 'b.pth')
    assert list(tmp_path.iterdir()) == []


def test_a_write_makes_its_folder(backend, tmp_path):
    backend.put(b'new', tmp_path / 'a' / 'b' / 'c.pth')
    assert (tmp_path / 'a' / 'b' / 'c.pth').read_bytes() == b'new'


def test_strict_load_skips_what_it_is_told_to():
    def build():
        return torch.nn.ModuleDict(dict(
            backbone=torch.nn.Linear(2, 2), head=torch.nn.Linear(2, 3)))

    model = build()
    state = {f'module.{k}': torch.full_like(v, 2)
             for k, v in model.state_dict().items()}
    state['module.head.weight'] = torch.ones(7, 2)
    state['module.head.extra'] = torch.ones(1)
    with pytest.raises(CheckpointMismatchError, match=r'(?s)a\.pth does not.*head.weight: expected'):
        StrictLoadHook().after_load_checkpoint(
            SimpleNamespace(model=build(), cfg=dict(load_from='a.pth')), dict(state_dict=state))
    checkpoint = dict(state_dict=state)
    StrictLoadHook(skip=[r'^head\.']).after_load_checkpoint(
        SimpleNamespace(model=model, cfg={}), checkpoint)
    assert (model['backbone'].weight == 2).all()
    assert not (model['head'].bias == 2).any()
    assert set(checkpoint['state_dict']) == {'backbone.weight', 'backbone.bias'}


def test_a_base_fits_its_booster_and_nothing_else(monkeypatch):
    model = torch.nn.ModuleDict(dict(
        base=torch.nn.Linear(2, 2), temporal=torch.nn.Linear(2, 2)))
    runner = SimpleNamespace(model=model, cfg=dict(load_from='base.pth'))
    hook, said = StrictLoadHook(optional=[r'^temporal\.']), []
    monkeypatch.setattr('mmadaptor.engine.checkpoints.strict.print_log',
                        lambda text, *_: said.append(text))
    full = {k: torch.full_like(v, 3) for k, v in model.state_dict().items()}
    base = {k: v for k, v in full.items() if 'base' in k}
    hook.after_load_checkpoint(runner, dict(state_dict=dict(base)))
    assert (model['base'].bias == 3).all() and (model['temporal'].bias != 3).any()
    assert said == ['base.pth lacks 2 weights, such as temporal.bias, which stay '
                    'as the model starts them.']
    hook.after_load_checkpoint(runner, dict(state_dict=dict(full)))
    assert (model['temporal'].bias == 3).all() and len(said) == 1
    del base['base.bias']
    with pytest.raises(CheckpointMismatchError, match='missing:\n    base.bias'):
        hook.after_load_checkpoint(runner, dict(state_dict=base))


def test_skipped_weights_leave_the_averages_too():
    model = torch.nn.ModuleDict(dict(
        base=torch.nn.Linear(2, 2), head=torch.nn.Linear(2, 2)))
    runner = SimpleNamespace(model=model, cfg=dict(load_from='base.pth'))
    full = {k: torch.full_like(v, 3) for k, v in model.state_dict().items()}
    checkpoint = dict(state_dict=full, ema_state_dict={
        'steps': torch.tensor(7), **{f'module.{k}': v for k, v in full.items()}})
    StrictLoadHook(skip=[r'^head\.']).after_load_checkpoint(runner, checkpoint)
    left = {'base.weight', 'base.bias'}
    assert set(checkpoint['state_dict']) == left
    assert set(checkpoint['ema_state_dict']) == {'steps', *(f'module.{k}' for k in left)}


def test_curves_are_drawn_from_the_message_hub(tmp_path):
    hub = MessageHub('curves')
    for i in range(100):
        hub.update_scalar('train/loss', 1 / (i + 1))
        hub.update_scalar('train/loss_cls', 0.5 / (i + 1))
        hub.update_scalar('train/lr', 0.1)
    for value in (0.1, 0.4, 0.5):
        hub.update_scalar('val/coco/bbox_mAP', value)
        hub.update_scalar('val/coco/bbox_mAP_s', value)
    runner = SimpleNamespace(
        message_hub=hub, work_dir=str(tmp_path), experiment_name='curves')
    hook = CurvesHook()
    drawn = []
    figure = hook.figure(hub)
    for axes in figure.axes:
        drawn += [line.get_label() for line in axes.lines]
        if axes.get_xlabel() == 'validation':
            assert list(axes.lines[0].get_ydata()) == [0.1, 0.4, 0.5]
    assert 'coco/bbox_mAP' in drawn
    assert 'coco/bbox_mAP_s' not in drawn
    assert {'loss', 'loss_cls'} <= set(drawn)
    assert not any('lr' in label for label in drawn)
    hook.after_train(runner)
    assert Image.open(tmp_path / 'curves.png').size == (1200, 450)


def test_curves_of_no_training_are_no_picture(tmp_path):
    hub = MessageHub('empty')
    CurvesHook().after_train(SimpleNamespace(
        message_hub=hub, work_dir=str(tmp_path), experiment_name='x'))
    assert not list(tmp_path.iterdir())


def averaged(folder, epochs, **others):
    """Trains the toy with averaged weights; returns its last checkpoint."""
    text = TOY + '''
custom_hooks += [
    dict(type='mmadaptor.StrictLoadHook'),
    dict(type='mmpretrain.EMAHook', momentum=.2, priority='ABOVE_NORMAL')]
'''
    cfg = Config.fromfile(write_config(folder, text, work_dir=str(folder)))
    cfg.train_cfg.max_epochs = epochs
    cfg.train_dataloader.num_workers = 0
    cfg.default_hooks.checkpoint.type = 'mmadaptor.SafeCheckpointHook'
    cfg.update(experiment_name=f'{folder.name}{epochs}', **others)
    Runner.from_cfg(cfg).train()
    return torch.load(folder / f'epoch_{epochs}.pth', weights_only=False)


def test_averaged_weights_are_saved_and_resumed_exactly(tmp_path):
    """The averages are the checkpoint's `state_dict`, which others start from."""
    pytest.importorskip('mmpretrain.engine')
    (tmp_path / 'unbroken').mkdir()
    (tmp_path / 'resumed').mkdir()
    expected = averaged(tmp_path / 'unbroken', 3)
    trained = {k.removeprefix('module.'): v
               for k, v in expected['ema_state_dict'].items()}
    assert not torch.equal(
        expected['state_dict']['layer.weight'], trained['layer.weight'])
    averaged(tmp_path / 'resumed', 2)
    got = averaged(tmp_path / 'resumed', 3, resume=True,
                   load_from=str(tmp_path / 'resumed' / 'epoch_2.pth'))
    for part in ('state_dict', 'ema_state_dict'):
        torch.testing.assert_close(got[part], expected[part], rtol=0, atol=0)


def matrix_runner(tmp_path, *metrics):
    return SimpleNamespace(
        work_dir=str(tmp_path),
        test_evaluator=SimpleNamespace(metrics=metrics),
        test_dataloader=SimpleNamespace(dataset=SimpleNamespace(
            metainfo=dict(classes=('disc', 'box')))))


def test_confusion_matrix_is_drawn(tmp_path):
    evaluation = pytest.importorskip('mmpretrain.evaluation')
    runner = matrix_runner(tmp_path, evaluation.ConfusionMatrix())
    hook = ConfusionMatrixHook()
    hook.before_test(runner)
    hook.after_test_epoch(runner, {
        'confusion_matrix/result': torch.tensor([[5, 1], [0, 4]])})
    assert Image.open(tmp_path / 'confusion_matrix.png').size[0] > 300


def test_confusion_matrix_needs_its_metric(tmp_path):
    class Accuracy:
        pass

    with pytest.raises(InputError, match='in test_evaluator, which has Accuracy'):
        ConfusionMatrixHook().before_test(matrix_runner(tmp_path, Accuracy()))
