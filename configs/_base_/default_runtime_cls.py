# SPDX-License-Identifier: Apache-2.0
# mmpretrain's runtime, run by mmadaptor's runner.
_base_ = 'mmpretrain::_base_/default_runtime.py'

custom_imports = dict(imports=['mmadaptor', 'mmadaptor.engine'])
runner_type = 'mmadaptor.Runner'
default_hooks = dict(
    checkpoint=dict(max_keep_ckpts=3),
    exact_resume=dict(type='mmadaptor.ExactResumeHook'),
    strict_load=dict(type='mmadaptor.StrictLoadHook'),
    curves=dict(type='mmadaptor.CurvesHook'),
)
# Without the scope that mmengine adds to inherited parts, which mmpretrain's own
# tools pass to the class.
visualizer = dict(
    _delete_=True,
    type='UniversalVisualizer',
    vis_backends=[dict(type='LocalVisBackend')],
)
randomness = dict(seed=0)
