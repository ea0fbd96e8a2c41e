# SPDX-License-Identifier: Apache-2.0
"""The models in the registry of mmengine, for configs of its toolboxes."""

from mmadaptor.models import MambaAdaptor, SimpleFeaturePyramid, Vim, VMamba
from mmadaptor.registry import BACKBONES, MODELS

for _backbone in (MambaAdaptor, Vim, VMamba):
    BACKBONES.register_module(module=_backbone)
MODELS.register_module(module=SimpleFeaturePyramid)
