# SPDX-License-Identifier: Apache-2.0
"""Convert published VMamba and Vim checkpoints to mmadaptor's, and back.

Usage: python tools/convert_checkpoint.py --from vmamba|vim SRC DST
       python tools/convert_checkpoint.py --to vmamba|vim SRC DST
"""

import argparse
import re
from collections.abc import Iterable, Mapping

import torch
from published_names import KINDS, View, published_names
from torch import Tensor, nn

import mmadaptor
from mmadaptor.checkpoints.loading import meta_of, peek
from mmadaptor.checkpoints.strict import Mismatch
from mmadaptor.checkpoints.writing import save
from mmadaptor.engine.command_line import filled, refuse_to_overwrite, run
from mmadaptor.errors import CheckpointMismatchError, InputError, UnsafeCheckpointError

State = Mapping[str, Tensor]
FAMILIES = ('vmamba', 'vim')
KEYS = ('model', 'state_dict', 'model_ema', 'state_dict_ema')
BACKBONE = 'backbone.'
# The rest of mmdet's and mmseg's models, which have the same names in both.
DENSE_HEADS = re.compile(r'(neck|(rpn|roi|bbox|mask|decode|auxiliary)_head)\.')
HOW_TO_EXTRACT = """\
Or, if you trust the file, extract its tensors in Python. This runs any code in the
file and needs the packages that saved it:
    import torch; model = torch.load({path!r}, 'cpu', weights_only=False)[{key!r}]
    torch.save(dict(model=model), {target!r})"""


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
        prefixed = any(name.startswith(BACKBONE) for name in state)
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


def some(names: Iterable) -> str:
    """List the first names."""
    names = [str(name) for name in names]
    return ', '.join([*names[:5], *['...'] * (len(names) > 5)])


def read_state(path: str, key: str | None = None) -> tuple[State, dict]:
    """Read a state dict, bare or under a key of a file.

    Args:
        path: The file.
        key: The key. Default: the first of `KEYS` that the file has.

    Returns:
        The tensors by name, without the `module.` of a parallel wrapper; and
        `dataset_meta`, if the file has it.

    Raises:
        InputError: The file has no such key, or no tensors by name there.
        UnsafeCheckpointError: The file holds objects other than weights.
    """
    try:
        content = peek(path)
    except UnsafeCheckpointError as error:
        target = f'{path.removesuffix(".pth")}.tensors.pth'
        hint = HOW_TO_EXTRACT.format(path=path, key=key or KEYS[0], target=target)
        raise UnsafeCheckpointError(f'{error}\n{hint}') from error
    key = key or next((k for k in KEYS if k in content), None)
    state = content if key is None else content.get(key)
    where = f' under {key!r}' if key else f', bare or under {", ".join(KEYS)}'
    if not (isinstance(state, dict) and state) or not all(
        isinstance(name, str) and isinstance(value, Tensor)
        for name, value in state.items()
    ):
        raise InputError(
            f'{path}: expected tensors by name{where}, got {some(content)}. Use '
            '--key to name another key.'
        )
    meta = {k: v for k, v in meta_of(content).items() if k == 'dataset_meta' and v}
    if key:
        used = {key, 'meta'} if meta else {key}
        others = [str(k) for k in content if k not in used]
        also = f'; also in the file: {", ".join(others)}' if others else ''
        print(f'{path}: converting {key!r}{also}.')
    if all(name.startswith('module.') for name in state):
        state = {name.removeprefix('module.'): v for name, v in state.items()}
    return state, meta


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    direction = parser.add_mutually_exclusive_group(required=True)
    source = 'SRC is a published classifier, detector or segmentor'
    direction.add_argument('--from', dest='source', choices=FAMILIES, help=source)
    target = 'DST is to be as published; SRC is ours, without adaptors'
    direction.add_argument('--to', dest='target', choices=FAMILIES, help=target)
    key = f'key of the weights in SRC (default: the first of {", ".join(KEYS)})'
    parser.add_argument('--key', type=filled, help=key)
    parser.add_argument('src', help='checkpoint to read, weights only')
    parser.add_argument('dst', type=filled, help='checkpoint to write')
    return parser.parse_args()


def main() -> None:
    """Convert."""
    args = parse_args()
    published = args.source is not None
    refuse_to_overwrite(args.dst, args.src)
    state, meta = read_state(args.src, args.key)
    try:
        converter = Converter(args.source or args.target, state, published)
        converted = converter.convert()
    except InputError as error:
        raise InputError(f'{args.src}: {error}') from error
    backbone = f'mmadaptor.{converter.backbone.__name__}'
    meta |= dict(
        mmadaptor_version=mmadaptor.__version__,
        converted_from=args.src,
        backbone=backbone,
        arguments=converter.arguments,
    )
    key = 'state_dict' if published or not converter.classifier else 'model'
    save({key: converted, 'meta': meta}, args.dst)
    task = 'classifier' if converter.classifier else 'detector or segmentor'
    print(
        f'{args.dst}: {task} with {backbone}({converter.arguments}); {len(state)} '
        f'tensors read, {len(converted)} written.'
    )


if __name__ == '__main__':
    run(main)
