# SPDX-License-Identifier: Apache-2.0
# mmpretrain's own and ours.
_base_ = ['mmpretrain::_base_/default_runtime.py', 'hooks.py']

default_hooks = dict(checkpoint=dict(max_keep_ckpts=3))
# Without the scope that mmengine notes in what it inherits, which mmpretrain's
# own tools hand on to the class.
visualizer = dict(
    _delete_=True,
    type='UniversalVisualizer',
    vis_backends=[dict(type='LocalVisBackend')],
)
randomness = dict(seed=0)
