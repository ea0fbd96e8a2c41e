# Beside mmdet's own: what makes a resumed run equal to an unbroken one, and
# curves of the run.
_base_ = 'mmdet::_base_/default_runtime.py'

custom_imports = dict(imports=['mmadaptor'])
default_hooks = dict(checkpoint=dict(max_keep_ckpts=3))
custom_hooks = [
    dict(type='mmadaptor.EpochSeedHook'),
    dict(type='mmadaptor.CurvesHook')
]
randomness = dict(seed=0)
