# SPDX-License-Identifier: Apache-2.0
"""Make a dataset of real pictures.

fashion: Fashion-MNIST, 70,000 photographs of clothes in ten classes, as class folders
(31 MB, by `apt-get download`).
trees: aerial photographs with boxes of trees, as tiles in the COCO format (21 MB, by
`pip download`).

The package that holds the pictures is downloaded and unpacked, but not installed.
"""

import sys

from mmadaptor.arguments import filled, parser_of
from mmadaptor.datasets.fashion import FASHION
from mmadaptor.datasets.trees import TREES
from mmadaptor.errors import InputError

DATASETS = {dataset.name: dataset for dataset in (FASHION, TREES)}
EXAMPLE = 'python tools/make_data.py fashion'


def main() -> None:
    """Read the command line and make the dataset."""
    parser = parser_of(__doc__, EXAMPLE)
    parser.add_argument('name', choices=list(DATASETS), help='dataset to make')
    parser.add_argument(
        'root',
        nargs='?',
        type=filled,
        metavar='ROOT',
        help='folder to write (default: data/NAME)',
    )
    parser.add_argument(
        '--package',
        type=filled,
        metavar='FILE',
        help='package that holds the pictures, if you have it (default: downloaded)',
    )
    args = parser.parse_args()
    dataset = DATASETS[args.name]
    try:
        root = dataset.make(args.root or f'data/{args.name}', args.package)
    except (InputError, OSError) as error:
        sys.exit(f'error: {error}')
    print(
        f'The dataset is in {root}. Source: {dataset.package.requirement}; '
        f'licence: {dataset.package.licence}'
    )


if __name__ == '__main__':
    main()
