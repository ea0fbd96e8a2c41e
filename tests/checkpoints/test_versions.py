# SPDX-License-Identifier: Apache-2.0
"""The versions of modules, by which torch's modules read older files, are kept."""

from collections import OrderedDict

import pytest
import torch
from mmengine.model import BaseModel, PretrainedInit
from torch import nn

from mmadaptor.checkpoints.adaptor_only import complete, take_base_out
from mmadaptor.checkpoints.initialized import checked_initializers
from mmadaptor.checkpoints.loading import read_file
from mmadaptor.checkpoints.strict import load_and_compare, load_model, prepare
from mmadaptor.errors import DamagedFileError


class Halved(nn.Linear):
    """Files older than version 2 hold the double of its weights."""

    _version = 2

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, *args):
        if (local_metadata.get('version') or 1) < 2:
            state_dict[f'{prefix}weight'] = state_dict[f'{prefix}weight'] / 2
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)


class Model(BaseModel):
    def __init__(self, out=2):
        super().__init__()
        self.backbone = nn.Sequential(Halved(2, 2), Halved(2, 2))
        self.head = Halved(2, out)

    def forward(self, inputs):
        return self.head(self.backbone(inputs))


def saved(model, path, prefix=''):
    state = model.state_dict()
    versions = state._metadata
    state = OrderedDict((prefix + name, value) for name, value in state.items())
    state._metadata = {(prefix + n).rstrip('.'): v for n, v in versions.items()}
    torch.save(dict(state_dict=state, meta={}), path)
    return read_file(path)


def equal(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize('prefix', ['', 'module.'])
def test_a_checkpoint_of_today_is_not_read_as_an_older_one(tmp_path, prefix):
    source, model = Model(), Model()
    checkpoint = saved(source, tmp_path / 'a.pth', prefix)
    prepare(model, checkpoint, 'a.pth', [r'^head\.'])
    load_model(model, checkpoint, 'a.pth', [r'^head\.'])
    assert equal(model.backbone.state_dict(), source.backbone.state_dict())


def test_an_older_one_is_read_as_such(tmp_path):
    source, model = Model(), Model()
    torch.save(dict(source.state_dict()), tmp_path / 'a.pth')
    checkpoint = dict(state_dict=read_file(tmp_path / 'a.pth'))
    prepare(model, checkpoint, 'a.pth')
    load_model(model, checkpoint, 'a.pth')
    assert torch.equal(model.head.weight, source.head.weight / 2)


def test_weights_that_fit_beside_others_that_do_not():
    source, model = Model(out=3), Model()
    assert load_and_compare(model, source.state_dict(), 'a').shapes
    assert equal(model.backbone.state_dict(), source.backbone.state_dict())


@pytest.mark.parametrize('prefix', ['backbone', 'backbone.'])
def test_a_part_of_a_file(tmp_path, prefix):
    source, part = Model(), nn.Sequential(Halved(2, 2), Halved(2, 2))
    saved(source, tmp_path / 'a.pth')
    with checked_initializers():
        PretrainedInit(str(tmp_path / 'a.pth'), prefix)(part)
    assert equal(part.state_dict(), source.backbone.state_dict())


def test_tuned_weights_and_their_base():
    source, model = Model(), Model()
    model.load_state_dict(source.state_dict())
    for each in (source, model):
        each.backbone.requires_grad_(False)
        each.is_init = True
    model.head.reset_parameters()
    checkpoint = dict(state_dict=source.state_dict(), meta={})
    take_base_out(source, checkpoint)
    assert set(checkpoint['state_dict']) == {'head.weight', 'head.bias'}
    complete(model, checkpoint, 'a.pth')
    load_model(model, checkpoint, 'a.pth')
    assert equal(model.state_dict(), source.state_dict())


@pytest.mark.parametrize(
    'versions', [3, {'head': 3}, {3: {}}, {'head': dict(version='2')}]
)
def test_versions_that_no_module_could_read_are_refused(tmp_path, versions):
    state = Model().state_dict()
    state._metadata = versions
    torch.save(dict(state_dict=state), tmp_path / 'a.pth')
    with pytest.raises(DamagedFileError, match='versions of modules by name'):
        read_file(tmp_path / 'a.pth')
