# SPDX-License-Identifier: Apache-2.0
"""Checkpoints open by `torch.load` as it is, and resume with all of their logs."""

import argparse
import datetime
import enum
import io
import pathlib
from collections import OrderedDict, defaultdict, deque, namedtuple
from types import MappingProxyType

import numpy as np
import pytest
import torch
from helpers.jobs import TOY, write_config
from mmengine.config import Config, ConfigDict
from mmengine.logging import HistoryBuffer

from mmadaptor.checkpoints.loading import read_file
from mmadaptor.checkpoints.plain import TYPE, make_plain, restore
from mmadaptor.engine import Runner
from mmadaptor.errors import DamagedFileError

LOGS = TOY + "train_dataloader['num_workers'] = 0\n"


def train(folder, **changes):
    cfg = Config.fromfile(write_config(folder, LOGS, work_dir=str(folder / 'run')))
    cfg.merge_from_dict({'experiment_name': str(changes), **changes})
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


def test_a_run_leaves_what_torch_load_reads_and_resumes(tmp_path):
    whole = train(tmp_path)
    path = tmp_path / 'run' / 'epoch_3.pth'
    content = torch.load(path)  # weights only, and nothing is allowed
    logs = content['message_hub']['log_scalars']
    losses = whole.message_hub.log_scalars['train/loss'].data[0]
    assert len(losses) == 12
    np.testing.assert_array_equal(logs['train/loss']['values'], losses)
    resumed = train(
        tmp_path, resume=True, load_from=str(path.with_name('epoch_2.pth'))
    ).message_hub
    values, _ = resumed.log_scalars['train/loss'].data
    np.testing.assert_array_equal(values, losses)  # the first two epochs are not lost
    assert isinstance(resumed.get_scalar('train/loss'), HistoryBuffer)
    assert resumed.log_scalars.keys() == whole.message_hub.log_scalars.keys()


def test_numbers_keep_their_values_and_buffers_their_lengths():
    buffer = HistoryBuffer([1.5, 2.5], [3, 4], max_length=7)
    checkpoint = dict(
        meta=dict(dataset_meta=ConfigDict(classes=('a',)), best=[np.float32(0.5)]),
        message_hub=dict(
            log_scalars=dict(loss=buffer), runtime_info={}, resumed_keys={}
        ),
    )
    make_plain(checkpoint)
    assert checkpoint['meta'] == dict(dataset_meta=dict(classes=('a',)), best=[0.5])
    assert type(checkpoint['meta']['dataset_meta']) is dict
    restore(checkpoint)
    restored = checkpoint['message_hub']['log_scalars']['loss']
    assert restored.max_length == 7
    for got, expected in zip(restored.data, buffer.data):
        np.testing.assert_array_equal(got, expected)
    restore(checkpoint)  # mmengine's own stay
    assert checkpoint['message_hub']['log_scalars']['loss'] is restored


@pytest.mark.parametrize(
    'saved',
    [
        {},
        dict(values=torch.ones(2), counts=torch.ones(3), max_length=9),
        dict(values=torch.ones(2, 2), counts=torch.ones(2), max_length=9),
        dict(values=torch.ones(2), counts=torch.ones(2), max_length='9'),
        dict(values=torch.ones(2), counts=torch.ones(2), max_length=0),
    ],
    ids=str,
)
def test_damaged_histories_are_named(saved):
    with pytest.raises(DamagedFileError, match='history of loss in the checkpoint'):
        restore(dict(message_hub=dict(log_scalars=dict(loss=saved))))


KEPT = [
    pathlib.Path('a/b'),
    pathlib.PurePosixPath('a'),
    datetime.datetime(2026, 1, 2, 3, 4, 5, 6, datetime.timezone.utc),
    datetime.date(2026, 1, 2),
    datetime.time(3, 4),
    datetime.timedelta(1, 2, 3),
    range(1, 9, 2),
    range(10**12),
    slice(1, None),
    frozenset({1, 2}),
    deque([pathlib.Path('a'), 2], maxlen=3),
    defaultdict(list, a=[1]),
    OrderedDict(a=range(2)),
    argparse.Namespace(a=pathlib.Path('a')),
    {'a': (range(2), [deque([1])])},
    {1, 2},
    b'',
    torch.float16,
    np.dtype('<i2'),
]


def read_back(checkpoint):
    """What a file holds that torch reads by default, if numpy is left out."""
    make_plain(checkpoint)
    file = io.BytesIO()
    torch.save(checkpoint, file)
    file.seek(0)
    content = read_file(file)
    restore(content)
    return content


@pytest.mark.parametrize('value', KEPT, ids=lambda value: type(value).__name__)
def test_what_hooks_keep_has_its_type_after_a_resume(value, monkeypatch):
    said = []
    monkeypatch.setattr('mmadaptor.checkpoints.plain.warn', said.append)
    hub = dict(runtime_info=dict(mine=value), log_scalars={})
    checkpoint = dict(meta=dict(dataset_meta=dict(mine=value)), message_hub=hub)
    content = read_back(dict(checkpoint, of_a_hook=[value]))
    for got in (
        content['message_hub']['runtime_info']['mine'],
        content['of_a_hook'][0],
    ):
        assert type(got) is type(value)
        assert got == value
    assert checkpoint['meta']['dataset_meta']['mine'] is value  # of the dataset
    assert TYPE not in str(content['meta'])
    assert not said


def test_in_meta_others_find_plain_values():
    values = dict(path=pathlib.Path('a'), ids=range(3), day=datetime.date(2026, 1, 2))
    expected = dict(path='a', ids=[0, 1, 2], day='2026-01-02')
    assert read_back(dict(meta=values))['meta'] == expected


