# SPDX-License-Identifier: Apache-2.0
"""Convert published VMamba and Vim checkpoints to mmadaptor's, and back.

Usage: python tools/convert_checkpoint.py --from vmamba|vim SRC DST
       python tools/convert_checkpoint.py --to vmamba|vim SRC DST

Published tensors differ from ours in name and shape only: their elements have
the same order. The arguments of the backbone are inferred from the shapes, the
model is built, and every name and shape of SRC is compared with it.
"""

import argparse
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

import mmadaptor
from mmadaptor.checkpoints.loading import meta_of, peek
from mmadaptor.checkpoints.strict import Mismatch
from mmadaptor.checkpoints.writing import save
from mmadaptor.engine.command_line import refuse_to_overwrite, run
from mmadaptor.errors import CheckpointMismatchError, InputError, UnsafeCheckpointError
from mmadaptor.models import Vim, VMamba

State = Mapping[str, Tensor]
KEYS = ('model', 'state_dict', 'model_ema', 'state_dict_ema')
BACKBONE = 'backbone.'
# Detectors and segmentors are mmdet's and mmseg's, here and as published.
DENSE_HEADS = (
    *('neck.', 'rpn_head.', 'roi_head.', 'bbox_head.', 'mask_head.'),
    *('decode_head.', 'auxiliary_head.'),
)

# Our names (without `backbone.`) and the published ones, in order of direction if
# there are several. Each * stands for a part of the name, the same in both.
VMAMBA = {
    'downsample_layers.0.0.*': 'patch_embed.0.*',
    'downsample_layers.0.1.*': 'patch_embed.2.*',
    'downsample_layers.0.3.*': 'patch_embed.5.*',
    'downsample_layers.0.4.*': 'patch_embed.7.*',
    'downsample_layers.1.0.*': 'layers.0.downsample.1.*',
    'downsample_layers.1.1.*': 'layers.0.downsample.3.*',
    'downsample_layers.2.0.*': 'layers.1.downsample.1.*',
    'downsample_layers.2.1.*': 'layers.1.downsample.3.*',
    'downsample_layers.3.0.*': 'layers.2.downsample.1.*',
    'downsample_layers.3.1.*': 'layers.2.downsample.3.*',
    'stages.*.*.norm1.*': 'layers.*.blocks.*.norm.*',
    'stages.*.*.norm2.*': 'layers.*.blocks.*.norm2.*',
    'stages.*.*.mlp.0.*': 'layers.*.blocks.*.mlp.fc1.*',
    'stages.*.*.mlp.2.*': 'layers.*.blocks.*.mlp.fc2.*',
    'stages.*.*.mixer.in_proj.*': 'layers.*.blocks.*.op.in_proj.*',
    'stages.*.*.mixer.out_proj.*': 'layers.*.blocks.*.op.out_proj.*',
    'stages.*.*.mixer.conv.*': 'layers.*.blocks.*.op.conv2d.*',
    'stages.*.*.mixer.norm.*': 'layers.*.blocks.*.op.out_norm.*',
    'stages.*.*.mixer.x_proj.weight': 'layers.*.blocks.*.op.x_proj_weight',
    'stages.*.*.mixer.dt_*': 'layers.*.blocks.*.op.dt_projs_*',
    'stages.*.*.mixer.A_log': 'layers.*.blocks.*.op.A_logs',
    'stages.*.*.mixer.D': 'layers.*.blocks.*.op.Ds',
}
VMAMBA_CLASSIFIER = {'norm3.*': 'classifier.norm.*', 'head.fc.*': 'classifier.head.*'}
VMAMBA_DENSE = {'norm*.*': 'outnorm*.*'}
VIM = {
    'cls_token': 'cls_token',
    'pos_embed': 'pos_embed',
    'patch_embed.projection.*': 'patch_embed.proj.*',
    'layers.*.norm.*': 'layers.*.norm.*',
    'layers.*.mixer.in_proj.*': 'layers.*.mixer.in_proj.*',
    'layers.*.mixer.out_proj.*': 'layers.*.mixer.out_proj.*',
    'layers.*.mixer.conv.*': 'layers.*.mixer.conv1d.* layers.*.mixer.conv1d_b.*',
    'layers.*.mixer.x_*': 'layers.*.mixer.x_proj.* layers.*.mixer.x_proj_b.*',
    'layers.*.mixer.dt_*': 'layers.*.mixer.dt_proj.* layers.*.mixer.dt_proj_b.*',
    'layers.*.mixer.A_log': 'layers.*.mixer.A_log layers.*.mixer.A_b_log',
    'layers.*.mixer.D': 'layers.*.mixer.D layers.*.mixer.D_b',
    'norm.*': 'norm_f.*',
    'head.fc.*': 'head.*',
}
# How a tensor of ours is viewed as published: first as many dimensions as ours has
# directions, if the published ones are apart. Without an entry: as it is.
VIEWS: dict[str, Callable[[Tensor], Tensor]] = {
    'stages.*.*.mixer.x_proj.weight': lambda t: t.unflatten(0, (4, -1)),
    'stages.*.*.mixer.A_log': lambda t: t.flatten(0, 1),
    'stages.*.*.mixer.D': lambda t: t.flatten(0, 1),
    'layers.*.mixer.conv.weight': lambda t: t.unflatten(0, (2, -1)).squeeze(2),
    'layers.*.mixer.conv.bias': lambda t: t.unflatten(0, (2, -1)),
}
