# SPDX-License-Identifier: Apache-2.0
"""Checks the file that mmdet's `CocoMetric` compares with, and completes it.

pycocotools reads of an annotation more than mmdet's dataset does, after the epoch.
"""

from collections.abc import Callable, Sequence
from typing import Any

from .coco import check_categories, check_references
from .coco_annotations import check_annotations, some
from .coco_entries import BOX, NUMBER
from .objects import finite, outline_of, segmentation_problem
from .report import Report

HOLLOW = 'its polygons have less than three points'
PARTS = ('annotations', 'categories')


def is_coco_metric(metric: Any) -> bool:
    """Return whether a metric is mmdet's `CocoMetric`, and not that of LVIS."""
    kinds = [kind.__name__ for kind in type(metric).__mro__]
    has_own = hasattr(metric, '_coco_api') and not hasattr(metric, '_lvis_api')
    return 'CocoMetric' in kinds and has_own


def check_metric(
    key: str,
    path: str,
    metric: Any,
    datasets: Sequence[Any],
    contents: Sequence[dict],
    report: Report,
) -> None:
    """Check the annotation file of a metric against the datasets that it evaluates.

    Args:
        key: The key of the evaluator in the config.
        path: The annotation file.
        metric: A `CocoMetric`; `complete` changes its annotations. One without a file
            compares with the objects of the datasets.
        datasets: The datasets, initialized.
        contents: The files that are checked already, as pycocotools read them.
        report: Takes the problems and notes.
    """
    api, where = metric._coco_api, f'{key}.ann_file'
    if api is None:
        if not metric.format_only:
            _check_objects(key, metric, datasets, report)
        return
    classes = datasets[0].metainfo.get('classes') or ()
    cat_ids, content = api.get_cat_ids(cat_names=classes), api.dataset
    known = any(_same(content, other) for other in contents)
    if not known:
        check_references(where, path, content, report)
        check_categories(where, path, classes, cat_ids, content, False, report)
    if metric.format_only:  # compares with nothing
        return
    if not known:
        check_annotations(where, path, content, cat_ids, False, report)
    _check_images(where, path, api, datasets, report)
    wanted = set(cat_ids)
    annotations = [
        a
        for a in content.get('annotations', ())
        if a['category_id'] in wanted and a['image_id'] in api.imgs
    ]
    _check_entries(where, path, annotations, report)
    complete(path, api, report)
    if 'segm' in metric.metrics:
        _check_segmentations(where, path, api, annotations, report)


def _check_objects(
    key: str, metric: Any, datasets: Sequence[Any], report: Report
) -> None:
    """Check the objects that a metric without a file converts for pycocotools."""
    infos = [data.get_data_info(i) for data in datasets for i in range(len(data))]
    objects = [(info, o) for info in infos for o in info.get('instances') or ()]
    if all(instance.get('ignore_flag') for _, instance in objects):
        report.problem(
            f'CocoMetric has no object to compare with: the {len(infos)} images of the '
            f'dataset have {len(objects)} objects, all of them ignored',
            key,
        )
    if 'segm' in metric.metrics:
        wrong = [
            f'one of {info.get("img_path")}: {problem}'
            for info, instance in objects
            if (problem := _problem_of(instance.get('mask'), info, _is_hollow))
        ]
        _tell_incomparable('the dataset', wrong, key, report)


def complete(path: str, api: Any, report: Report) -> None:
    """Add what pycocotools wants of annotations without need.

    `iscrowd` is 0 if it is missing or null, and 1 for any other number. Matches are
    stored as the id of the annotation, which so must be a number, and not 0, which
    means no match; no result depends on it.
    """
    annotations = api.dataset.get('annotations', ())
    for annotation in annotations:
        annotation['iscrowd'] = int(bool(annotation.get('iscrowd')))
    ids = [annotation['id'] for annotation in annotations]
    wrong = [i for i in ids if not finite([i]) or i == 0]
    if wrong or len(set(ids)) < len(ids):
        for i, annotation in enumerate(annotations, 1):
            annotation['id'] = i
        api.anns = {annotation['id']: annotation for annotation in annotations}
    if wrong:
        report.note(
            f'{path}: the annotations are numbered again for the evaluation; '
            'pycocotools counts the object with id 0 as never found, and needs numbers '
            f'(first: {wrong[0]!r})'
        )


def _same(content: dict, other: dict) -> bool:
    """Compare two readings of a file; mmdet adds to the images of one."""
    ids = [[i['id'] for i in c.get('images', ())] for c in (content, other)]
    return ids[0] == ids[1] and all(content.get(p) == other.get(p) for p in PARTS)


