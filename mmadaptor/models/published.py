# SPDX-License-Identifier: Apache-2.0
"""State dicts of the published VMamba and Vim, which have other names and shapes.

Published tensors differ from ours in name and shape only: their elements have
the same order.
"""

import re
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from mmadaptor.checkpoints.strict import BACKBONE, Mismatch, has_backbone
from mmadaptor.errors import CheckpointMismatchError, InputError

from .backbones import Vim, VMamba

State = Mapping[str, Tensor]
FAMILIES = ('vmamba', 'vim')
# The rest of mmdet's and mmseg's models, which have the same names in both.
DENSE_HEADS = re.compile(r'(neck|(rpn|roi|bbox|mask|decode|auxiliary)_head)\.')
# Names that only published state dicts have.
SIGNS = dict(
    vmamba=re.compile(r'(backbone\.)?layers\.\d+\.blocks\.\d+\.op\.'),
    vim=re.compile(r'(backbone\.)?layers\.\d+\.mixer\.A_b_log'),
)
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


class Converter:
    """Convert a state dict between the published names and shapes and ours.

    The model is built from arguments that are inferred from shapes, and every name
    and shape is compared with it.

    Args:
        family: `'vmamba'` or `'vim'`.
        state: The state dict.
        published: Whether it is as published. Otherwise it is ours.

    Raises:
        InputError: The state dict is not one of that family.
    """

    def __init__(self, family: str, state: State, published: bool) -> None:
        self.family, self.state, self.published = family, state, published
        prefixed = has_backbone(state)
        if not published and not prefixed:
            raise InputError(f"expected names with '{BACKBONE}', got {some(state)}")
        head = any(name.startswith('head.fc.') for name in state)
        self.classifier = not prefixed if published else head
        if (family, self.classifier) not in KINDS:
            raise InputError(
                f'only classifiers of {family} are published: expected '
                f'{"head" if published else "head.fc"}.weight, which is missing'
            )
        self.heads = {}
        if not self.classifier:
            self.heads = {n: v for n, v in state.items() if DENSE_HEADS.match(n)}
        self.backbone, infer, self.table, more = KINDS[family, self.classifier]
        self.arguments = infer(self._find, [n.removeprefix(BACKBONE) for n in state])
        arch, known = self.arguments['arch'], self.backbone.arch_settings
        self.arguments['arch'] = next((n for n in known if known[n] == arch), arch)
        with torch.device('meta'):
            backbone = self.backbone(**self.arguments, **more)
            self.model = nn.ModuleDict(dict(backbone=backbone))
            if self.classifier:
                *_, last_norm = backbone.parameters()
                classes = len(self._find('head.fc.weight', 2))
                fc = nn.Linear(len(last_norm), classes)
                self.model['head'] = nn.ModuleDict(dict(fc=fc))

    def _find(self, name: str, dimensions: int) -> Tensor:
        """Return the tensor of the state dict that we call `name`."""
        if self.published:
            (name, *_), _ = self._names(name)
        elif not name.startswith('head.'):
            name = BACKBONE + name
        if name not in self.state:
            raise CheckpointMismatchError(
                f'not a state dict of {self.family}: expected {name}, got '
                f'{some(self.state)}'
            )
        shape = tuple(self.state[name].shape)
        if len(shape) < dimensions or 0 in shape:
            raise CheckpointMismatchError(
                f'{name}: expected {dimensions} dimensions or more and no empty '
                f'one, got {shape}'
            )
        return self.state[name]

    def _names(self, name: str) -> tuple[list[str], View]:
        """Return the published names of a tensor of ours, and its view."""
        names, view = published_names(self.table, name.removeprefix(BACKBONE))
        prefix = '' if self.classifier else BACKBONE
        return [prefix + name for name in names], view

    def _split(self, name: str, tensor: Tensor) -> State:
        """View a tensor of ours as the published ones, by name."""
        names, view = self._names(name)
        parts = view(tensor).unbind() if len(names) > 1 else [view(tensor)]
        return dict(zip(names, parts, strict=True))

    def convert(self) -> State:
        """Convert the state dict.

        Returns:
            A published state dict as ours, or ours as published.

        Raises:
            CheckpointMismatchError: Names or shapes are not those of the model.
                Adaptors have no published name.
        """
        ours = self.model.state_dict()
        if not self.published:
            state = self._checked(ours)
            parts = [self._split(name, value) for name, value in state.items()]
            converted = {n: v.clone() for part in parts for n, v in part.items()}
            return converted | self.heads
        layout = {name: self._split(name, value) for name, value in ours.items()}
        state = self._checked({n: v for p in layout.values() for n, v in p.items()})
        return {
            name: torch.stack([state[n] for n in parts]).reshape(ours[name].shape)
            for name, parts in layout.items()
        } | self.heads

    def _checked(self, expected: State) -> State:
        """Account for every name and shape; return tensors of the expected shapes."""
        got = {n: tuple(v.shape) for n, v in self.state.items() if n not in self.heads}
        mismatch = Mismatch(
            missing=[name for name in expected if name not in got],
            unexpected=[name for name in got if name not in expected],
        )
        for name in (name for name in expected if name in got):
            shape = tuple(expected[name].shape)
            # A projection may be published as a 1x1 convolution.
            if got[name] != shape and (len(shape) != 2 or got[name] != (*shape, 1, 1)):
                mismatch.shapes.append((name, shape, got[name]))
        if mismatch:
            raise CheckpointMismatchError(
                f'the state dict does not fit {self.backbone.__name__} with '
                f'{self.arguments}, inferred from its shapes.\n{mismatch}'
            )
        return {name: self.state[name].reshape(v.shape) for name, v in expected.items()}


def family_of(state: State) -> str | None:
    """Return which of `FAMILIES` a published state dict is of; None if of none."""
    for family, sign in SIGNS.items():
        if any(map(sign.match, state)):
            return family
    return None


def as_ours(state: State, source: str) -> State:
    """Return a state dict by our names, if it is a published one.

    Args:
        state: A state dict; ours, and unknown ones, stay as they are.
        source: Where it comes from, for the error message.

    Returns:
        What was published has the names of a whole model: `backbone.` and
        `head.fc.` of a classifier.

    Raises:
        CheckpointMismatchError: It is a published one that differs from those we know.
    """
    family = family_of(state)
    if family is None:
        return state
    try:
        return Converter(family, state, published=True).convert()
    except InputError as error:
        raise CheckpointMismatchError(f'{source}: {error}') from error


def some(names: Iterable) -> str:
    """List the first names."""
    names = [str(name) for name in names]
    return ', '.join([*names[:5], *['...'] * (len(names) > 5)])
