# SPDX-License-Identifier: Apache-2.0
"""Which blocks of a backbone carry which adaptors."""

from collections.abc import Collection, Sequence

KEYS = ('temporal', 'spatial', 'blocks', 'share')


def adaptors_of_blocks(
    adaptors: dict | None, depths: Sequence[int]
) -> list[list[dict]]:
    """Spread a backbone's `adaptors` argument over its blocks.

    Args:
        adaptors: None, or a dict of `temporal` (arguments of
            :class:`~mmadaptor.models.layers.AdaptorT`) and `spatial` (those of
            :class:`~mmadaptor.models.layers.AdaptorS`), None or absent where
            there is to be none, of `blocks`: for each stage the indices of the
            blocks that carry them (default: all), and of `share`, which
            :func:`~mmadaptor.models.tuning.share_adaptors` takes.
        depths: The number of blocks of each stage.

    Returns:
        For each stage and block a dict of `temporal` and `spatial`.

    Raises:
        ValueError: For an unknown key, a dict that asks for no adaptor or no
            block, or a block that does not exist.
    """
    if not isinstance(adaptors, dict | None):
        raise ValueError(f'`adaptors` must be a dict or None, got {adaptors!r}')
    asked = adaptors is not None
    adaptors = adaptors or {}
    unknown = set(adaptors) - set(KEYS)
    if unknown:
        raise ValueError(
            f'`adaptors` must have keys of {list(KEYS)}, got {sorted(unknown)}'
        )
    temporal, spatial = adaptors.get('temporal'), adaptors.get('spatial')
    for name, value in (('temporal', temporal), ('spatial', spatial)):
        if not isinstance(value, dict | None):
            raise ValueError(
                f'`{name}` of `adaptors` must be a dict or None, got {value!r}'
            )
    if asked and temporal is None and spatial is None:
        raise ValueError(
            '`adaptors` asks for none: give `temporal`, `spatial` '
            'or both a dict (an empty one for the defaults)'
        )
    blocks = adaptors.get('blocks')
    if blocks is None:
        blocks = [range(depth) for depth in depths]
    if (
        not isinstance(blocks, Sequence)
        or len(blocks) != len(depths)
        or any(
            isinstance(chosen, str) or not isinstance(chosen, Collection)
            for chosen in blocks
        )
    ):
        raise ValueError(
            f'`blocks` of `adaptors` must be {len(depths)} lists '
            f'of block indices, one a stage, got {blocks}'
        )
    for stage, (chosen, depth) in enumerate(zip(blocks, depths, strict=True)):
        if not set(chosen) <= set(range(depth)):
            raise ValueError(
                f'stage {stage} has the blocks 0 to {depth - 1}, '
                f'and `blocks` of `adaptors` asks for {chosen}'
            )
    if asked and not any(blocks):
        raise ValueError('`blocks` of `adaptors` asks for no block at all')
    both, none = dict(temporal=temporal, spatial=spatial), {}
    return [
        [both if i in chosen else none for i in range(depth)]
        for chosen, depth in zip(blocks, depths, strict=True)
    ]
