# SPDX-License-Identifier: Apache-2.0
# Low-rank updates (LoRA) of the projections of SS2D and the head are trained.
_base_ = '../_base_/recipes/tuning_cub.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='LoRAModel',
        module=dict(
            type='mmadaptor.VMamba',
            arch='tiny',
            out_indices=(3,),
            init_cfg=dict(
                type='Pretrained',
                checkpoint='checkpoints/vmamba_t_imagenet.pth',
                prefix='backbone.',
            ),
        ),
        alpha=16,
        rank=8,
        targets=[dict(type=r'.*mixer\.(in_proj|x_proj|out_proj)')],
    )
)
