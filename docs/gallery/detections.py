# SPDX-License-Identifier: Apache-2.0
"""Draw detections beside the ground truth: `python docs/gallery/detections.py`.

It needs what `make demo` leaves in `work_dirs/demo_det`.
"""

import sys

import numpy as np
from PIL import Image
from style import ROOT

FOLDER = ROOT / 'work_dirs' / 'demo_det'
NAMES = ('000002.png', '000007.png', '000011.png', '000024.png')


def main() -> None:
    """Write four validation images of the demo, one below the other in two columns."""
    found = {path.name: path for path in FOLDER.rglob('images/*.png')}
    if missing := [name for name in NAMES if name not in found]:
        sys.exit(f'{FOLDER} has no images/{missing[0]}: run make demo first.')
    images = [np.asarray(Image.open(found[name]).convert('RGB')) for name in NAMES]
    rows = [np.hstack(images[:2]), np.hstack(images[2:])]
    path = ROOT / 'docs' / 'detections.png'
    Image.fromarray(np.vstack(rows)).save(path, optimize=True)
    sys.stdout.write(f'{path.relative_to(ROOT)}\n')


if __name__ == '__main__':
    main()
