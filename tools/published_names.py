# SPDX-License-Identifier: Apache-2.0
"""Published VMamba and Vim state dicts: their names, shapes and arguments.

Published tensors differ from ours in name and shape only: their elements have
the same order.
"""

import re
from collections.abc import Callable

from torch import Tensor

from mmadaptor.errors import CheckpointMismatchError
from mmadaptor.models import Vim, VMamba

Find = Callable[[str, int], Tensor]
View = Callable[[Tensor], Tensor]

# Our names (without `backbone.`) and the published ones: several if each direction
# has a tensor of its own. Each * stands for a part of a name, the same in both.
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
CLASSIFIER = {'norm3.*': 'classifier.norm.*', 'head.fc.*': 'classifier.head.*'}
DENSE = {'norm*.*': 'outnorm*.*'}
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
# Views that give a tensor of ours the published shape; several published tensors are
# along the first dimension. A tensor without an entry keeps its shape.
VIEWS: dict[str, View] = {
    'stages.*.*.mixer.x_proj.weight': lambda t: t.unflatten(0, (4, -1)),
    'stages.*.*.mixer.A_log': lambda t: t.flatten(0, 1),
    'stages.*.*.mixer.D': lambda t: t.flatten(0, 1),
    # (2 D, 1, 1, 4) and (2 D,) are two 1-D convolutions: (D, 1, 4) and (D,)
    'layers.*.mixer.conv.*': lambda t: t.reshape(2, -1, *t.shape[2:]),
}


def published_names(table: dict[str, str], name: str) -> tuple[list[str], View]:
    """Return the published names of a tensor of ours, and its view as published."""
    for ours, theirs in table.items():
        pattern = re.escape(ours).replace(r'\*', r'([^.]+)')
        if match := re.fullmatch(pattern, name):
            templates = theirs.replace('*', '{}').split()
            names = [template.format(*match.groups()) for template in templates]
            return names, VIEWS.get(ours, lambda t: t)
    raise AssertionError(f'{name} is in no table')


def infer_vmamba(find: Find, names: list[str]) -> dict:
    """Infer the arguments of a VMamba from the shapes of its tensors."""
    dims = len(find('downsample_layers.0.4.weight', 1))
    d_state = find('stages.0.0.mixer.A_log', 2).shape[-1]
    ssm_ratio = len(find('stages.0.0.mixer.norm.weight', 1)) / dims
    mlp_ratio = len(find('stages.0.0.mlp.0.weight', 2)) / dims
    blocks = (rf'(?:layers\.{i}\.blocks|stages\.{i})\.(\d+)\.' for i in range(4))
    depths = tuple(count(names, pattern) for pattern in blocks)
    if 0 in depths:
        raise CheckpointMismatchError(f'expected blocks in four stages, got {depths}')
    arch = dict(embed_dims=dims, depths=depths, d_state=d_state, ssm_ratio=ssm_ratio)
    return dict(arch=arch, mlp_ratio=mlp_ratio)


def infer_vim(find: Find, names: list[str]) -> dict:
    """Infer the arguments of a Vim, for square images, from its tensors' shapes."""
    patch = find('patch_embed.projection.weight', 4)
    depth = count(names, r'layers\.(\d+)\.')
    if not depth:
        raise CheckpointMismatchError('expected blocks (layers.0, ...), got none')
    positions = find('pos_embed', 3).shape[1]
    side, size = round((positions - 1) ** 0.5), patch.shape[-1]
    if not side or side**2 != positions - 1:
        raise CheckpointMismatchError(
            f'pos_embed: expected a square of positions and one, got {positions}'
        )
    if (side, size) == (27, 16):
        raise CheckpointMismatchError(
            'pos_embed: expected positions of patches that do not overlap, got 27 x '
            '27, as Vim+ has for 224 px in steps of 8. Vim+ is not supported.'
        )
    arch = dict(embed_dims=len(patch), depth=depth)
    return dict(arch=arch, patch_size=size, img_size=side * size)


def count(names: list[str], pattern: str) -> int:
    """Return one more than the highest number that a pattern finds in names."""
    found = (re.match(pattern, name) for name in names)
    return max((int(m.group(1)) for m in found if m), default=-1) + 1


# By family, and whether it is a classifier: the class, what infers its arguments, the
# names, and further arguments.
KINDS = {
    ('vmamba', True): (VMamba, infer_vmamba, VMAMBA | CLASSIFIER, {'out_indices': [3]}),
    ('vmamba', False): (VMamba, infer_vmamba, VMAMBA | DENSE, {}),
    ('vim', True): (Vim, infer_vim, VIM, {}),
}
