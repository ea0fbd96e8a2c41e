# SPDX-License-Identifier: Apache-2.0
"""Test how the share of a hook is measured."""

import re
import sys

from helpers.jobs import TOY

from benchmarks import non_finite_hook
from mmadaptor.engine import NonFiniteHook


def test_times_of_hook_and_step_are_printed(tmp_path, monkeypatch, capsys):
    for name in ('_before_step', 'after_train_iter'):  # which the benchmark replaces
        monkeypatch.setattr(NonFiniteHook, name, getattr(NonFiniteHook, name))
    path = tmp_path / 'toy.py'
    path.write_text(TOY.format(work_dir=str(tmp_path)))
    monkeypatch.setattr(sys, 'argv', ['non_finite_hook', str(path), '--steps', '2'])
    non_finite_hook.main()
    line = capsys.readouterr().out.splitlines()[-1]
    hook, step = re.fullmatch(
        r'hook ([\d.]+) ms, step (\d+) ms, share [\d.]+ %', line
    ).groups()
    assert 0 < float(hook) < float(step) + 1
