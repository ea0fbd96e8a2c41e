# SPDX-License-Identifier: Apache-2.0
"""Test the errors for missing, outdated or CPU-only compiled ops."""

import re

import pytest
import torch

from mmadaptor.environment import install
from mmadaptor.ops import _extension

AGAIN = install('mmadaptor', '--force-reinstall', '--no-deps')


def test_ops_older_than_their_python_files_are_named(monkeypatch):
    monkeypatch.setattr(_extension, '_OPS', ('selective_scan', 'next_years_op'))
    problem = _extension._load()
    assert 'lack next_years_op, so they are older' in problem
    assert problem.endswith(AGAIN)


def test_an_older_torch_is_named(monkeypatch):
    monkeypatch.setattr(torch, '__version__', '2.9.1+cu128')
    assert re.fullmatch(
        r"mmadaptor's compiled ops need torch 2\.10 or later, and this is torch "
        r'2\.9\.1\+cu128: \S+( -m pip)? install --upgrade torch torchvision',
        _extension._load(),
    )


def test_a_library_that_does_not_load_is_named(monkeypatch, tmp_path):
    library = tmp_path / 'libmmadaptor.so'
    library.write_bytes(b'of another platform')
    monkeypatch.setattr(_extension, 'LIBRARY', library)
    problem = _extension._load()
    assert 'do not load with torch' in problem
    assert f'({library}: ' in problem
    assert problem.endswith(AGAIN)


def test_a_missing_library_is_named(monkeypatch, tmp_path):
    library = tmp_path / 'libmmadaptor.so'
    monkeypatch.setattr(_extension, 'LIBRARY', library)
    problem = _extension._load()
    assert problem.startswith(
        f"mmadaptor's compiled ops are not built ({library} is missing): "
    )
    assert problem.endswith(AGAIN)


def test_a_problem_is_raised(monkeypatch):
    monkeypatch.setattr(_extension, 'PROBLEM', 'not built')
    with pytest.raises(RuntimeError, match='not built'):
        _extension.require()


def test_there_is_no_problem_here():
    assert _extension._load() is None


def test_every_op_has_something_to_say_on_a_gpu():
    names = [
        name
        for name in torch._C._dispatch_get_all_op_names()
        if name.startswith('mmadaptor::')
    ]
    assert {f'mmadaptor::{name}' for name in _extension._OPS} <= set(names)
    assert [
        name
        for name in names
        if not torch._C._dispatch_has_kernel_for_dispatch_key(name, 'CUDA')
    ] == []


@pytest.mark.skipif(_extension.HAS_CUDA, reason='built with CUDA')
def test_a_build_without_cuda_says_on_a_gpu_how_to_build_one():
    on_gpu = torch._C.DispatchKeySet(torch._C.DispatchKey.CUDA)
    y, kernels = torch.ones(1, 2, 2, 3), torch.ones(1, 3, 3, 3)
    with pytest.raises(
        RuntimeError,
        match='mmadaptor::dilated_depthwise: .*built for the CPU alone.* FORCE_CUDA=1 ',
    ):
        torch.ops.mmadaptor.dilated_depthwise.default.redispatch(
            on_gpu, y, kernels, [1]
        )
