# SPDX-License-Identifier: Apache-2.0
# The default runtime of mmdet, with the runner of mmadaptor.
_base_ = 'mmdet::_base_/default_runtime.py'

custom_imports = dict(imports=['mmadaptor', 'mmadaptor.engine'])
runner_type = 'mmadaptor.Runner'
default_hooks = dict(
    checkpoint=dict(max_keep_ckpts=3),
    exact_resume=dict(type='mmadaptor.ExactResumeHook'),
    strict_load=dict(type='mmadaptor.StrictLoadHook'),
    curves=dict(type='mmadaptor.CurvesHook'),
)
randomness = dict(seed=0)
