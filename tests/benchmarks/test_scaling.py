# SPDX-License-Identifier: Apache-2.0
"""Test the exponents of benchmarks.scaling."""

import json
from pathlib import Path

import pytest
from helpers.commands import start

from benchmarks.scaling import MODELS, SCANS, SIDES, call_of, measured_bytes, size_of

SIZES = [1, 2, 4, 8, 16]


def rows():
    for subject, factor in (('scan', 'L'), ('b0', 'pixels')):
        for kind in ('forward', 'step'):
            yield dict(
                subject=subject,
                factor=factor,
                kind=kind,
                threads=1,
                sizes=SIZES,
                seconds=[7.0, 7.0, *(s**1.25 for s in SIZES[2:])],
                bytes=[10.0, *(2**20 * s for s in SIZES[1:])],
            )


def test_table(tmp_path, monkeypatch, capsys):
    results = tmp_path / 'results.json'
    results.write_text(json.dumps(dict(date='today', rows=list(rows()))))
    start(Path('benchmarks/scaling.py'), monkeypatch, '--read', str(results))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == 'date today'
    assert len(lines) == 8
    assert '| scan, L | 1 to 16 | forward and backward | 1 |' in lines[5]
    cells = [cell.strip() for cell in lines[5].split('|')]
    assert cells[6:9] == ['1.25', '16 MiB', '1.00']


def test_small_growths_are_left_out():
    assert measured_bytes(next(rows()))[0] == SIZES[1:]


@pytest.mark.parametrize('factor', SCANS)
def test_one_factor_changes(factor):
    cases = SCANS[factor]
    sizes = [size_of(factor, case) for case in cases]
    assert sizes == sorted(set(sizes)) and len(sizes) >= 6
    for other in SCANS:
        if other != factor:
            assert len({size_of(other, case) for case in cases}) == 1


def test_models_at_growing_images():
    assert size_of('pixels', SIDES[0]) == 224**2
    assert sorted(set(SIDES)) == list(SIDES)
    for kind in ('forward', 'step'):
        call_of(next(iter(MODELS)), 64, kind)()
