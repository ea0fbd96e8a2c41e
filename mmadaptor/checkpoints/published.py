# SPDX-License-Identifier: Apache-2.0
"""The published VMamba and Vim state dicts and ours, name by name, both ways.

Published tensors differ from ours in name and shape alone: in their order they
hold the numbers of one of ours in its order.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmadaptor.errors import CheckpointMismatchError, InputError
from mmadaptor.registry import MODELS

from .strict import Mismatch

Shape = tuple[int, ...]
BACKBONE, HEAD = 'backbone.', 'head.fc.'
# Detectors and segmentors name the rest of a model as ours do: mmdet and mmseg.
DENSE_HEADS = (
    'neck.',
    'rpn_head.',
    'roi_head.',
    'bbox_head.',
    'mask_head.',
    'decode_head.',
    'auxiliary_head.',
)
DIRECTIONS = 4


def _same(shape: Shape) -> Shape:
    return shape


@dataclass
class Rule:
    r"""How tensors of ours are called and shaped in a published state dict.

    Args:
        ours: Regular expression for a name of ours.
        theirs: Templates of the published names, `\1` being its first group.
        shape: From the shape of ours to that of each published tensor.
    """

    ours: str
    theirs: tuple[str, ...]
    shape: Callable[[Shape], Shape] = _same


def _block(ours: str, theirs: str, shape: Callable = _same) -> Rule:
    return Rule(
        rf'stages\.(\d+)\.(\d+)\.{ours}', (rf'layers.\1.blocks.\2.{theirs}',), shape
    )


def _mixer(ours: str, theirs: str, shape: Callable = _same) -> Rule:
    """One of Vim's: each direction has a tensor of its own."""
    forth, back = theirs.split()
    return Rule(
        rf'layers\.(\d+)\.mixer\.{ours}',
        (rf'layers.\1.mixer.{forth}', rf'layers.\1.mixer.{back}'),
        shape,
    )


