# SPDX-License-Identifier: Apache-2.0
import hashlib
import pathlib
import runpy
import sys

import pytest
import torch

from mmadaptor.checkpoints.loading import read_checkpoint
from mmadaptor.checkpoints.writing import save
from mmadaptor.errors import DamagedFileError, InputError

TOOL = pathlib.Path(__file__).parents[2] / 'tools' / 'publish_model.py'
WEIGHTS = {
    'fc.weight': torch.tensor([[0.1, -3.0]]),
    'bn.num_batches_tracked': torch.tensor(70000),
}
META = dict(epoch=2, dataset_meta=dict(classes=['a', 'b']), hostname='mine', seed=3)


@pytest.fixture
def publish(tmp_path, monkeypatch, capsys):
    """Return a function that publishes a checkpoint and returns the path and output."""

    def publish(weights, name, *options, meta=META):
        source, path = tmp_path / 'epoch_2.pth', tmp_path / name
        save(dict(meta=meta, state_dict=weights, optimizer=dict(step=1)), source)
        command = [TOOL, source, path, *options]
        monkeypatch.setattr(sys, 'argv', [*map(str, command)])
        runpy.run_path(str(TOOL), run_name='publish')['main']()
        return path, capsys.readouterr().out

    return publish


@pytest.mark.parametrize('name', ['model.pth', 'new/model.safetensors'])
def test_weights_and_classes_are_kept_and_nothing_else(publish, name):
    path, said = publish(WEIGHTS, name)
    content = read_checkpoint(str(path))
    assert set(content) == {'meta', 'state_dict'}
    assert content['meta'] == {k: META[k] for k in ('epoch', 'dataset_meta')}
    assert all(content['state_dict'][k].equal(v) for k, v in WEIGHTS.items())
    beside = path.with_name('beside')
    beside.touch()
    assert path.stat().st_mode == beside.stat().st_mode  # others may read it
    assert hashlib.sha256(path.read_bytes()).hexdigest() in said


@pytest.mark.parametrize('name', ['model.pth', 'model.safetensors'])
def test_half_the_size(publish, name):
    extra = {'fc._extra_state': dict(scale=2)} if name.endswith('.pth') else {}
    path, _ = publish({**WEIGHTS, **extra}, name, '--half')
    weights = read_checkpoint(str(path))['state_dict']
    assert set(weights) == {*WEIGHTS, *extra}
    assert weights.get('fc._extra_state') == extra.get('fc._extra_state')
    assert weights['fc.weight'].equal(WEIGHTS['fc.weight'].half())
    assert weights['bn.num_batches_tracked'].equal(torch.tensor(70000))


@pytest.mark.parametrize(
    'weights, meta, said',
    [
        ({'fc.weight': torch.tensor([7e4])}, META, r'fc.weight has .*7e\+04.*--half'),
        ({'fc.weight': torch.tensor([7e4, torch.inf])}, META, r'up to 7e\+04.*--half'),
        (WEIGHTS, dict(tuning=dict(base='1', tuned='2')), 'merge it first'),
        ({'fc.weight': 3}, META, 'expected tensors by name'),
    ],
)
def test_what_cannot_be_halved_is_named(publish, tmp_path, weights, meta, said):
    with pytest.raises((InputError, DamagedFileError), match=said):
        publish(weights, 'model.safetensors', '--half', meta=meta)
    assert not (tmp_path / 'model.safetensors').exists()


def test_the_checkpoint_itself_is_not_replaced(publish, tmp_path):
    with pytest.raises(InputError, match='epoch_2'):
        publish(WEIGHTS, 'epoch_2.pth')
    assert 'optimizer' in torch.load(tmp_path / 'epoch_2.pth')
