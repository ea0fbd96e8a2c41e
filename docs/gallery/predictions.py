# SPDX-License-Identifier: Apache-2.0
"""Draw predictions below the ground truth: `python docs/gallery/predictions.py`.

The detector and the segmentor are those in `trained/`. Nothing is trained, and no
dataset is needed.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count, islice, product

import matplotlib.patheffects as effects
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.transforms import Bbox
from style import BLUE, GREEN, ORANGE, PURPLE, RED, ROOT, SKY, save

from mmadaptor.datasets.draw import draw, draw_background
from mmadaptor.datasets.labels import CLASSES
from mmadaptor.datasets.scene import SIZE, visible_masks
from mmadaptor.datasets.shapes import make_scene

DETECTOR = 'mask_rcnn_mamba_adaptor_b0_shapes'
SEGMENTOR = 'upernet_mamba_adaptor_b0_shapes'
# The first validation images with so many objects; none is chosen by its result.
IMAGES, OBJECTS = 3, 6
LOWEST_SCORE = 0.5
COLORS = dict(zip(CLASSES, (PURPLE, BLUE, ORANGE, SKY, GREEN, RED), strict=True))


@dataclass
class Shape:
    """A labeled or a predicted object.

    Args:
        name: Its class.
        mask: Its pixels, boolean `(SIZE, SIZE)`.
        box: Its left, top, right and bottom edges, in pixels.
        label: Its text in the figure.
    """

    name: str
    mask: np.ndarray
    box: Bbox
    label: str


@dataclass
class Sample:
    """A validation image.

    Args:
        number: Its index.
        image: RGB `(SIZE, SIZE, 3)`.
        shapes: Its labeled objects.
    """

    number: int
    image: np.ndarray
    shapes: list[Shape]


def read(number: int) -> Sample:
    """Return a validation image of the embedded dataset."""
    scene = make_scene(0, 'val', number)
    shapes = []
    for layer, mask in zip(scene.layers, visible_masks(scene), strict=True):
        if layer.is_target:
            rows, columns = np.nonzero(mask)
            box = Bbox.from_extents(
                columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
            )
            name = scene.label(layer)
            shapes.append(Shape(name, mask, box, name))
    return Sample(number, draw(scene, draw_background(scene.background)), shapes)


def files_of(name: str) -> tuple[str, str]:
    """Return the config and the weights of a trained model."""
    return str(ROOT / f'configs/{name}.py'), str(ROOT / f'trained/{name}.safetensors')


def detect(images: list[np.ndarray]) -> list[list[Shape]]:
    """Return the objects that the detector finds in RGB images."""
    from mmdet.apis import inference_detector, init_detector

    import mmadaptor.engine  # noqa: F401  registers the models

    detector = init_detector(*files_of(DETECTOR), device='cpu')
    found = []
    for image in images:
        result = inference_detector(detector, image[..., ::-1]).pred_instances.numpy()
        found.append(
            [
                Shape(
                    CLASSES[k], mask, Bbox.from_extents(*box), f'{CLASSES[k]} {s:.2f}'
                )
                for k, mask, box, s in zip(
                    result.labels,
                    result.masks,
                    result.bboxes,
                    result.scores,
                    strict=True,
                )
                if s >= LOWEST_SCORE
            ]
        )
    return found


def segment(images: list[np.ndarray]) -> list[dict[str, np.ndarray]]:
    """Return the mask of each class that the segmentor predicts for RGB images."""
    from mmseg.apis import inference_model, init_model

    import mmadaptor.engine  # noqa: F401  registers the models

    segmentor = init_model(*files_of(SEGMENTOR), device='cpu')
    found = []
    for image in images:
        result = inference_model(segmentor, image[..., ::-1])
        classes = result.pred_sem_seg.data[0].numpy()  # (SIZE, SIZE), 0 is background
        found.append({name: classes == k for k, name in enumerate(CLASSES, 1)})
    return found


def grid(samples: list[Sample]) -> tuple[Figure, np.ndarray]:
    """Return a figure with an image a column, and rows of truth and prediction."""
    figure, panels = plt.subplots(2, len(samples), figsize=(7.5, 5.5))
    for axes in panels.flat:
        axes.set(xticks=[], yticks=[], xlim=(0, SIZE), ylim=(SIZE, 0), aspect='equal')
        axes.spines[:].set_visible(False)
    for axes, sample in zip(panels[0], samples, strict=True):
        axes.set_title(f'validation image {sample.number}', fontsize=11)
    for axes, label in zip(panels[:, 0], ('Ground truth', 'Prediction'), strict=True):
        axes.set_ylabel(label, fontsize=12, weight='bold')
    return figure, panels


def show(
    axes: Axes, image: np.ndarray, masks: Iterable[tuple[str, np.ndarray]]
) -> None:
    """Draw masks in the colors of their classes, on an image with muted colors.

    Args:
        axes: Where to draw.
        image: RGB `(SIZE, SIZE, 3)`.
        masks: Names of classes and masks, boolean `(SIZE, SIZE)`.
    """
    inside = np.zeros((SIZE, SIZE, 4))
    at = np.arange(-1, SIZE + 1) + 0.5
    for name, mask in masks:
        inside[mask] = to_rgba(COLORS[name], 0.7)
        padded = np.pad(mask, 1)  # so that lines close at the edges of the image
        axes.contour(at, at, padded, [0.5], colors=COLORS[name], linewidths=1.2)
    muted = 0.4 * image + 0.6 * image.mean(2, keepdims=True)
    for layer in (muted / 255, inside):
        axes.imshow(layer, interpolation='none', extent=(0, SIZE, SIZE, 0))


def draw_box(axes: Axes, shape: Shape) -> None:
    """Draw the box of an object."""
    box, color = shape.box, COLORS[shape.name]
    axes.add_patch(
        Rectangle(
            box.min,
            box.width,
            box.height,
            fill=False,
            ec=color,
            lw=1.5,
            path_effects=[effects.withStroke(linewidth=3, foreground='white')],
        )
    )


def shared(one: Bbox, others: list[Bbox]) -> float:
    """Return the area that a box shares with others."""
    parts = [Bbox.intersection(one, other) for other in others]
    return sum(part.width * part.height for part in parts if part)


def put_labels(axes: Axes, shapes: list[Shape]) -> None:
    """Write the label of each object next to its box, where it hides least.

    Args:
        axes: Where to write. The layout of its figure must be final.
        shapes: The objects.
    """
    placed: list[Bbox] = []
    boxes = [shape.box for shape in shapes]
    for shape in sorted(shapes, key=lambda shape: shape.box.y0):
        label = axes.text(0, 0, shape.label, size=9.5, ha='center', va='center')
        extent = label.get_window_extent().transformed(axes.transData.inverted())
        half = abs(extent.size) / 2 + 2
        around = np.array([shape.box.min - half, shape.box.max + half])
        inner = np.array([shape.box.min + half, shape.box.max - half])
        middle = shape.box.min / 2 + shape.box.max / 2
        centers = [
            *product((*inner[:, 0], middle[0]), around[:, 1]),
            *product(around[:, 0], (*inner[:, 1], middle[1])),
        ]
        spots = [
            Bbox([center - half, center + half])
            for center in np.clip(centers, half, SIZE - half)
        ]
        best = min(spots, key=lambda s: 20 * shared(s, placed) + shared(s, boxes))
        placed.append(best)
        label.set_position(best.min + half)
        label.set_bbox(dict(pad=1.5, fc='white', ec=COLORS[shape.name], lw=1.2))


def draw_detections(samples: list[Sample]) -> None:
    """Draw labeled and predicted boxes and masks."""
    figure, panels = grid(samples)
    figure.supxlabel(
        'A disc is on if the lamp in its rows, at a side of the image, is lit '
        f'(yellow). Scores are at least {LOWEST_SCORE}.',
        fontsize=10,
    )
    figure.draw_without_rendering()
    figure.set_layout_engine('none')
    rows = [sample.shapes for sample in samples], detect([s.image for s in samples])
    for axes_row, row in zip(panels, rows, strict=True):
        for axes, sample, shapes in zip(axes_row, samples, row, strict=True):
            show(axes, sample.image, [(s.name, s.mask) for s in shapes])
            for shape in shapes:
                draw_box(axes, shape)
            put_labels(axes, shapes)
    save(figure, 'detections', detections())


def draw_segmentation(samples: list[Sample]) -> None:
    """Draw labeled and predicted classes of pixels."""
    figure, panels = grid(samples)
    predicted = segment([sample.image for sample in samples])
    rows = (
        [[(shape.name, shape.mask) for shape in sample.shapes] for sample in samples],
        [[(n, mask) for n, mask in found.items() if mask.any()] for found in predicted],
    )
    for axes_row, row in zip(panels, rows, strict=True):
        for axes, sample, masks in zip(axes_row, samples, row, strict=True):
            show(axes, sample.image, masks)
    figure.legend(
        handles=[Patch(color=color, label=name) for name, color in COLORS.items()],
        loc='outside lower center',
        ncols=len(COLORS),
        frameon=False,
        handlelength=1,
        columnspacing=1.2,
    )
    save(figure, 'segmentation', segmentation())


def data_of(name: str) -> dict:
    """Return the hash of a model's weights, and which images are drawn."""
    weights = (ROOT / f'trained/{name}.safetensors').read_bytes()
    digest = hashlib.sha256(weights).hexdigest()
    return dict(weights=digest, images=IMAGES, objects=OBJECTS)


def detections() -> dict:
    """Return what the figure of the detector shows."""
    return dict(data_of(DETECTOR), lowest_score=LOWEST_SCORE)


def segmentation() -> dict:
    """Return what the figure of the segmentor shows."""
    return data_of(SEGMENTOR)


FIGURES = dict(detections=detections, segmentation=segmentation)


def main() -> None:
    """Draw both figures of the same images."""
    full = (s for s in map(read, count()) if len(s.shapes) >= OBJECTS)
    samples = list(islice(full, IMAGES))
    draw_detections(samples)
    draw_segmentation(samples)


if __name__ == '__main__':
    main()