def _check_images(
    where: str, path: str, api: Any, datasets: Sequence[Any], report: Report
) -> None:
    """Check that the images of the datasets are those of the file."""
    infos = [data.get_data_info(i) for data in datasets for i in range(len(data))]
    if not all({'img_id', 'img_path', 'height', 'width'} <= set(i) for i in infos):
        return  # a dataset of another form
    advice = f'Set {where} to the annotation file of the dataset'
    ids = {info['img_id'] for info in infos}
    lost = [info['img_id'] for info in infos if info['img_id'] not in api.imgs]
    if len(ids) < len(infos):
        report.problem(
            f'The dataset has several images of one id ({len(infos)} images, '
            f'{len(ids)} ids), and pycocotools takes them for one',
            where,
        )
    if lost:
        report.problem(
            f'{path} lacks {len(lost)} of {len(infos)} images of the dataset, whose '
            f'results pycocotools refuses (first: id {lost[0]!r}). {advice}',
            where,
        )
        return
    pairs = [(info, api.imgs[info['img_id']]) for info in infos]
    other = [pair for pair in pairs if _facts(*pair)[0] != _facts(*pair)[1]]
    if other:
        mine, file = _facts(*other[0])
        report.problem(
            f'{path} has another image for {len(other)} of {len(infos)} ids of the '
            f'dataset (first: id {other[0][1]["id"]!r} is {file}, and {mine} in the '
            f'dataset). {advice}',
            where,
        )
    if len(api.imgs) > len(ids):
        report.note(
            f'{path} has {len(api.imgs) - len(ids)} images that the dataset has not; '
            'the evaluation counts their objects as not found'
        )


def _facts(info: dict, image: dict) -> list[tuple]:
    """Return the name without folder and suffix, and the size, of both images."""
    both = (
        (info['img_path'], info['height'], info['width']),
        (image['file_name'], image['height'], image['width']),
    )
    return [
        (name.replace('\\', '/').rpartition('/')[2].rpartition('.')[0], *size)
        for name, *size in both
    ]


def _check_entries(
    where: str, path: str, annotations: list[dict], report: Report
) -> None:
    """Check what pycocotools reads of all annotations, those with `ignore` included."""
    if all(annotation.get('iscrowd') for annotation in annotations):
        report.problem(
            f'{path} has no object to compare with: it has 0 annotations of '
            f'metainfo.classes without iscrowd, and {len(annotations)} with it. To '
            'write results without an evaluation set format_only=True and '
            'outfile_prefix',
            where,
        )
    wrong = [
        annotation.get('id')
        for annotation in annotations
        if not BOX[1](annotation.get('bbox')) or not NUMBER[1](annotation.get('area'))
    ]
    if wrong:
        report.problem(
            f'{path}: {len(wrong)} annotations lack a bbox of four numbers or an area, '
            f'which pycocotools needs (first: {some(wrong, 3)})',
            where,
        )


def _check_segmentations(
    where: str, path: str, api: Any, annotations: list[dict], report: Report
) -> None:
    """Check the masks to compare with, and leave out polygons that enclose nothing."""
    wrong = []
    for annotation in annotations:
        mask, image = annotation.get('segmentation'), api.imgs[annotation['image_id']]
        if problem := _problem_of(mask, image, lambda m: not _outlines(m)):
            wrong.append(f'annotation {annotation["id"]}: {problem}')
        elif isinstance(mask, list):
            annotation['segmentation'] = _outlines(mask)
    _tell_incomparable(path, wrong, where, report)


def _problem_of(mask: Any, image: dict, is_hollow: Callable[[list], bool]) -> str:
    """Return why pycocotools cannot compare with a mask."""
    if not mask:
        return 'it has no segmentation'
    size = image['height'], image['width']
    if problem := segmentation_problem(mask, size, True):
        return problem
    if isinstance(mask, list):
        return HOLLOW if is_hollow(mask) else ''
    return 'its run lengths lack a size or counts' * (outline_of(mask) == 'none')


def _outlines(mask: list) -> list:
    return [part for part in mask if len(part) >= 6]


def _is_hollow(mask: list) -> bool:
    """Return whether pycocotools takes a list for boxes, by its first part."""
    return len(mask[0]) < 6


def _tell_incomparable(path: str, wrong: list[str], where: str, report: Report) -> None:
    if wrong:
        report.problem(
            f'{path}: {len(wrong)} objects have no mask that pycocotools can compare '
            f'with (first: {"; ".join(wrong[:3])})',
            where,
        )
