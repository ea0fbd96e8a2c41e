# SPDX-License-Identifier: Apache-2.0
"""Convert published VMamba and Vim checkpoints to mmadaptor's, and back."""

import argparse

from torch import Tensor

import mmadaptor
from mmadaptor.arguments import filled, new_checkpoint, parser_of, refuse_to_overwrite
from mmadaptor.checkpoints.loading import KEYS, meta_of, peek
from mmadaptor.checkpoints.writing import save
from mmadaptor.engine.command_line import run
from mmadaptor.errors import InputError, UnsafeCheckpointError
from mmadaptor.models.published import FAMILIES, Converter, State, some

HOW_TO_EXTRACT = """\
Or, if you trust the file, extract its tensors in Python. This runs any code in the
file and needs the packages that saved it:
    import torch; model = torch.load({path!r}, 'cpu', weights_only=False)[{key!r}]
    torch.save(dict(model=model), {target!r})"""
EXAMPLE = r"""python tools/convert_checkpoint.py --from vmamba \
      vssm1_tiny_0230s_ckpt_epoch_264.pth checkpoints/vmamba_t_imagenet.pth"""


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
        hint = HOW_TO_EXTRACT.format(path=path, key=key or 'model', target=target)
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
    parser = parser_of(__doc__, EXAMPLE)
    direction = parser.add_mutually_exclusive_group(required=True)
    source = 'SRC is a published classifier, detector or segmentor'
    direction.add_argument('--from', dest='source', choices=FAMILIES, help=source)
    target = 'write DST in the published format; SRC is ours, without adaptors'
    direction.add_argument('--to', dest='target', choices=FAMILIES, help=target)
    key = f'key of the weights in SRC (default: the first of {", ".join(KEYS)})'
    parser.add_argument('--key', type=filled, metavar='KEY', help=key)
    parser.add_argument('src', metavar='SRC', help='checkpoint to read, weights only')
    parser.add_argument(
        'dst', type=new_checkpoint, metavar='DST', help='checkpoint to write'
    )
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
