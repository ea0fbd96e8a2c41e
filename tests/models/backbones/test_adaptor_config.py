# SPDX-License-Identifier: Apache-2.0
"""The `adaptors` argument: which blocks have adaptors."""

import pytest

from mmadaptor.models.backbones.adaptor_config import adaptors_of_blocks

BOTH = dict(temporal=dict(places=2), spatial=None)


def test_all_blocks_by_default():
    assert adaptors_of_blocks(BOTH, (1, 2)) == [[BOTH], [BOTH, BOTH]]
    assert adaptors_of_blocks(None, (1, 2)) == [
        [{'temporal': None, 'spatial': None}]
    ] * 1 + [[{'temporal': None, 'spatial': None}] * 2]


def test_chosen_blocks():
    spread = adaptors_of_blocks({**BOTH, 'blocks': [[], [1]]}, (1, 2))
    assert spread == [[{}], [{}, BOTH]]


@pytest.mark.parametrize(
    'change, message',
    [
        (dict(place=3), r"only have the keys \['temporal', .*got \['place'\]"),
        (dict(temporal=None), '`adaptors` must have a dict as `temporal`, `spatial`'),
        (
            dict(temporal=True),
            '`temporal` of `adaptors` must be a dict or None, got True',
        ),
        (dict(blocks=3), '`blocks` of `adaptors` must be 2 lists.*got 3'),
        (dict(blocks=[0, 1]), r'`blocks` of `adaptors` must be 2 lists.*got \[0, 1\]'),
        (dict(blocks=[[0]]), '`blocks` of `adaptors` must be 2 lists'),
        (dict(blocks=[[0], [2]]), r'block indices from 0 to 1 for stage 1, got \[2\]'),
    ],
)
def test_wrong_adaptors_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        adaptors_of_blocks({**BOTH, **change}, (1, 2))
