# SPDX-License-Identifier: Apache-2.0
# Layers declare their parameters without weight decay. The published VMamba runs
# decayed the parameters of the scan. To do the same, set `custom_keys` as in
# mmadaptor/engine/optim.py.
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='mmadaptor.OptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0),
)
