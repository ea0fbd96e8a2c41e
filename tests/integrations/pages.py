# SPDX-License-Identifier: Apache-2.0
"""The examples of the documentation's pages."""

import pathlib
import re

DOCS = pathlib.Path(__file__).parents[2] / 'docs'


def blocks(page):
    """Return the blocks of Python of a page, as they stand."""
    text = (DOCS / page).read_text()
    found = re.findall(r'^```python\n(.*?)^```$', text, re.MULTILINE | re.DOTALL)
    assert found, f'{page} has no example'
    return found


def run(page, folder, monkeypatch):
    """Run the blocks of a page one after the other, in a folder of their own."""
    monkeypatch.chdir(folder)
    names = {}
    for block in blocks(page):
        exec(compile(block, page, 'exec'), names)
    return names
