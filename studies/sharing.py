# SPDX-License-Identifier: Apache-2.0
"""How many parameters adaptors have, in each block and shared by blocks of equal width.

`python -m studies.sharing` prints a table.
"""

import argparse

import torch

from benchmarks.measuring import markdown
from mmadaptor.models import Vim, VMamba
from mmadaptor.models.backbones.base import AdaptableBackbone

BOTH = dict(temporal=dict(), spatial=dict())
BACKBONES = {
    'VMamba-T': (VMamba, 'tiny'),
    'VMamba-S': (VMamba, 'small'),
    'VMamba-B': (VMamba, 'base'),
    'Vim-Ti': (Vim, 'tiny'),
    'Vim-S': (Vim, 'small'),
    'Vim of `tuning_vim_*`': (Vim, dict(embed_dims=32, depth=18)),
}


def count(
    kind: type[AdaptableBackbone], arch: str | dict, share: bool
) -> tuple[int, int]:
    """Count the adaptors' parameters of a backbone with both adaptors in each block.

    Returns:
        The number of their parameters, and of those of the whole backbone.
    """
    with torch.device('meta'):
        backbone = kind(arch, adaptors=dict(BOTH, share=share), trainable=['adaptors'])
    parameters = [*backbone.parameters()]
    return (
        sum(p.numel() for p in parameters if p.requires_grad),
        sum(p.numel() for p in parameters),
    )


def saved(kind: type[AdaptableBackbone], arch: str | dict) -> float:
    """Return the share of the adaptors' parameters that sharing saves, in percent."""
    own, shared = (count(kind, arch, share)[0] for share in (False, True))
    return 100 * (1 - shared / own)


def table() -> str:
    """Format the counts of all backbones as a Markdown table."""
    rows = []
    for name, (kind, arch) in BACKBONES.items():
        counts = [count(kind, arch, share) for share in (False, True)]
        cells = [f'{own:,} ({100 * own / total:.2f} %)' for own, total in counts]
        rows.append([name, *cells, f'{saved(kind, arch):.0f} %'])
    head = ['backbone', 'adaptors in each block', 'shared', 'saved by sharing']
    return markdown(head, rows)


def main() -> None:
    """Print the table."""
    argparse.ArgumentParser(
        prog='python -m studies.sharing', description=__doc__
    ).parse_args()
    print(table())


if __name__ == '__main__':
    main()
