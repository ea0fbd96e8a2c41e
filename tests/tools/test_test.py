# SPDX-License-Identifier: Apache-2.0
"""tools/test.py as a user runs it, with good and bad checkpoints."""

import pytest
import torch
from helpers.jobs import TOY, refusal, tool, write_config
from helpers.toolboxes import Planted


@pytest.fixture
def config(tmp_path):
    return write_config(tmp_path, TOY, work_dir=str(tmp_path / 'run'))


def weights(**others):
    layer = torch.nn.Linear(4, 4)
    return {
        'layer.weight': layer.weight.data,
        'layer.bias': layer.bias.data,
        'ballast': torch.zeros(50000),
        **others,
    }


def test_planted_objects_are_refused_and_named(config, tmp_path, monkeypatch):
    path, mark = tmp_path / 'bad.pth', tmp_path / 'ran'
    torch.save(dict(state_dict=weights(), x=Planted(mark)), path)
    message = refusal(monkeypatch, 'test', config, path)
    assert f'{path} holds a pickled object (posix.mkdir)' in message
    assert not mark.exists()


def test_truncated_checkpoint_is_named(config, tmp_path, monkeypatch):
    path = tmp_path / 'cut.pth'
    torch.save(dict(state_dict=weights()), path)
    path.write_bytes(path.read_bytes()[:-64])
    assert f'{path} is truncated' in refusal(monkeypatch, 'test', config, path)


def test_missing_checkpoint_is_named(config, tmp_path, monkeypatch):
    path = tmp_path / 'none.pth'
    message = refusal(monkeypatch, 'test', config, path)
    assert 'error: Test not started: 1 problem found' in message
    assert f'missing: {path}\n     named by load_from' in message


@pytest.mark.parametrize(
    'arguments, says',
    [
        (['--out', 'x.json'], 'expected a name that ends in .pkl'),
        (['--show-dir', 'x'], '--show and --show-dir need'),
    ],
)
def test_wrong_arguments_are_explained(arguments, says, config, monkeypatch):
    assert says in refusal(monkeypatch, 'test', config, 'x.pth', *arguments)


def test_checkpoint_of_another_model_is_an_error(config, tmp_path):
    path = tmp_path / 'other.pth'
    state = weights(ballast=torch.zeros(9), more=torch.ones(1))
    torch.save(dict(state_dict=state), path)
    result = tool('test', config, path)
    assert result.returncode == 1
    assert f'{path} does not fit ToyModel' in result.stderr
    assert 'ballast: expected (50000,), got (9,)' in result.stderr
    assert '1 unexpected:\n    more' in result.stderr
    assert 'Traceback' not in result.stderr
    assert 'mAP' not in result.stdout


def test_a_good_checkpoint_is_tested(config, tmp_path):
    torch.save(dict(state_dict=weights()), tmp_path / 'good.pth')
    result = tool('test', config, tmp_path / 'good.pth')
    assert result.returncode == 0, result.stderr
    assert 'mAP' in result.stdout
