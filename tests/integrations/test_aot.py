# SPDX-License-Identifier: Apache-2.0
"""A package of AOTInductor runs without the model's code, mmengine and mmcv."""

import subprocess
import sys

import pytest
import torch

from mmadaptor.errors import InputError
from mmadaptor.export.aot import compare, export_aot
from mmadaptor.models import MambaAdaptor

ARCH = dict(embed_dims=8, depths=(1, 1), d_state=1, ssm_ratio=1.0)
BOTH = dict(temporal=dict(gamma_init=0.5), spatial=dict(alpha_init=0.5))
RUN = """
import sys
import torch
import mmadaptor.ops
assert 'mmadaptor.models' not in sys.modules
model = torch._inductor.aoti_load_package(sys.argv[1])
assert model.get_metadata()['mean'] == '[1.0]'
saved = torch.load(sys.argv[2])
for images, expected in saved:
    for got, maps in zip(model(images), expected, strict=True):
        torch.testing.assert_close(got, maps, rtol=1e-4, atol=1e-5)
"""


def test_a_package_equals_the_model_at_sizes_it_has_not_seen(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCHINDUCTOR_CACHE_DIR', str(tmp_path / 'cache'))
    torch.manual_seed(0)
    model = MambaAdaptor(ARCH, out_indices=(0, 1), adaptors=BOTH).eval()
    path = tmp_path / 'model.pt2'
    export_aot(model, path, (64, 48), metadata=dict(mean='[1.0]'))
    shapes = (1, 3, 64, 64), (3, 3, 33, 70), (2, 3, 96, 41)
    with torch.no_grad():
        pairs = [(x, model(x)) for x in map(torch.randn, shapes)]
    torch.save(pairs, tmp_path / 'pairs.pth')
    subprocess.run(
        [sys.executable, '-c', RUN, path, tmp_path / 'pairs.pth'], check=True
    )
    assert [*tmp_path.glob('*.part*')] == []
    names = ['map_0', 'map_1']
    worst = compare(path, names, model, [torch.randn(2, 3, 40, 50)])
    assert [*worst] == names and 0 < max(worst.values()) < 1e-5
    for parameter in model.parameters():
        parameter.data.mul_(1.5)
    assert (
        min(compare(path, names, model, [images for images, _ in pairs]).values()) > 0.1
    )


def test_what_cannot_be_compiled_says_so_and_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCHINDUCTOR_CACHE_DIR', str(tmp_path / 'cache'))
    monkeypatch.setattr('torch._inductor.config.cpp.cxx', ('no-compiler',))
    model = MambaAdaptor(dict(ARCH, depths=(1,)), out_indices=(0,))
    path = tmp_path / 'model.pt2'
    with pytest.raises(InputError, match='MambaAdaptor cannot be compiled: .*ompiler'):
        export_aot(model, path, (64, 48))
    assert [*tmp_path.glob('model*')] == []


def test_a_size_that_is_too_small_is_named(tmp_path):
    model = MambaAdaptor(ARCH, out_indices=(0, 1))
    with pytest.raises(InputError, match='got 16 x 16'):
        export_aot(model, tmp_path / 'model.pt2', (16, 16))
