# SPDX-License-Identifier: Apache-2.0
"""Test the table of errors, at lengths that take no time."""

import re
import sys

from benchmarks import accuracy


def test_errors_of_both_are_printed(monkeypatch, capsys):
    monkeypatch.setattr(accuracy, 'LENGTHS', (64, 128))
    monkeypatch.setattr(accuracy, 'LONG', (256,))
    monkeypatch.setattr(sys, 'argv', ['accuracy'])
    accuracy.main()
    printed = capsys.readouterr().out
    errors = re.findall(r'([+\d.e-]+) / ([+\d.e-]+)', printed)
    assert len(errors) == 2 * 4 + len(accuracy.EXPONENTS)
    assert all(abs(float(error)) < 1e-5 for pair in errors for error in pair)
