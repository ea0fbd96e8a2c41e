# SPDX-License-Identifier: Apache-2.0
"""Loads samples of a dataset, and looks at what its loaders made of the files."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from mmengine.dataset import BaseDataset

from mmadaptor.datasets.checked_pipeline import CheckedPipeline, labels_of
from mmadaptor.errors import DamagedFileError, InputError, message_of
from mmadaptor.toolbox_code import of_toolbox

from .objects import farthest_box, object_loader, objects_in, size_in
from .report import Report
from .sizes import is_turned, odd_sizes

# So many samples of a dataset are loaded before the start, by its own pipeline.
SAMPLED_MASKS, SAMPLED_IMAGES = 200, 20
SHOWN_FILES = 20  # so many damaged files of a dataset are named
EIGHT_BITS = ('.jpg', '.jpeg', '.JPG', '.JPEG')  # no need to read them twice
SIZE = 'sizes in the annotations are not used'
BANDS = ('.tif', '.tiff', '.TIF', '.TIFF')  # whose fourth channel is no transparency


def classes_of(dataset: Any) -> list[str]:
    """Return the names of the classes of a dataset; none if it has no names."""
    return classes_in(getattr(dataset, 'metainfo', None))


def classes_in(metainfo: Any) -> list[str]:
    """Return the names of the classes in `metainfo`, which may be an array of them."""
    classes = metainfo.get('classes') if isinstance(metainfo, Mapping) else None
    if isinstance(classes, str):
        return [classes]
    return list(classes) if isinstance(classes, Iterable) else []


def renumbered(first: Iterable[Any], others: Iterable[Any]) -> list[str]:
    """Return the names of classes that are in both lists, with another number."""
    numbers = {str(name): number for number, name in enumerate(first)}
    found = enumerate(map(str, others))
    return [name for number, name in found if numbers.get(name, number) != number]


def can_load(dataset: Any) -> bool:
    """Return whether a pipeline gets what `get_data_info` returns, and no more."""
    kind = type(dataset)
    return (
        isinstance(getattr(dataset, 'pipeline', None), CheckedPipeline)
        and getattr(kind, 'prepare_data', None) is BaseDataset.prepare_data
        and of_toolbox(kind.__getitem__)
    )


def load_some(key: str, dataset: Any, unread: set[str], report: Report) -> None:
    """Load samples by the dataset's own transforms and look at them."""
    pipeline = dataset.pipeline
    semantic = pipeline.num_classes is not None
    most = SAMPLED_MASKS if semantic else SAMPLED_IMAGES
    seen, damaged, misfits, narrowed, relabelled = set(), 0, 0, '', ''
    samples = range(0, len(dataset), -(-len(dataset) // most))
    for count, i in enumerate(sorted({*samples, *odd_sizes(dataset)})):
        info = dataset.get_data_info(i)
        if {str(info.get('img_path')), str(info.get('seg_map_path'))} & unread:
            continue
        try:
            result = _load(dataset, info)
            _check_size(key, dataset, info, result, report)
            if semantic and 'gt_seg_map' in result:
                _check_bits(pipeline, result['seg_map_path'])
                seen.update(labels_of(result['gt_seg_map']))
                relabelled = relabelled or pipeline.problem_of_mask(result)
            if not narrowed and count < SAMPLED_IMAGES:  # often all files alike
                narrowed = _what_is_lost(pipeline, result)
        except DamagedFileError as error:
            report.problem(message_of(error), key)
            damaged += 1
        except InputError as error:  # often of all files: the first one is enough
            if misfits == 0:
                report.problem(message_of(error), key)
            misfits += 1
        if damaged == SHOWN_FILES:
            report.problem('Other files were not looked at', key)
            return
    if narrowed:
        report.note(f'{key}: {narrowed}')
    if relabelled:
        text = 'unless code of your own changes its labels'
        report.note(f'{key}: {relabelled}, {text}')
    if semantic:
        _note_labels(key, dataset, seen, report)


def _load(dataset: Any, info: dict) -> dict:
    """Load a sample.

    Raises:
        DamagedFileError: A file cannot be read.
        InputError: The labels of a mask do not fit.
    """
    pipeline, mask = dataset.pipeline, info.get('seg_map_path')
    try:
        return pipeline.load(info) or {}
    except InputError as error:
        if mask and not isinstance(error, DamagedFileError):
            _check_bits(pipeline, mask)  # labels that are cut are not the user's
        raise


def _check_size(
    key: str, dataset: Any, info: dict, result: dict, report: Report
) -> None:
    """Check the size that the annotations of an image say.

    mmdet uses it for `filter_cfg` and for masks, so that a wrong one alone does no
    harm to boxes. Boxes are wrong if they are those of the image before a rotation.

    Raises:
        InputError: It does not fit.
    """
    size, got = size_in(info), result.get('ori_shape')
    if not got or size is None or tuple(got[:2]) == size:
        return
    if not all(of_toolbox(type(step)) for step in dataset.pipeline.transforms):
        return  # a user-defined one may make both of one size
    text = (
        f'{info["img_path"]} has {got[0]} x {got[1]} pixels as it is loaded, but '
        f'{info.get("xml_path", dataset.ann_file)} says {size[0]} x {size[1]} (height '
        'x width)'
    )
    rotation = 'a rotation in its EXIF data may be the reason'
    if tuple(got[1::-1]) == size and is_turned(info['img_path']):
        raise InputError(f'{text}; {rotation}')
    if box := farthest_box(info, *got[:2]):
        raise InputError(f'{text}, and the box {box} is outside of it; {rotation}')
    loader = object_loader(dataset)  # pycocotools makes masks of the file's size
    reads_masks = loader is None or loader.with_mask
    if reads_masks and any(thing.get('mask') for thing in objects_in(info)):
        raise InputError(f'{text}, and its objects have masks; {rotation}')
    if not any(note.startswith(f'{key}: {SIZE}') for note in report.notes):
        report.note(f'{key}: {SIZE}: {text}')


def _stored(
    pipeline: CheckedPipeline, package: str, name: str, path: str
) -> np.ndarray | None:
    """Read an image as a loader of a toolbox does, with all bits and channels.

    Returns None if the pipeline has no such loader.
    """
    for loader in pipeline.transforms:
        kind = type(loader)
        if kind.__name__ == name and of_toolbox(kind, package):
            from mmcv import imread  # the loader needs it

            return imread(
                path,
                'unchanged',
                backend=loader.imdecode_backend,
                file_client_args=loader.file_client_args,
                backend_args=loader.backend_args,
            )
    return None


def _check_bits(pipeline: CheckedPipeline, path: str) -> None:
    """Check that the labels of a mask fit the 8 bits that mmseg keeps of them.

    Raises:
        InputError: They do not.
    """
    stored = _stored(pipeline, 'mmseg', 'LoadAnnotations', path)
    if stored is None:
        return
    # -1 becomes 255, which is ignored as it is.
    lost = np.unique(stored[(stored != stored.astype(np.uint8)) & (stored != -1)])
    if lost.size:
        raise InputError(
            f'{path} has labels {", ".join(map(str, lost[:8]))}, and '
            f'LoadAnnotations keeps 8 bits: {lost[0]} becomes '
            f'{lost[:1].astype(np.uint8)[0]}'
        )


def _what_is_lost(pipeline: CheckedPipeline, result: dict) -> str:
    """Return what the loader leaves out of an image, as a sentence."""
    path, image = result.get('img_path'), result.get('img')
    if image is None or not isinstance(path, str) or path.endswith(EIGHT_BITS):
        return ''
    try:
        stored = _stored(pipeline, 'mmcv', 'LoadImageFromFile', path)
    except Exception:  # of a backend that knows no other color_type
        return ''
    if stored is None:
        return ''
    if stored.max() > 255 >= image.max():
        what = f'values up to {stored.max()} ({stored.dtype})', f'up to {image.max()}'
    elif path.endswith(BANDS) and stored.shape[2:] > image.shape[2:]:
        what = f'{stored.shape[2]} channels', f'{image.shape[2]} of them'
    else:
        return ''
    return (
        f'{path} has {what[0]}, and LoadImageFromFile reads {what[1]}; '
        "color_type='unchanged' would read all"
    )


def _note_labels(key: str, dataset: Any, seen: set[int], report: Report) -> None:
    """Note classes that occur in no mask, and what may be the reason."""
    ignored = sorted(seen & set(dataset.pipeline.ignored))
    also = ''
    if dataset.reduce_zero_label:
        also = '. Label 0 is ignored (reduce_zero_label), and 1 is the first class'
    elif ignored:
        also = f'. Label {ignored[0]}, which occurs, is ignored: it is no class'
    where = f'pixel in {SAMPLED_MASKS} masks or all of them{also}'
    note_absent(key, dataset, seen, where, report)


def note_absent(
    key: str, dataset: Any, seen: set[int], where: str, report: Report
) -> None:
    """Note classes without a label in what was seen of a dataset."""
    classes = classes_of(dataset)
    absent = [name for i, name in enumerate(classes) if i not in seen]
    if seen and absent:
        count = f'{len(absent)} of {len(classes)} classes, such as {absent[0]}'
        report.note(f'{key}: {count}, have no {where}')
