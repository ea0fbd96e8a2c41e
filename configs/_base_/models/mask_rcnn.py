# SPDX-License-Identifier: Apache-2.0
# Leaf configs set `arch` of the backbone and `in_channels` of the neck.
_base_ = 'mmdet::_base_/models/mask-rcnn_r50_fpn.py'

model = dict(
    backbone=dict(_delete_=True, type='mmadaptor.MambaAdaptor', drop_path_rate=0.2)
)
