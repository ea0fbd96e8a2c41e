# SPDX-License-Identifier: Apache-2.0
"""Loads samples of a dataset, and looks at what its loaders made of the files."""

from typing import Any

from mmadaptor.datasets.checked_pipeline import labels_of
from mmadaptor.errors import DamagedFileError, InputError, message_of

from .report import Report

# So many samples of a dataset are loaded before the start, by its own pipeline.
SAMPLED_MASKS, SAMPLED_IMAGES = 200, 20
SHOWN_FILES = 20  # so many damaged files of a dataset are named


def classes_of(dataset: Any) -> list[str]:
    """Return the names of the classes of a dataset; none if it has no names."""
    return list((getattr(dataset, 'metainfo', None) or {}).get('classes') or ())


def load_some(key: str, dataset: Any, unread: set[str], report: Report) -> None:
    """Load samples by the dataset's own transforms and look at them."""
    semantic = dataset.pipeline.num_classes is not None
    most = SAMPLED_MASKS if semantic else SAMPLED_IMAGES
    seen, damaged, misfits = set(), 0, 0
    for i in range(0, len(dataset), -(-len(dataset) // most)):
        info = dataset.get_data_info(i)
        if {str(info.get('img_path')), str(info.get('seg_map_path'))} & unread:
            continue
        try:
            result = dataset.pipeline.load(info) or {}
            _check_size(key, dataset, info, result, report)
            if semantic and 'gt_seg_map' in result:
                seen.update(labels_of(result['gt_seg_map']))
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
    if semantic:
        _note_labels(key, dataset, seen, report)


def _check_size(
    key: str, dataset: Any, info: dict, result: dict, report: Report
) -> None:
    """Check the size that the annotations of an image say.

    XML files often have another one. mmdet uses it for nothing but `filter_cfg`, so
    that only a rotated one is wrong: the boxes are those of the image before.

    Raises:
        InputError: It does not fit.
    """
    size, got = (info.get('height'), info.get('width')), result.get('ori_shape')
    if not got or None in size or tuple(got[:2]) == size:
        return
    text = (
        f'{info["img_path"]} has {got[0]} x {got[1]} pixels as it is loaded, but '
        f'{info.get("xml_path", dataset.ann_file)} says {size[0]} x {size[1]} (height '
        'x width)'
    )
    if 'xml_path' not in info or tuple(got[1::-1]) == size:
        raise InputError(f'{text}; a rotation in its EXIF data may be the reason')
    if not any(' as it is loaded, but ' in note for note in report.notes):
        report.note(f'{key}: {text}')


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