WHAT = r'(weight|bias)'
VMAMBA = [
    *(
        Rule(rf'downsample_layers\.0\.{ours}\.{WHAT}', (rf'patch_embed.{theirs}.\1',))
        for ours, theirs in ((0, 0), (1, 2), (3, 5), (4, 7))
    ),
    *(
        Rule(
            rf'downsample_layers\.{stage + 1}\.{ours}\.{WHAT}',
            (rf'layers.{stage}.downsample.{theirs}.\1',),
        )
        for stage in range(3)
        for ours, theirs in ((0, 1), (1, 3))
    ),
    _block(rf'norm1\.{WHAT}', r'norm.\3'),
    _block(rf'norm2\.{WHAT}', r'norm2.\3'),
    _block(rf'mlp\.0\.{WHAT}', r'mlp.fc1.\3'),
    _block(rf'mlp\.2\.{WHAT}', r'mlp.fc2.\3'),
    _block(r'mixer\.(in_proj|out_proj)\.weight', r'op.\3.weight'),
    _block(r'mixer\.conv\.weight', 'op.conv2d.weight'),
    _block(rf'mixer\.norm\.{WHAT}', r'op.out_norm.\3'),
    _block(
        r'mixer\.x_proj\.weight',
        'op.x_proj_weight',
        lambda s: (DIRECTIONS, s[0] // DIRECTIONS, s[1]),
    ),
    _block(r'mixer\.dt_(weight|bias)', r'op.dt_projs_\3'),
    _block(r'mixer\.A_log', 'op.A_logs', lambda s: (s[0] * s[1], s[2])),
    _block(r'mixer\.D', 'op.Ds', lambda s: (s[0] * s[1],)),
]
VIM = [
    Rule('(cls_token|pos_embed)', (r'\1',)),
    Rule(rf'patch_embed\.projection\.{WHAT}', (r'patch_embed.proj.\1',)),
    Rule(r'layers\.(\d+)\.norm\.weight', (r'layers.\1.norm.weight',)),
    Rule(r'norm\.weight', ('norm_f.weight',)),
    Rule(
        r'layers\.(\d+)\.mixer\.(in_proj|out_proj)\.weight',
        (r'layers.\1.mixer.\2.weight',),
    ),
    _mixer(
        rf'conv\.{WHAT}', r'conv1d.\2 conv1d_b.\2', lambda s: (s[0] // 2, *s[2:])
    ),  # published as a 1-D convolution
    _mixer('x_weight', 'x_proj.weight x_proj_b.weight', lambda s: s[1:]),
    _mixer(f'dt_{WHAT}', r'dt_proj.\2 dt_proj_b.\2', lambda s: s[1:]),
    _mixer('A_log', 'A_log A_b_log', lambda s: s[1:]),
    _mixer('D', 'D D_b', lambda s: s[1:]),
]


@dataclass
class Family:
    """A published family of models.

    Args:
        backbone: Its class here.
        infer: From a state dict, published or ours, to the backbone's
            arguments.
        rules: Its backbone's tensors.
        norm: For a classifier, the rule of its last norm where that is not the
            backbone's.
        head: The published classifier's name.
        dense: Whether detectors and segmentors are published.
    """

    backbone: str
    infer: Callable[[Mapping[str, Tensor]], dict]
    rules: list[Rule]
    head: str
    norm: list[Rule]
    dense: bool


def _first(state: Mapping[str, Tensor], *names: str, axes: int) -> Tensor:
    """The tensor of the first name that is there, of so many axes or more."""
    for name in names:
        if name in state:
            shape = tuple(state[name].shape)
            if len(shape) < axes or 0 in shape:
                raise CheckpointMismatchError(
                    f'{name}: expected {axes} axes or more and no empty one, '
                    f'got {shape}'
                )
            return state[name]
    raise CheckpointMismatchError(
        f'This is no state dict of that family: expected {" or ".join(names)}, '
        f'got {", ".join(list(state)[:5])}, ...'
    )


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    """How many blocks are numbered after a prefix."""
    numbers = {
        int(m.group(1))
        for name in state
        if (m := re.match(rf'{prefix}\.(\d+)\.', name))
    }
    return max(numbers, default=-1) + 1


def infer_vmamba(state: Mapping[str, Tensor]) -> dict:
    """The arguments of VMamba that a state dict is for.

    Args:
        state: Of the backbone, published or ours.

    Returns:
        `arch` and `mlp_ratio`.
    """
    dims = len(
        _first(state, 'patch_embed.7.weight', 'downsample_layers.0.4.weight', axes=1)
    )
    blocks = ('layers.0.blocks.0.op', 'stages.0.0.mixer')
    A_log = _first(state, f'{blocks[0]}.A_logs', f'{blocks[1]}.A_log', axes=2)
    norm = _first(
        state,
        *(
            f'{block}.{norm}.weight'
            for block, norm in zip(blocks, ('out_norm', 'norm'), strict=True)
        ),
        axes=1,
    )
    hidden = _first(
        state, 'layers.0.blocks.0.mlp.fc1.weight', 'stages.0.0.mlp.0.weight', axes=2
    )
    depths = tuple(
        _count(state, rf'(?:layers\.{i}\.blocks|stages\.{i})') for i in range(4)
    )
    if 0 in depths:
        raise CheckpointMismatchError(
            f'Expected blocks in four stages, got {depths} of them'
        )
    return dict(
        arch=dict(
            embed_dims=dims,
            depths=depths,
            d_state=A_log.shape[-1],
            ssm_ratio=len(norm) / dims,
        ),
        mlp_ratio=len(hidden) / dims,
    )


def infer_vim(state: Mapping[str, Tensor]) -> dict:
    """The arguments of Vim that a state dict is for.

    Args:
        state: Of the backbone, published or ours.

    Returns:
        `arch`, `patch_size` and `img_size`, the images being square.
    """
    patch = _first(
        state, 'patch_embed.proj.weight', 'patch_embed.projection.weight', axes=4
    )
    depth = _count(state, 'layers')
    if not depth:
        raise CheckpointMismatchError(
            'Expected blocks, layers.0 and on, got none of them'
        )
    tokens = _first(state, 'pos_embed', axes=3).shape[1] - 1
    side = round(tokens**0.5)
    if side**2 != tokens:
        raise CheckpointMismatchError(
            f'pos_embed: expected a square of positions and one, got {tokens + 1}'
        )
    if (side, patch.shape[-1]) == (27, 16):
        raise CheckpointMismatchError(
            'pos_embed: expected positions of patches side by side, got 27 x '
            '27, those of 224 px in steps of 8, as Vim+ has; Vim here steps '
            'by whole patches'
        )
    return dict(
        arch=dict(embed_dims=len(patch), depth=depth),
        patch_size=patch.shape[-1],
        img_size=side * patch.shape[-1],
    )


FAMILIES = {
    'vmamba': Family(
        'mmadaptor.VMamba',
        infer_vmamba,
        VMAMBA,
        'classifier.head.',
        [Rule(rf'norm3\.{WHAT}', (r'classifier.norm.\1',))],
        dense=True,
    ),
    'vim': Family('mmadaptor.Vim', infer_vim, VIM, 'head.', [], dense=False),
}
OUTPUT_NORMS = [Rule(rf'norm(\d)\.{WHAT}', (r'outnorm\1.\2',))]


def layout(
    backbone: nn.Module, rules: list[Rule]
) -> dict[str, tuple[list[str], Shape]]:
    """What each tensor of a backbone is in a published state dict.

    Args:
        backbone: On any device.
        rules: One for each of its tensors.

    Returns:
        By our name the published names, and the shape of each.
    """
    published = {}
    for name, value in backbone.state_dict().items():
        rule, match = next(
            (rule, match) for rule in rules if (match := re.fullmatch(rule.ours, name))
        )
        published[name] = (
            [match.expand(t) for t in rule.theirs],
            tuple(rule.shape(tuple(value.shape))),
        )
    return published


class Converter:
    """Converts state dicts of a published family.

    Args:
        family: `'vmamba'` or `'vim'`.
        state: The state dict, published or ours.
        published: Which of the two it is.

    Raises:
        InputError: If nothing in it is a backbone of that family.
    """

    def __init__(
        self, family: str, state: Mapping[str, Tensor], published: bool
    ) -> None:
        self.family = FAMILIES[family]
        self.state = state
        prefixed = any(name.startswith(BACKBONE) for name in state)
        if not published and not prefixed:
            raise InputError(
                f"Expected names under '{BACKBONE}', got "
                f'{", ".join(list(state)[:5])}, ...'
            )
        ours_head = any(name.startswith(HEAD) for name in state)
        self.classifier = not prefixed if published else ours_head
        if not self.classifier and not self.family.dense:
            head = self.family.head if published else HEAD
            raise InputError(
                f'Of {family} only classifiers are published: '
                f'expected {head}weight, which is not there'
            )
        self.prefix = BACKBONE if prefixed else ''
        self.arguments = self.family.infer(
            {
                name[len(self.prefix) :]: value
                for name, value in state.items()
                if name.startswith(self.prefix)
            }
        )
        self.names = self._names()

    def _names(self) -> dict[str, tuple[Shape, list[str], Shape]]:
        """By our name our shape, the published names, and their shape."""
        arguments = dict(self.arguments)
        rules = list(self.family.rules)
        if self.classifier:
            rules += self.family.norm
        else:
            rules += OUTPUT_NORMS
        if self.family.norm:
            arguments['out_indices'] = (3,) if self.classifier else range(4)
        with torch.device('meta'):
            backbone = MODELS.build(dict(type=self.family.backbone, **arguments))
        shapes = {n: tuple(v.shape) for n, v in backbone.state_dict().items()}
        there = '' if self.classifier else BACKBONE
        names = {
            BACKBONE + name: (shapes[name], [there + t for t in theirs], shape)
            for name, (theirs, shape) in layout(backbone, rules).items()
        }
        if self.classifier:
            names |= self._head(backbone)
        return names

    def _head(self, backbone: nn.Module) -> dict:
        weight = _first(
            self.state, f'{self.family.head}weight', f'{HEAD}weight', axes=2
        )
        width = max(
            len(n.weight)
            for key, n in backbone.named_children()
            if key.startswith('norm')
        )
        shapes = dict(weight=(len(weight), width), bias=(len(weight),))
        return {
            HEAD + what: (shape, [self.family.head + what], shape)
            for what, shape in shapes.items()
        }

    def _passed(self) -> dict[str, Tensor]:
        """What a detector or segmentor has besides its backbone."""
        if self.classifier:
            return {}
        return {n: v for n, v in self.state.items() if n.startswith(DENSE_HEADS)}

    def _check(self, expected: Mapping[str, Shape]) -> None:
        left_over = set(self.state) - set(expected) - set(self._passed())
        mismatch = Mismatch(
            missing=[n for n in expected if n not in self.state],
            unexpected=[n for n in self.state if n in left_over],
            shapes=[
                (n, shape, tuple(self.state[n].shape))
                for n, shape in expected.items()
                if n in self.state and not _fits(tuple(self.state[n].shape), shape)
            ],
        )
        if mismatch:
            raise CheckpointMismatchError(
                f'The state dict is not that of {self.family.backbone} with '
                f'{self.arguments}, which it looked like.\n{mismatch}'
            )

    def to_ours(self) -> dict[str, Tensor]:
        """Convert a published state dict.

        Returns:
            Ours, with `backbone.` before the backbone's names.

        Raises:
            CheckpointMismatchError: Names or shapes are not as published.
        """
        self._check(
            {name: shape for _, theirs, shape in self.names.values() for name in theirs}
        )
        converted = {
            name: torch.stack([self.state[n] for n in theirs]).reshape(ours)
            for name, (ours, theirs, _) in self.names.items()
        }
        return converted | self._passed()

    def to_published(self) -> dict[str, Tensor]:
        """Convert a state dict of ours.

        Returns:
            The published one.

        Raises:
            CheckpointMismatchError: Names or shapes are not those of ours
                without adaptors, for which no published name exists.
        """
        self._check({name: ours for name, (ours, _, _) in self.names.items()})
        converted = {}
        for name, (_, theirs, shape) in self.names.items():
            parts = self.state[name].reshape(len(theirs), *shape).unbind()
            converted.update(zip(theirs, (p.clone() for p in parts), strict=True))
        return converted | self._passed()


def _fits(got: Shape, expected: Shape) -> bool:
    """A projection may be published as a 1x1 convolution."""
    return got == expected or (len(expected) == 2 and got == (*expected, 1, 1))
