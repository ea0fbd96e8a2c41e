# SPDX-License-Identifier: Apache-2.0
"""Make the embedded dataset: `python tools/make_shapes.py [data/shapes]`."""

import argparse
import sys

from mmadaptor.arguments import filled
from mmadaptor.datasets import make_shapes


def main() -> None:
    """Read the command line and make the dataset."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('root', nargs='?', type=filled, default='data/shapes')
    parser.add_argument('--train', type=int, default=2000, help='training images')
    parser.add_argument('--val', type=int, default=300, help='validation images')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--workers', type=int, help='processes (default: one per core)')
    args = parser.parse_args()
    try:
        root = make_shapes(**vars(args))
    except ValueError as error:
        parser.error(str(error))
    except OSError as error:
        sys.exit(f'error: {error}')
    print(f'The dataset is in {root}')


if __name__ == '__main__':
    main()
