# SPDX-License-Identifier: Apache-2.0
# Leaf configs set `arch` of the backbone and `in_channels` of the head. The `init_cfg`
# of the base config would initialize the linear layers of the backbone again.
_base_ = 'mmpretrain::_base_/models/swin_transformer/tiny_224.py'

model = dict(
    init_cfg=None,
    backbone=dict(
        _delete_=True,
        type='mmadaptor.MambaAdaptor',
        out_indices=(3,),
        drop_path_rate=0.2,
    ),
    head=dict(
        init_cfg=dict(_delete_=True, type='TruncNormal', layer='Linear', std=0.02)
    ),
)
