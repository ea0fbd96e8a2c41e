# SPDX-License-Identifier: Apache-2.0
# What AdamW must not decay: norms, embeddings, biases of the step, decay rates,
# skips and the adaptors' scales. The published VMamba runs decayed A_log and
# dt_*; to do as they did, set their decay_mult to 1.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bypass_duplicate=True,  # shared adaptors are one parameter
        custom_keys={
            'pos_embed': dict(decay_mult=0.0),
            'cls_token': dict(decay_mult=0.0),
            'A_log': dict(decay_mult=0.0),
            'mixer.D': dict(decay_mult=0.0),
            'dt_weight': dict(decay_mult=0.0),
            'dt_bias': dict(decay_mult=0.0),
            'temporal.gamma': dict(decay_mult=0.0),
            'spatial.alpha': dict(decay_mult=0.0),
        },
    ),
)
