# SPDX-License-Identifier: Apache-2.0
"""Our hooks are there, unless a config says None."""

from mmadaptor.engine.default_hooks import OURS, with_ours


def test_ours_are_added_and_none_removes():
    assert with_ours(None) == OURS
    hooks = with_ours(dict(non_finite=None, timer=None, curves=None, mine=dict(a=1)))
    assert hooks == {
        **{name: hook for name, hook in OURS.items() if name != 'non_finite'},
        'timer': None,  # of mmengine, which removes it
        'mine': dict(a=1),
    }
