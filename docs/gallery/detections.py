# SPDX-License-Identifier: Apache-2.0
"""Draw detections beside the ground truth: `python docs/gallery/detections.py`.

The detector is the one in `trained/`.
"""

import subprocess
import sys

import numpy as np
from PIL import Image
from style import ROOT

NAME = 'mask_rcnn_mamba_adaptor_b0_shapes'
FOLDER = ROOT / 'build' / 'detections'
NUMBERS = (2, 7, 11, 24)


def main() -> None:
    """Write four validation images, one below the other in two columns."""
    subprocess.run(
        [
            sys.executable,
            'tools/test.py',
            f'configs/{NAME}.py',
            f'trained/{NAME}.safetensors',
            '--work-dir',
            str(FOLDER),
            '--show-dir',
            str(FOLDER / 'images'),
        ],
        check=True,
        cwd=ROOT,
    )
    found = {path.name: path for path in FOLDER.rglob('images/*.png')}
    paths = [found[f'{number:06}.png'] for number in NUMBERS]
    images = [np.asarray(Image.open(path).convert('RGB')) for path in paths]
    rows = [np.hstack(images[:2]), np.hstack(images[2:])]
    path = ROOT / 'docs' / 'detections.png'
    Image.fromarray(np.vstack(rows)).save(path, optimize=True)
    sys.stdout.write(f'{path.relative_to(ROOT)}\n')


if __name__ == '__main__':
    main()