class Colour(enum.Enum):
    RED = 1


class Text(str):
    pass


class Own(torch.Tensor):
    pass


class Long:
    def __repr__(self):
        return 'x' * 99


class Unprintable:
    def __repr__(self):
        raise RuntimeError


Point = namedtuple('Point', 'x y')
CYCLE = [1]
CYCLE += [CYCLE, CYCLE]


@pytest.mark.parametrize(
    'value, expected',
    [
        (Colour.RED, 1),
        (Text('a'), 'a'),
        (Point(1, Colour.RED), (1, 1)),
        ({Colour.RED: 2}, {'<Colour.RED: 1>': 2}),
        ({np.int64(2): 3}, {2: 3}),
        ({pathlib.Path('a'): 2, (Text('a'), 1): 3}, {'a': 2, ("'a'", 1): 3}),
        (torch.ones(1).as_subclass(Own), torch.ones(1)),
        (np.ones(1).view(np.recarray), np.ones(1)),
        (np.dtype([('a', '<i4')]), "[('a', '<i4')]"),
        (np.clongdouble(2j), 2j),
        (Long(), 'x' * 80),
        (MappingProxyType({'a': 1}), {'a': 1}),
        (np.array(['a', None], dtype=object), ['a', None]),
        (np.datetime64('2026-01-02'), datetime.date(2026, 1, 2)),
        (np.longdouble(2), 2.0),
        (len, '<built-in function len>'),
        (..., 'Ellipsis'),
        (argparse.Namespace(_a=1), 'Namespace(_a=1)'),  # is refused by the reader
        (CYCLE, [1, *['[1, [...], [...]]'] * 2]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_other_objects_are_saved_as_values(value, expected):
    hub = dict(runtime_info=dict(mine=value), log_scalars={})
    got = read_back(dict(message_hub=hub))['message_hub']['runtime_info']['mine']
    assert got == expected and type(got) is type(expected)


def test_what_is_deeper_than_the_reader_allows_is_cut():
    node = []
    for _ in range(200):
        node = [node]
    got = read_back(dict(mine=node))['mine']
    for _ in range(40):
        (got,) = got
    assert isinstance(got, list)


def test_what_loses_its_type_is_named_once(monkeypatch):
    said = []
    monkeypatch.setattr('mmadaptor.checkpoints.plain.warn', said.append)
    for _ in range(2):
        hub = dict(runtime_info=dict(odd=Colour.RED, worse=Unprintable()))
        read_back(dict(message_hub=hub))
    (text,) = said
    assert 'message_hub.runtime_info.odd as 1, in place of the Colour' in text
    assert 'message_hub.runtime_info.worse as ' in text


def test_states_of_optimizers_are_kept_or_named(monkeypatch):
    said = []
    monkeypatch.setattr('mmadaptor.checkpoints.plain.warn', said.append)
    weights = {'a': torch.ones(1).as_subclass(Own), 'b': Colour.RED}
    checkpoint = dict(
        optimizer=dict(state={0: dict(kind=Colour.RED)}), state_dict=weights
    )
    before = checkpoint['optimizer']
    make_plain(checkpoint)
    assert checkpoint['optimizer'] is before
    assert checkpoint['state_dict'] is weights and len(said) == 1
    assert 'an error: optimizer.state.0.kind is the Colour' in said[0]


@pytest.mark.parametrize(
    'name, state',
    [
        ('Path', 3),
        ('date', 'x'),
        ('timedelta', (10**12, 0, 0)),
        ('deque', ([], -1)),
        ('frozenset', [[1]]),
        ('defaultdict', []),
        ('HistoryBuffer', 3),
    ],
)
def test_a_wrong_state_is_named(name, state):
    with pytest.raises(DamagedFileError, match=f'mine in the .*no state of a {name}'):
        restore(dict(mine={TYPE: name, 'state': state}))


def test_what_is_plain_stays_itself():
    node = [1, (2, 'a'), {torch.Size([2]): 3, ('a', 1): None}]
    checkpoint = dict(mine=node)
    make_plain(checkpoint)
    assert checkpoint['mine'] is node
    assert [type(key) for key in read_back(checkpoint)['mine'][2]] == [
        torch.Size,
        tuple,
    ]


def test_a_type_of_a_later_version_stays_as_it_is():
    later = {TYPE: 'Later', 'state': 3}
    checkpoint = dict(mine=[dict(later)])
    restore(checkpoint)
    assert checkpoint == dict(mine=[later])


def test_a_training_resumes_whatever_its_data_and_hooks_say(tmp_path):
    """Also without the hook that makes checkpoints plain under other runners."""
    odd = dict(path=pathlib.Path('/data'), ids=range(3), colour=Colour.RED)
    for hooks in (None, {'default_hooks.exact_resume': None}):
        folder = tmp_path / str(bool(hooks))
        folder.mkdir()
        changes = {'train_dataloader.dataset.metainfo': odd, **(hooks or {})}
        cfg = Config.fromfile(write_config(folder, LOGS, work_dir=str(folder / 'run')))
        for resume in (False, True):
            cfg.merge_from_dict(
                {'experiment_name': f'{folder}{resume}', 'resume': resume, **changes}
            )
            cfg.train_cfg.max_epochs = 1 + resume
            runner = Runner.from_cfg(cfg)
            if not resume:
                runner.message_hub.update_info('mine', deque([1], 2))
            runner.train()
        assert runner.message_hub.get_info('mine') == deque([1], 2)
