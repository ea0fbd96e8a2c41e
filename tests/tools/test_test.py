"""tools/test.py as a user runs it, with checkpoints that are not to be used."""

import os

import pytest
import torch
from jobs import TOY, tool, write_config


class Planted:
    """Makes a folder when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (self.mark, )


@pytest.fixture
def config(tmp_path):
    return write_config(tmp_path, TOY, work_dir=str(tmp_path / 'run'))


def weights(**others):
    layer = torch.nn.Linear(4, 4)
    return {'layer.weight': layer.weight.data, 'layer.bias': layer.bias.data,
            'ballast': torch.zeros(1), **others}


@pytest.mark.parametrize('case', ['planted', 'truncated', 'other model'])
def test_bad_checkpoints_are_named(case, config, tmp_path):
    path, mark = tmp_path / 'bad.pth', tmp_path / 'ran'
    content = dict(state_dict=weights())
    if case == 'planted':
        content['x'] = Planted(str(mark))
        says = f'{path} holds a pickled object (posix.mkdir)'
    elif case == 'other model':
        content['state_dict'] = weights(ballast=torch.zeros(9), more=torch.ones(1))
        says = 'ballast: expected (1,), got (9,)'
    else:
        says = f'{path} is truncated'
    torch.save(content, path)
    if case == 'truncated':
        path.write_bytes(path.read_bytes()[:-64])
    result = tool('test', config, path)
    assert result.returncode != 0
    assert says in result.stderr
    assert 'Traceback' not in result.stderr
    assert 'mAP' not in result.stdout
    assert not mark.exists()


def test_a_good_checkpoint_is_tested(config, tmp_path):
    torch.save(dict(state_dict=weights()), tmp_path / 'good.pth')
    result = tool('test', config, tmp_path / 'good.pth')
    assert result.returncode == 0, result.stderr
    assert 'mAP' in result.stdout
