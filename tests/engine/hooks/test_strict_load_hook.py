# SPDX-License-Identifier: Apache-2.0
"""Loading a checkpoint of another model fails, except for named parameters."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.runner import EpochBasedTrainLoop
from mmengine.runner import Runner as MMEngineRunner

from mmadaptor.engine import Runner, StrictLoadHook
from mmadaptor.errors import CheckpointMismatchError


def runner_of(model, source='a.pth', trains=True, resumes=False):
    """Return the parts of a runner that the hook reads.

    The training loop of a runner that tests is still a config.
    """
    loop = object.__new__(EpochBasedTrainLoop) if trains else dict(max_epochs=1)
    return SimpleNamespace(
        model=model, cfg=dict(load_from=source), _train_loop=loop, _resume=resumes
    )


def test_strict_load_skips_what_it_is_told_to(monkeypatch):
    said = []
    monkeypatch.setattr('mmadaptor.checkpoints.strict.warn', said.append)

    def build():
        return torch.nn.ModuleDict(
            dict(backbone=torch.nn.Linear(2, 2), head=torch.nn.Linear(2, 3))
        )

    model = build()
    state = {
        f'module.{k}': torch.full_like(v, 2) for k, v in model.state_dict().items()
    }
    state['module.head.weight'] = torch.ones(7, 2)
    state['module.head.extra'] = torch.ones(1)
    with pytest.raises(
        CheckpointMismatchError,
        match=(r'(?s)a\.pth does not.*head.weight: expected.*skip=\[r.\^head'),
    ):
        StrictLoadHook().after_load_checkpoint(
            runner_of(build()), dict(state_dict=state)
        )
    with pytest.raises(CheckpointMismatchError, match='The checkpoint does not fit'):
        StrictLoadHook().after_load_checkpoint(
            runner_of(build(), source=None), dict(state_dict=state)
        )
    checkpoint = dict(state_dict=state)
    StrictLoadHook(skip=[r'^head\.']).after_load_checkpoint(
        runner_of(model), checkpoint
    )
    assert (model['backbone'].weight == 2).all()
    assert not (model['head'].bias == 2).any()
    assert set(checkpoint['state_dict']) == {'backbone.weight', 'backbone.bias'}
    assert said == []


@pytest.mark.parametrize('name', ['skip', 'optional'])
def test_a_single_pattern_is_not_taken_for_its_characters(name):
    with pytest.raises(ValueError, match=f'`{name}` must be a list of regular'):
        StrictLoadHook(**{name: r'^head\.'})


def test_a_base_fits_its_booster_and_nothing_else(monkeypatch):
    model = torch.nn.ModuleDict(
        dict(base=torch.nn.Linear(2, 2), temporal=torch.nn.Linear(2, 2))
    )
    runner = runner_of(model, 'base.pth')
    hook, said = StrictLoadHook(optional=[r'^temporal\.']), []
    monkeypatch.setattr('mmadaptor.checkpoints.strict.warn', said.append)
    full = {k: torch.full_like(v, 3) for k, v in model.state_dict().items()}
    base = {k: v for k, v in full.items() if 'base' in k}
    hook.after_load_checkpoint(runner, dict(state_dict=dict(base)))
    assert (model['base'].bias == 3).all() and (model['temporal'].bias != 3).any()
    assert said == [
        'base.pth lacks 2 weights, such as temporal.bias. They keep their initial '
        'values.'
    ]
    hook.after_load_checkpoint(runner, dict(state_dict=dict(full)))
    assert (model['temporal'].bias == 3).all() and len(said) == 1
    del base['base.bias']
    with pytest.raises(CheckpointMismatchError, match='missing:\n    base.bias'):
        hook.after_load_checkpoint(runner, dict(state_dict=base))


def test_skipped_weights_leave_the_averages_too():
    model = torch.nn.ModuleDict(
        dict(base=torch.nn.Linear(2, 2), head=torch.nn.Linear(2, 2))
    )
    runner = runner_of(model, 'base.pth')
    full = {k: torch.full_like(v, 3) for k, v in model.state_dict().items()}
    checkpoint = dict(
        state_dict=full,
        ema_state_dict={
            'steps': torch.tensor(7),
            **{f'module.{k}': v for k, v in full.items()},
        },
    )
    StrictLoadHook(skip=[r'^head\.']).after_load_checkpoint(runner, checkpoint)
    left = {'base.weight', 'base.bias'}
    assert set(checkpoint['state_dict']) == left
    assert set(checkpoint['ema_state_dict']) == {
        'steps',
        *(f'module.{k}' for k in left),
    }


@pytest.mark.parametrize('job', [dict(trains=False), dict(resumes=True), {}], ids=str)
def test_a_test_and_a_resumed_training_need_every_weight(job):
    """`skip` and `optional` apply to the start of a training only."""
    model = torch.nn.ModuleDict(
        dict(head=torch.nn.Linear(2, 2), temporal=torch.nn.Linear(2, 2))
    )
    hook = StrictLoadHook(skip=[r'^head\.'], optional=[r'^temporal\.'])
    if not job:
        hook.before_train(None)  # loading after this is not a start
    full = {k: torch.full_like(v, 3) for k, v in model.state_dict().items()}
    hook.after_load_checkpoint(runner_of(model, **job), dict(state_dict=dict(full)))
    assert (model['head'].bias == 3).all()
    for part in model:
        lacking = {k: v for k, v in full.items() if part not in k}
        with pytest.raises(CheckpointMismatchError, match=f'missing:\n    {part}') as e:
            hook.after_load_checkpoint(
                runner_of(model, **job), dict(state_dict=lacking)
            )
        assert 'skip=' not in str(e.value)


def test_the_log_says_what_another_runner_lacks(monkeypatch):
    said = []
    monkeypatch.setattr(
        'mmadaptor.engine.hooks.strict_load_hook.print_log',
        lambda text, *_: said.append(text),
    )
    StrictLoadHook().before_run(object.__new__(Runner))
    assert said == []
    StrictLoadHook().before_run(object.__new__(MMEngineRunner))
    assert len(said) == 1 and 'It does not check the data before the start' in said[0]
