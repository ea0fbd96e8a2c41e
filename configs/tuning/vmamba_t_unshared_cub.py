# SPDX-License-Identifier: Apache-2.0
# Adaptors and head are trained. Each block has its own adaptors.
_base_ = 'vmamba_t_adaptors_cub.py'

model = dict(backbone=dict(adaptors=dict(share=False)))
