# SPDX-License-Identifier: Apache-2.0
# The first two stages of a ResNet-18, on maps as large as those of VMamba.
_base_ = '../mamba_adaptor_fashion.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='ResNet',
        depth=18,
        num_stages=2,
        strides=(1, 2),
        dilations=(1, 1),
        out_indices=(1,),
    )
)
