# SPDX-License-Identifier: Apache-2.0
# The detector of trees without adaptors.
_base_ = 'fcos_mamba_adaptor_b0_trees.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmadaptor.VMamba',
        arch=dict(embed_dims=32, depths=(1, 1, 2, 1), d_state=1, ssm_ratio=1.0),
        drop_path_rate=0.0,
        scan_init='balanced',
    )
)
