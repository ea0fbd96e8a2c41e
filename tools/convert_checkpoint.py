# SPDX-License-Identifier: Apache-2.0
"""Converts published VMamba and Vim checkpoints to ours, and back.

Usage: python tools/convert_checkpoint.py --from vmamba|vim SRC DST
       python tools/convert_checkpoint.py --to vmamba|vim SRC DST
"""

import argparse

import torch

import mmadaptor
from mmadaptor.checkpoints.loading import peek
from mmadaptor.checkpoints.published import FAMILIES, Converter
from mmadaptor.checkpoints.writing import save
from mmadaptor.engine.command_line import refuse_to_overwrite, run
from mmadaptor.errors import InputError
from mmadaptor.registry import MODELS


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    way = parser.add_mutually_exclusive_group(required=True)
    way.add_argument(
        '--from',
        dest='source_family',
        choices=FAMILIES,
        help='SRC is as published, a classifier, detector or segmentor',
    )
    way.add_argument(
        '--to',
        dest='target_family',
        choices=FAMILIES,
        help='DST will be as published; SRC is ours, without adaptors',
    )
    parser.add_argument('src', help='checkpoint, which is read weights-only')
    parser.add_argument('dst', help='checkpoint to write')
    return parser.parse_args()


def read_state(path: str) -> tuple[dict[str, torch.Tensor], dict]:
    """Reads a state dict, bare or as `model` or `state_dict` of a file.

    Args:
        path: The file.

    Returns:
        Its tensors by name, and what the file says of its classes:
        `dataset_meta`, or nothing.

    Raises:
        InputError: It holds none.
    """
    content = peek(path)
    key = next((k for k in ('model', 'state_dict') if k in content), None)
    state = content if key is None else content[key]
    if (
        not isinstance(state, dict)
        or not state
        or not all(
            isinstance(name, str) and isinstance(value, torch.Tensor)
            for name, value in state.items()
        )
    ):
        raise InputError(
            f'{path}: expected tensors by name, as they are or under `model` '
            f'or `state_dict`, got {", ".join(map(str, list(content)[:5]))}'
        )
    meta = content.get('meta') if key else None
    classes = meta.get('dataset_meta') if isinstance(meta, dict) else None
    kept = {key} if classes is None else {key, 'meta'}
    others = [str(k) for k in content if k not in kept] if key else []
    if others:
        print(f'{path}: taking `{key}`, leaving out {", ".join(others)}.')
    return state, {} if classes is None else dict(dataset_meta=classes)


def named(arguments: dict, family: str) -> dict:
    """The backbone's arguments, its `arch` by name if it has one.

    Args:
        arguments: As inferred.
        family: The family.

    Returns:
        The arguments.
    """
    settings = MODELS.get(FAMILIES[family].backbone).arch_settings
    names = [n for n, arch in settings.items() if arch == arguments['arch']]
    return {**arguments, 'arch': names[0] if names else arguments['arch']}


def main() -> None:
    """Converts."""
    args = parse_args()
    family = args.source_family or args.target_family
    published = args.source_family is not None
    refuse_to_overwrite(args.dst, args.src)
    state, classes = read_state(args.src)
    try:
        converter = Converter(family, state, published)
        converted = converter.to_ours() if published else converter.to_published()
    except InputError as error:
        raise InputError(f'{args.src}: {error}') from error
    arguments = named(converter.arguments, family)
    meta = dict(
        mmadaptor_version=mmadaptor.__version__,
        converted_from=args.src,
        backbone=FAMILIES[family].backbone,
        arguments=arguments,
        **classes,
    )
    key = 'state_dict' if published or not converter.classifier else 'model'
    save({key: converted, 'meta': meta}, args.dst)
    kind = 'classifier' if converter.classifier else 'detector or segmentor'
    print(
        f'{args.dst}: a {kind}, {FAMILIES[family].backbone} with {arguments};'
        f' {len(state)} tensors read, {len(converted)} written.'
    )


if __name__ == '__main__':
    run(main)
