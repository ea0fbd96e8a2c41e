# SPDX-License-Identifier: Apache-2.0
# The classifier of Fashion-MNIST without adaptors.
_base_ = 'mamba_adaptor_fashion.py'

model = dict(backbone=dict(type='mmadaptor.VMamba'))
