# SPDX-License-Identifier: Apache-2.0
"""Figures of the documentation show today's data."""

import runpy
import sys

import matplotlib
import pytest
from helpers.jobs import ROOT

GALLERY = ROOT / 'docs' / 'gallery'
IMAGES = ROOT / 'docs' / 'images'
SCRIPTS = ('adaptors', 'design', 'predictions', 'speed', 'studies')


@pytest.mark.parametrize('script', SCRIPTS)
def test_figures_are_of_their_data(script, monkeypatch):
    monkeypatch.syspath_prepend(GALLERY)
    with matplotlib.rc_context():
        figures = runpy.run_path(str(GALLERY / f'{script}.py'))['FIGURES']
    digest = sys.modules.pop('style').digest
    for name, data in figures.items():
        assert digest(data()) in (IMAGES / f'{name}.svg').read_text(), (
            f'{name}.svg is older than its data: make gallery'
        )


def test_every_figure_is_in_the_gallery():
    """The gallery says how each is made."""
    shown = (GALLERY / 'README.md').read_text()
    for path in (ROOT / 'docs').rglob('*'):
        folder = path.parent.name
        if path.suffix in ('.svg', '.png', '.webp') and folder != '_static':
            assert folder == 'studies' or f'{path.name})' in shown, path
