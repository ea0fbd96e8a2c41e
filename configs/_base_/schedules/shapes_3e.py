# SPDX-License-Identifier: Apache-2.0
# Detectors on the embedded dataset: three epochs from scratch.
_base_ = 'shapes_4e.py'

train_cfg = dict(max_epochs=3, val_interval=1)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, by_epoch=False, end=200),
    dict(type='CosineAnnealingLR', T_max=3, eta_min=1e-5, convert_to_iter_based=True),
]
