# SPDX-License-Identifier: Apache-2.0
# The default runtime of mmseg, with the runner of mmadaptor. It is copied here, because
# mmengine does not find the base configs of mmseg in the onedl-* distribution.
custom_imports = dict(imports=['mmadaptor', 'mmadaptor.engine'])
runner_type = 'mmadaptor.Runner'
default_scope = 'mmseg'
env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(
    type='SegLocalVisualizer', vis_backends=vis_backends, name='visualizer', alpha=0.5
)
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=3),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='SegVisualizationHook'),
    exact_resume=dict(type='mmadaptor.ExactResumeHook'),
    strict_load=dict(type='mmadaptor.StrictLoadHook'),
    curves=dict(type='mmadaptor.CurvesHook'),
)
log_level = 'INFO'
tta_model = dict(type='SegTTAModel')
load_from = None
resume = False
randomness = dict(seed=0)
