# SPDX-License-Identifier: Apache-2.0
"""Make the embedded dataset."""

import sys

from mmadaptor.arguments import filled, parser_of
from mmadaptor.datasets import make_shapes

EXAMPLE = 'python tools/make_shapes.py data/few_shapes --train 200 --val 30'


def main() -> None:
    """Read the command line and make the dataset."""
    parser = parser_of(__doc__, EXAMPLE)
    parser.add_argument(
        'root',
        nargs='?',
        type=filled,
        default='data/shapes',
        metavar='ROOT',
        help='folder to write (default: data/shapes)',
    )
    parser.add_argument(
        '--train',
        type=int,
        default=2000,
        metavar='N',
        help='training images (default: 2000)',
    )
    parser.add_argument(
        '--val',
        type=int,
        default=300,
        metavar='N',
        help='validation images (default: 300)',
    )
    parser.add_argument(
        '--seed',
        type=int,
        default=0,
        metavar='N',
        help='seed of the images (default: 0)',
    )
    parser.add_argument(
        '--workers', type=int, metavar='N', help='processes (default: one per core)'
    )
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
