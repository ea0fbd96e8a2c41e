# SPDX-License-Identifier: Apache-2.0
"""Examples of docstrings give what they show."""

import doctest

import pytest

from mmadaptor import models, ops

EXAMPLES = {name: getattr(ops, name) for name in ops.__all__} | {
    kind.__name__: kind
    for kind in (
        models.MambaAdaptor,
        models.VMamba,
        models.Vim,
        models.create_backbone,
        models.create_classifier,
    )
}


@pytest.mark.parametrize('name', EXAMPLES)
def test_example(name):
    """Run it alone, as a reader pastes it."""
    finder = doctest.DocTestFinder(recurse=False)
    (example,) = finder.find(EXAMPLES[name], name, globs={})
    said = []
    found = doctest.DocTestRunner().run(example, out=said.append)
    assert found.attempted >= 3 and not found.failed, ''.join(said)
