# SPDX-License-Identifier: Apache-2.0
"""Draw the packages and the imports that are allowed: `python docs/gallery/design.py`.

The layers are those of `pyproject.toml`, which `lint-imports` checks.
"""

import re

import matplotlib.pyplot as plt
from matplotlib.patches import FancyBboxPatch
from style import BLUE, GREEN, ORANGE, ROOT, SKY, save

TEXTS = dict(
    engine='runner, preflight,\nhooks, optimizer',
    visualization='memory maps,\nreceptive fields',
    analysis='multiply-adds',
    datasets='shapes, readers',
    integrations='OpenMMLab, timm,\ntorchvision, transformers',
    export='ONNX, AOTInductor',
    models='backbones, layers (SS2D, Adaptor-T, Adaptor-S), tuning',
    checkpoints='weights-only, strict,\natomic, sealed',
    ops='scans, gather,\nconvolutions',
    registry='children of mmengine',
    errors='sentences for users',
)
COLORS = dict(models=GREEN, ops=ORANGE, checkpoints=SKY, engine=BLUE)


def design() -> list:
    """Return the layers, the highest first, with the texts of their packages."""
    text = (ROOT / 'pyproject.toml').read_text()
    listed = re.search(r'layers = \[\n(.*?)\n\]', text, re.DOTALL)[1]
    layers = [line.split(' | ') for line in re.findall(r'"(.*)"', listed)]
    return [[[name, TEXTS[name]] for name in layer] for layer in layers]


def draw_design() -> None:
    """Draw a row for each layer, and what is above and below them."""
    layers = design()
    above = [['configs, tools, studies, your scripts', '']]
    below = [['csrc', 'C++ for AVX-512, AVX2 and others; CUDA; loaded by ops']]
    rows = [above, *layers, below]
    figure, axes = plt.subplots(figsize=(10, 6.4))
    for i, row in enumerate(rows):
        width = 10 / len(row)
        for j, (name, text) in enumerate(row):
            color = COLORS.get(name, '#dddddd')
            axes.add_patch(
                FancyBboxPatch(
                    (j * width + 0.06, -i),
                    width - 0.12,
                    0.74,
                    boxstyle='round,pad=0,rounding_size=0.08',
                    fc=color + '55',
                    ec=color if name in COLORS else '#888',
                )
            )
            x, y = (j + 0.5) * width, 0.37 - i
            size = 10 if len(row) < 4 else 8.5
            axes.text(
                x, y + 0.19 * bool(text), name, ha='center', va='center', weight='bold'
            )
            axes.text(x, y - 0.1, text, ha='center', va='center', fontsize=size)
    axes.annotate(
        '',
        (-0.25, 1.2 - len(rows)),
        (-0.25, 0.7),
        arrowprops=dict(arrowstyle='-|>', color='#444', lw=2),
    )
    axes.text(-0.55, (1 - len(rows)) / 2, 'imports', rotation=90, va='center')
    axes.set(xlim=(-0.8, 10.1), ylim=(0.6 - len(rows), 0.9))
    axes.axis('off')
    save(figure, 'design', layers)


FIGURES = dict(design=design)

if __name__ == '__main__':
    draw_design()
