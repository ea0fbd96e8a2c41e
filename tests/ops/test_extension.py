# SPDX-License-Identifier: Apache-2.0
"""Test the errors for missing, outdated or CPU-only compiled ops."""

import pytest
import torch

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
        match='mmadaptor::dilated_depthwise: .*built for '
        'the CPU alone: build them again with "FORCE_CUDA=1',
    ):
        torch.ops.mmadaptor.dilated_depthwise.default.redispatch(
            on_gpu, y, kernels, [1]
        )
