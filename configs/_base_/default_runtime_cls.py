# SPDX-License-Identifier: Apache-2.0
# The default runtime of mmpretrain, with the runner of mmadaptor.
_base_ = 'mmpretrain::_base_/default_runtime.py'

custom_imports = dict(imports=['mmadaptor', 'mmadaptor.engine'])
runner_type = 'mmadaptor.Runner'
default_hooks = dict(
    checkpoint=dict(max_keep_ckpts=3),
    exact_resume=dict(type='mmadaptor.ExactResumeHook'),
    strict_load=dict(type='mmadaptor.StrictLoadHook'),
    curves=dict(type='mmadaptor.CurvesHook'),
)
# Repeated, because mmengine adds `_scope_` to inherited parts, and the tools of
# mmpretrain pass that key to the class.
visualizer = dict(
    _delete_=True,
    type='UniversalVisualizer',
    vis_backends=[dict(type='LocalVisBackend')],
)
randomness = dict(seed=0)
