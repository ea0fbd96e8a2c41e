# SPDX-License-Identifier: Apache-2.0
"""Sphinx configuration of the documentation; `make docs` builds it.

A comment `<!-- include FILE -->` in a page is replaced by a file of the repository, as
the README of an op, without its title if the page has one; `<!-- help FILE -->` by what
`--help` of a tool prints. Links between Markdown files work in the repository and on
the site: a link to a file that is a page leads to the page. A link to source code,
which has no page, becomes its text.
"""

import os
import re
import subprocess
import sys
from inspect import getdoc
from pathlib import Path

from sphinx.application import Sphinx
from torch.nn import Module

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / 'docs'
sys.path.insert(0, str(ROOT))

from mmadaptor.version import __version__  # noqa: E402

project = 'mmadaptor'
author = 'the authors of mmadaptor'
copyright = '2026, the authors of mmadaptor'
version = release = __version__

extensions = [
    'myst_parser',
    'sphinx.ext.autodoc',
    'sphinx.ext.napoleon',
    'sphinx.ext.viewcode',
    'sphinx_copybutton',
]
nitpicky = True
# The site is built without a network, so that other packages cannot be linked.
nitpick_ignore_regex = [('py:.*', r'(?!mmadaptor).*')]

html_theme = 'furo'
html_title = f'mmadaptor {version}'
html_static_path = ['_static']
html_extra_path = ['../build/memory']  # the folder memory/, which try.md shows
html_css_files = ['site.css']
html_favicon = '_static/favicon.svg'
html_show_sphinx = False
pygments_style = 'friendly'

myst_heading_anchors = 4
autodoc_typehints = 'description'
autodoc_typehints_format = 'short'
autodoc_typehints_description_target = 'documented'
autodoc_member_order = 'bysource'
autoclass_content = 'both'
napoleon_numpy_docstring = False
napoleon_custom_sections = ['Source']
napoleon_use_rtype = False
copybutton_exclude = '.linenos, .gp, .go'

CODE = re.compile(r'(?<![`:\w])`([^`]+)`(?![`_])')
INCLUDE = re.compile(r'^<!-- include (\S+) -->$', re.MULTILINE)
ROW = re.compile(r'^\|.*', re.MULTILINE)
UNBROKEN = re.compile(r'(?<=\d) (?=±|%)|(?<=±) (?=\d)')  # spaces within a number
HELP = re.compile(r'^<!-- help (\S+) -->$', re.MULTILINE)
LINK = re.compile(r'(!?\[(?:[^\[\]]|\[[^\]]*\])*\])\(([^)#:\s]+)(#[^)\s]*)?\)')


def included() -> dict[Path, str]:
    """Return the page of each file that a page includes."""
    return {
        (page.parent / name).resolve(): str(page.relative_to(DOCS).with_suffix(''))
        for page in DOCS.rglob('*.md')
        for name in INCLUDE.findall(page.read_text())
    }


def with_links(text: str, file: Path, page: str) -> str:
    """Return Markdown of `file` with links that hold on a page of the site."""
    pages, here = included(), (DOCS / page).parent

    def link(found: re.Match) -> str:
        label, target, anchor = found.groups('')
        path = (file.parent / target).resolve()
        if not path.exists():
            return found.group()
        if path.is_dir() and path / 'README.md' in pages:
            path /= 'README.md'
        if path in pages:
            path = DOCS / f'{pages[path]}.md'
        if path.is_relative_to(DOCS):
            return f'{label}({os.path.relpath(path, here)}{anchor})'
        return label.removeprefix('[').removesuffix(']')

    return LINK.sub(link, text)


def read_page(app: Sphinx, page: str, source: list[str]) -> None:
    """Insert files and options into a page, adapt its links, keep numbers whole."""
    file = DOCS / f'{page}.md'

    def include(found: re.Match) -> str:
        other = (file.parent / found[1]).resolve()
        app.env.note_dependency(str(other))
        text = other.read_text()
        if found.start():
            text = text[text.index('\n') :]
        return with_links(text, other, page)

    text = INCLUDE.sub(include, with_links(source[0], file, page))
    text = HELP.sub(options, text)
    source[0] = ROW.sub(lambda row: UNBROKEN.sub('\N{NO-BREAK SPACE}', row[0]), text)


def options(found: re.Match) -> str:
    """Return a section with what a tool prints about its options."""
    command = [sys.executable, found[1], '--help']
    settings = {**os.environ, 'COLUMNS': '80', 'PYTHONPATH': str(ROOT)}
    text = subprocess.check_output(command, cwd=ROOT, env=settings, text=True)
    return f'### `{found[1]}`\n\n```text\n{text}```\n'


def mark_code(app: Sphinx, kind: str, name: str, *others: object) -> None:
    """Make code of what has single backticks in a docstring; drop that of torch."""
    lines = others[-1]
    if '\n'.join(lines).strip() == getdoc(Module.__init__):
        lines.clear()
    lines[:] = CODE.sub(r'``\1``', '\n'.join(lines)).split('\n')


def setup(app: Sphinx) -> None:
    """Register what reads pages and docstrings."""
    app.connect('source-read', read_page)
    app.connect('autodoc-process-docstring', mark_code)
