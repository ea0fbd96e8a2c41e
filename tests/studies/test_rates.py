# SPDX-License-Identifier: Apache-2.0
"""The best learning rate of each method."""

import json
import sys

import pytest

pytest.importorskip('mmdet')
pytest.importorskip('mmpretrain')
pytest.importorskip('mmseg')

from studies import rates
from studies.fashion import METHODS, Method, tuning
from studies.fashion import rates as rates_of

RUNS = {
    'full, 0.001': [80.0, 82.0],
    'full, 0.004': [83.0, 81.0],
    'LoRA, in_proj, 0.001': [70.0, 71.0],
    'LoRA, in_proj, 0.004': [79.0, 75.0],
    'LoRA, in_proj, 0.016': [76.0, 77.0],
}
RESULTS = {name: {'top-1': points} for name, points in RUNS.items()}


def test_the_best_is_that_of_the_mean_and_named_if_no_higher_one_was_tried():
    assert rates.table(RESULTS).splitlines()[2:] == [
        '| full | 0.004 | 82.0 | 0.001: 81.0 | the highest |',
        '| LoRA, in_proj | 0.004 | 77.0 | 0.016: 76.5 |  |',
    ]


def record(folder, value):
    folder.mkdir(parents=True)
    sizes = dict(backbone=1, trainable=1, total=1, multiply_adds=1, commit='a')
    metrics = {'accuracy/top1': value}
    (folder / 'record.json').write_text(json.dumps(dict(sizes, metrics=metrics)))


def test_methods_are_compared_over_the_seeds_of_all_rates(
    tmp_path, monkeypatch, capsys
):
    linear = Method(1.0, dict(trainable=[]))
    study = rates_of(50, {'full': Method(1.0), 'linear': linear})
    full = study.runs[: len(study.runs) // 2]
    for i, one in enumerate(full):
        record(tmp_path / 'runs' / one.key / '0', 80.0 - i)
    record(tmp_path / 'runs' / full[1].key / '1', 100.0)
    record(tmp_path / 'runs' / study.runs[-1].key / '0', 100.0)
    monkeypatch.setitem(rates.STUDIES, 'tuning_fashion_50_rates', study)
    command = ['rates', 'tuning_fashion_50_rates', '--out', str(tmp_path)]
    monkeypatch.setattr(sys, 'argv', command)
    rates.main()
    printed = capsys.readouterr().out
    assert '| full | 0.001 | 80.0 | 0.004: 79.0 | the lowest |' in printed
    assert 'Some rates have not been run: linear\n' in printed


def test_a_method_may_have_a_rate_for_a_number_of_images():
    methods = dict(METHODS, full=Method(4e-3, rates={200: 1e-3, None: 2e-3}))

    def rate(per_class):
        options = tuning(per_class, methods).runs[0].options
        return options['optim_wrapper.optimizer.lr']

    assert [rate(n) for n in (10, 50, 200, None)] == [4e-3, 4e-3, 1e-3, 2e-3]


def test_other_numbers_of_images_try_the_neighbors_of_the_rate_of_fifty():
    methods = {'full': Method(4e-3, rates={200: 1e-3})}
    names = {n: [one.name for one in rates_of(n, methods).runs] for n in (50, 200)}
    assert len(names[50]) == 5
    assert names[200] == ['full, 0.001', 'full, 0.004', 'full, 0.016']
