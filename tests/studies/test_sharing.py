# SPDX-License-Identifier: Apache-2.0
"""What sharing saves, by hand."""

import pytest
from helpers.jobs import ROOT

from mmadaptor.models import Vim, VMamba
from studies import sharing
from studies.vim import BASE


def parameters(channels):
    """Predictors of 24 numbers with biases, gamma; 3 dilations of 9 taps and alpha."""
    return 24 * channels + 24 + channels + 30 * channels


@pytest.mark.parametrize('dims, depth', [(192, 24), (384, 24), (32, 18)])
def test_a_vim_saves_all_but_one_of_its_blocks(dims, depth):
    arch = dict(embed_dims=dims, depth=depth)
    own, _ = sharing.count(Vim, arch, share=False)
    shared, _ = sharing.count(Vim, arch, share=True)
    assert own == depth * parameters(2 * dims)
    assert shared == parameters(2 * dims)
    assert sharing.saved(Vim, arch) == pytest.approx(100 * (1 - 1 / depth))
    assert sharing.saved(Vim, arch) >= 94


def test_a_vmamba_keeps_one_for_each_width():
    own, _ = sharing.count(VMamba, 'tiny', share=False)
    shared, total = sharing.count(VMamba, 'tiny', share=True)
    widths = {96: 2, 192: 2, 384: 8, 768: 2}
    assert own == sum(count * parameters(d) for d, count in widths.items())
    assert shared == sum(map(parameters, widths))
    assert total == 30_249_064 - 1_000 * 769 + shared + 2 * (96 + 192 + 384)


def test_the_vim_of_the_table_is_that_of_the_study(tmp_path):
    arch = BASE.make_config(tmp_path, 0, '').model.backbone.arch
    assert arch == sharing.BACKBONES['Vim of `tuning_vim_*`'][1]


def test_the_table_is_that_of_the_documentation():
    text = (ROOT / 'docs' / 'tuning.md').read_text()
    assert sharing.table() in text
