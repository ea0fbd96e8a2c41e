# SPDX-License-Identifier: Apache-2.0
# The head reads the class token. The drop path rate is our choice.
_base_ = 'classifier.py'

model = dict(
    backbone=dict(_delete_=True, type='mmadaptor.Vim', arch='tiny', drop_path_rate=0.1),
    neck=None,
    head=dict(in_channels=192),
)
