"""What is said of compiled ops that cannot be used."""
import pytest

from mmadaptor.ops import _extension


def test_ops_older_than_their_python_files_are_named(monkeypatch):
    monkeypatch.setattr(_extension, '_OPS', ('selective_scan', 'next_years_op'))
    assert 'lack next_years_op, so they are older' in _extension._load()
    assert 'pip install -e . --no-build-isolation' in _extension._load()


def test_a_problem_is_raised(monkeypatch):
    monkeypatch.setattr(_extension, 'PROBLEM', 'not built')
    with pytest.raises(RuntimeError, match='not built'):
        _extension.require()


def test_there_is_no_problem_here():
    assert _extension._load() is None
