# SPDX-License-Identifier: Apache-2.0
# Leaf configs give the backbone's arch and the neck's in_channels.
_base_ = 'mmdet::_base_/models/mask-rcnn_r50_fpn.py'

model = dict(
    backbone=dict(_delete_=True, type='mmadaptor.MambaAdaptor', drop_path_rate=0.2)
)
