# SPDX-License-Identifier: Apache-2.0
"""Test that peers are compared before they are timed, and named if they are not."""

import io
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.commands import start

from benchmarks import ipex_scan, model_table, peers, scan_table
from benchmarks.peer_scans import MOST_FILLED, OURS, PEERS, Case, Peer, ours
from benchmarks.scan_table import IPEX, Unequal, differences, exactly, measure, tables

SMALL = Case('small', 2, 6, 9, 3)
HERE = ('loop', 'onnxruntime, fused', 'onnxruntime, standard')
HERE += ('mmadaptor', 'mmadaptor, in onnxruntime')


def compared(scan, with_step=True):
    inputs = SMALL.inputs()
    return differences(scan, inputs, with_step, exactly(inputs))


@pytest.mark.parametrize('name', HERE)
def test_equal_peers(name):
    (peer,) = (p for p in PEERS if p.name == name)
    found = compared(peer.build(SMALL.inputs()), peer.gradients)
    assert max(found.values()) < 1e-5


def without_gradient_of_D(D, **inputs):
    return ours(D=D.detach() + 0 * D, **inputs)


@pytest.mark.parametrize(
    'scan, said',
    [
        (lambda **x: 1.001 * ours(**x), r'output: expected within 0.0001, got 1.0e-03'),
        (lambda **x: ours(**x) * float('nan'), r'output: .* got nan'),
        (lambda **x: ours(**x)[..., :-1], r'output: expected \(2, 6, 9\), got'),
        (without_gradient_of_D, r'gradient of D: expected within 0.0005, got 1.0e\+00'),
    ],
)
def test_a_wrong_peer(scan, said):
    with pytest.raises(Unequal, match=said):
        compared(scan)


def test_gradients_are_not_compared_where_there_are_none():
    assert list(compared(without_gradient_of_D, with_step=False)) == ['output']


def fails(_):
    raise RuntimeError('no such kernel')


OTHERS = (
    OURS,
    Peer('absent', lambda _: ours, ('no_such_package', 'torch')),
    Peer('wrong', lambda _: lambda **x: ours(**x) + 1),
    Peer('broken', fails),
    Peer('short', lambda _: ours, longest=8),
    Peer('elsewhere', lambda _: ours, devices=('cuda',)),
    Peer('twin', lambda _: ours),
    Peer('forward alone', lambda _: ours, gradients=False),
)
PROBLEMS = {
    'absent': 'missing: no_such_package is not installed',
    'wrong': 'unequal: output: expected within 0.0001, got ',
    'broken': 'failed: RuntimeError: no such kernel',
    'short': 'not run: L is above 8',
    'elsewhere': 'not run: needs cuda',
    IPEX: 'missing: no --ipex PYTHON was given',
}


@pytest.fixture
def rows(monkeypatch):

    def weigh(_, peer, case, kinds, threads, device):
        return dict.fromkeys(kinds, 3 * 2**20)

    monkeypatch.setattr(scan_table, 'in_child', weigh)
    return measure(SMALL, 2, None, peers=OTHERS)


def test_every_peer_has_a_row(rows):
    assert [row['peer'] for row in rows] == [*(p.name for p in OTHERS), IPEX]
    for row in rows:
        problem = PROBLEMS.get(row['peer'])
        assert row.get('problem', '').startswith(problem or ''), row
        assert bool(problem) == ('problem' in row)
        assert bool(row['seconds']) != bool(problem), 'timed only if equal'
    failed = {row['peer'] for row in rows if row.get('failed')}
    assert failed == {'wrong', 'broken'}


def test_the_table_names_what_is_missing(rows):
    text = tables(rows)
    assert text.count('missing: no_such_package is not installed') == 3
    times, memory, errors = text.split('\n\n')[1::2]
    line = {part.split(' | ')[0]: part for part in times.splitlines()}
    assert line['| mmadaptor'].count(' ms') == 2
    assert line['| twin'].count(' / ') == 1 and ' ms' not in line['| twin']
    assert line['| forward alone'].count(' / ') == 0
    assert '| twin | 3 / 3 |' in memory and '| forward alone | 3 |' in memory
    assert '| twin | ' in errors


def test_a_backward_pass_that_would_take_long():
    peer = Peer('slow', lambda _: ours, quadratic=True)
    length = 1000
    channels = int(MOST_FILLED / length**2)
    assert peer.has_step(Case('', 1, channels, length, 1))
    larger = Case('', 1, channels + 1, length, 1)
    assert not peer.has_step(larger)
    assert replace(peer, quadratic=False).has_step(larger)


def test_a_python_without_the_package(tmp_path):
    with pytest.raises(RuntimeError, match="No module named 'intel_extension"):
        ipex_scan.IpexScan(Path(sys.executable), SMALL.inputs(), 1, tmp_path)


def test_the_other_process_answers(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sys, 'stdin', io.StringIO('output\nseconds\ngrowth\n'))
    y = torch.ones(3)
    ipex_scan.serve(lambda: y, tmp_path / 'y.pt', dict(torch='2.8'))
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[:2] == [dict(torch='2.8'), None]
    assert 0 <= lines[2] < 1 and 0 <= lines[3] < 2**24
    assert torch.load(tmp_path / 'y.pt').equal(y)


@pytest.mark.parametrize(
    'options, said',
    [
        (['--ipex', 'nowhere'], "expected an executable file, got 'nowhere'"),
        (['--device', 'cuda', '--models'], 'expected --ops, got --models'),
        (['--threads', '0'], 'expected an integer of 1 or more'),
        (['--dtype', 'float16'], 'invalid choice'),
    ],
)
def test_refused_arguments(options, said, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        start(Path('benchmarks/peers.py'), monkeypatch, *options)
    assert said in capsys.readouterr().err


def test_a_gpu_that_is_not_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(SystemExit, match='torch found no GPU'):
        start(Path('benchmarks/peers.py'), monkeypatch, '--device', 'cuda')


def test_versions_of_missing_packages():
    found = peers.versions()
    assert found['torch'] == torch.__version__.partition('+')[0]
    assert set(found) == set(peers.PACKAGES)


def test_models_without_timm(monkeypatch):
    monkeypatch.setattr(model_table, 'OF_TIMM', 'no_such_package')
    names = {'Other': ('no_such_package', 'x', None)}
    monkeypatch.setattr(model_table, 'MODELS', names)
    rows = model_table.measure([*names], 1, torch.float32)
    assert rows[0]['problem'] == 'missing: no_such_package is not installed'
    assert '| Other | missing: no_such_package' in model_table.table(rows)


@pytest.mark.parametrize(
    'scores', [torch.zeros(1, 10), torch.full((1, 1000), float('nan'))]
)
def test_scores_that_are_wrong(scores):
    with pytest.raises(ValueError, match=r'Swin: expected finite scores \(1, 1000\)'):
        model_table.check('Swin', scores)
