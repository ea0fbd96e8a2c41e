# SPDX-License-Identifier: Apache-2.0
"""The `adaptors` argument of a backbone."""

from collections.abc import Collection, Sequence

KEYS = ('temporal', 'spatial', 'blocks', 'share')


def adaptors_of_blocks(
    adaptors: dict | None, depths: Sequence[int]
) -> list[list[dict]]:
    """Distribute the `adaptors` argument of a backbone over its blocks.

    Args:
        adaptors: None, or a dict of `temporal` (arguments of
            :class:`~mmadaptor.models.layers.AdaptorT`), `spatial` (arguments of
            :class:`~mmadaptor.models.layers.AdaptorS`), `blocks` (for each stage the
            indices of the blocks with adaptors; default: all), and `share` (see
            :func:`~mmadaptor.models.tuning.share_adaptors`). A missing or None
            adaptor is not used.
        depths: Number of blocks of each stage.

    Returns:
        For each stage and block a dict of `temporal` and `spatial`.

    Raises:
        ValueError: A key is unknown, there is no adaptor or no block, or a block does
            not exist.
    """
    if not isinstance(adaptors, dict | None):
        raise ValueError(f'`adaptors` must be a dict or None, got {adaptors!r}')
    asked = adaptors is not None
    adaptors = adaptors or {}
    unknown = set(adaptors) - set(KEYS)
    if unknown:
        raise ValueError(
            f'`adaptors` may only have the keys {list(KEYS)}, got {sorted(unknown)}'
        )
    temporal, spatial = adaptors.get('temporal'), adaptors.get('spatial')
    for name, value in (('temporal', temporal), ('spatial', spatial)):
        if not isinstance(value, dict | None):
            raise ValueError(
                f'`{name}` of `adaptors` must be a dict or None, got {value!r}'
            )
    if asked and temporal is None and spatial is None:
        raise ValueError(
            '`adaptors` must have a dict as `temporal`, `spatial` or both '
            f'(an empty dict for the defaults), got {adaptors}'
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
            f'of block indices, one per stage, got {blocks}'
        )
    for stage, (chosen, depth) in enumerate(zip(blocks, depths, strict=True)):
        if not set(chosen) <= set(range(depth)):
            raise ValueError(
                f'`blocks` of `adaptors` must have block indices from 0 to '
                f'{depth - 1} for stage {stage}, got {chosen}'
            )
    if asked and not any(blocks):
        raise ValueError(
            f'`blocks` of `adaptors` must name at least one block, got {blocks}'
        )
    both, none = dict(temporal=temporal, spatial=spatial), {}
    return [
        [both if i in chosen else none for i in range(depth)]
        for chosen, depth in zip(blocks, depths, strict=True)
    ]
