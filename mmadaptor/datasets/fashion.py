# SPDX-License-Identifier: Apache-2.0
"""Fashion-MNIST: 70,000 photographs of clothes, 28 x 28 pixels, in ten classes.

The class folders of mmpretrain:

    train/CLASS/00000.png    5,500 images per class: the training set without `val`
    val/CLASS/00000.png      500 images per class: the last ones of the training set
    test/CLASS/00000.png     1,000 images per class: the test set
    fashion.json             the stamp (see `stamped_folder`)

A file is named by the index of the image in the original set.
"""

import gzip
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from .packages import Package
from .real import RealDataset

# In the order of the original labels.
LABELS = (
    't_shirt',
    'trouser',
    'pullover',
    'dress',
    'coat',
    'sandal',
    'shirt',
    'sneaker',
    'bag',
    'ankle_boot',
)
VAL_PER_CLASS = 500
FOLDER = 'usr/share/datasets/fashion-mnist'
FILES = {
    'train': ('train-images-idx3-ubyte.gz', 'train-labels-idx1-ubyte.gz'),
    'test': ('t10k-images-idx3-ubyte.gz', 't10k-labels-idx1-ubyte.gz'),
}

SHA256 = {
    'train-images-idx3-ubyte.gz': 'b0564c3eedabfbf835052cff8503ea42'
    '2014ce006caf5b757f851416ee8300c7',
    'train-labels-idx1-ubyte.gz': '0ae29f65d86684f32d1b9c85147786c5'
    '47b9c6aebcaf235f0400a0cce308b056',
    't10k-images-idx3-ubyte.gz': 'cc1d090a38ace84dfa1aa66e3ada7c33'
    '6ef481a96936906477e6dd344da56eaa',
    't10k-labels-idx1-ubyte.gz': '8d3605d196f4be44669e46906da9733c'
    '8131fef761fdbfec72c424d5222f1a05',
}


def read_idx(content: bytes) -> np.ndarray:
    """Decode a compressed IDX file of bytes.

    Args:
        content: gzip of two zeros, the type 8, the number of dimensions, the sizes as
            big-endian 32-bit integers, and the numbers.

    Returns:
        The uint8 array.
    """
    raw = gzip.decompress(content)
    sizes = np.frombuffer(raw, '>u4', raw[3], offset=4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * len(sizes)).reshape(sizes)


def write(
    contents: Mapping[str, bytes], root: Path, val_per_class: int = VAL_PER_CLASS
) -> None:
    """Write the class folders.

    Args:
        contents: The files of the package.
        root: Folder to write to.
        val_per_class: Number of validation images of each class.
    """
    for split, names in FILES.items():
        images, labels = (read_idx(contents[f'{FOLDER}/{name}']) for name in names)
        for label, name in enumerate(LABELS):
            indices = np.flatnonzero(labels == label)
            parts = {split: indices}
            if split == 'train':
                parts = dict(
                    train=indices[:-val_per_class], val=indices[-val_per_class:]
                )
            for part, chosen in parts.items():
                folder = root / part / name
                folder.mkdir(parents=True)
                for index in chosen:
                    encoded = cv2.imencode('.png', images[index])[1]
                    (folder / f'{index:05}.png').write_bytes(encoded.tobytes())


FASHION = RealDataset(
    'fashion',
    1,
    Package(
        'apt',
        'dataset-fashion-mnist',
        {f'{FOLDER}/{name}': digest for name, digest in SHA256.items()},
        'MIT, copyright 2017 Zalando SE',
    ),
    write,
)
