# SPDX-License-Identifier: Apache-2.0
"""Checks that labels and results of COCO files mean what the config says.

mmdet numbers the classes by the order of `categories`, not of `metainfo.classes`:
the n-th category that has a name of `metainfo.classes` is label n.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from mmadaptor.toolbox_code import has_methods_of_toolbox

from .objects import POINTLESS, mask_problem
from .report import Doubts, Report
from .samples import classes_of
from .source import Source


def reads_coco(dataset: Any) -> bool:
    """Return whether a dataset numbers the classes of a COCO file as mmdet does.

    A user-defined class may read another format, or give labels of its own.
    """
    methods = ('COCOAPI', 'load_data_list', 'parse_data_info')
    return has_methods_of_toolbox(type(dataset), *methods)


@contextmanager
def recorded(dataset: Any) -> Iterator[list[dict]]:
    """Record the annotation files that a dataset reads by pycocotools."""
    contents: list[dict] = []
    if not reads_coco(dataset):
        yield contents
        return
    api = dataset.COCOAPI

    def read(*args: Any, **kwargs: Any) -> Any:
        coco = api(*args, **kwargs)
        contents.append(coco.dataset)
        return coco

    dataset.COCOAPI = read  # shadows the attribute of the class
    try:
        yield contents
    finally:
        del dataset.COCOAPI


def check_categories(
    where: str,
    path: str,
    classes: Sequence[str],
    cat_ids: Sequence,
    content: dict,
    may_lack: bool,
    report: Report | Doubts,
) -> None:
    """Check that label n is class n, where `cat_ids` has an id for each label.

    With `may_lack` the last classes may have no category. An evaluation ends as soon as
    such a class is predicted.
    """
    # Of categories of one id, pycocotools takes the last.
    names = {c['id']: c['name'] for c in content.get('categories', ())}
    labels, classes = [names.get(i) for i in cat_ids], list(classes)
    lacking = [name for name in classes if name not in labels]
    extra = [name for name in names.values() if name not in classes]
    if lacking and may_lack and labels == classes[: len(labels)] and not extra:
        report.note(f'{path} has no category {some(lacking)}; no object is of it')
    elif lacking:
        report.problem(
            f'{path} has no category {some(lacking)} ({len(lacking)} of the '
            f'{len(classes)} in metainfo.classes are missing); its categories '
            f'are {some(names.values(), 10)}. Every class must be in `categories`: '
            'mmdet numbers the classes by that list',
            where,
        )
    elif labels != classes:
        report.problem(
            f'{path} lists its categories in another order than metainfo.classes '
            f'({some(classes)}), and mmdet numbers them as the file does: '
            f'{some(labels)}. List metainfo.classes in that order, and the same in '
            'every annotation file of the config',
            where,
        )
    elif extra:
        text = 'categories are not in metainfo.classes; their objects are left out'
        report.note(f'{path}: {len(extra)} {text}: {some(extra)}')


def note_lost(path: str, content: dict, report: Report) -> None:
    """Note annotations that are left out, and ids that are there twice."""
    annotations = content.get('annotations', ())
    for key, part in (('image_id', 'images'), ('category_id', 'categories')):
        known = {entry['id']: entry for entry in content.get(part, ())}
        others = [e for e in content.get(part, ()) if e != known[e['id']]]
        if others:
            text = 'have the id of another one, which is used instead (first: id '
            report.note(f'{path}: {len(others)} {part} {text}{others[0]["id"]!r})')
        # Panoptic annotations have their categories in `segments_info`.
        lost = [a for a in annotations if key in a and a[key] not in known]
        if lost:
            report.note(
                f'{path}: {len(lost)} of {len(annotations)} annotations are left out: '
                f'their {key} is not in the file (first: annotation '
                f'{lost[0].get("id")}, {key} {lost[0][key]!r})'
            )


def is_coco_metric(metric: Any) -> bool:
    """Return whether a metric compares with a COCO file by pycocotools.

    A user-defined class may compare with anything else.
    """
    kinds = [kind.__name__ for kind in type(metric).__mro__]
    has_file = getattr(metric, '_coco_api', None) is not None
    methods = ('process', 'results2json', 'compute_metrics')
    return (
        'CocoMetric' in kinds
        and has_file
        and not hasattr(metric, '_lvis_api')
        and has_methods_of_toolbox(type(metric), *methods)
    )


def check_metric(
    key: str, path: str, metric: Any, parts: Sequence[Source], report: Report
) -> None:
    """Check the annotation file of a `CocoMetric` against the datasets it evaluates.

    Its annotations are completed.
    """
    api, where = metric._coco_api, f'{key}.ann_file'
    classes = classes_of(parts[0].dataset)
    cat_ids = api.get_cat_ids(cat_names=classes)
    if parts[0].numbered:
        check_categories(where, path, classes, cat_ids, api.dataset, False, report)
    if metric.format_only:  # compares with nothing
        return
    infos = [info for part in parts for info in part.entries()]
    own = any(part.is_changed or not part.lists_as_toolbox for part in parts)
    _check_images(where, path, api, infos, report.unless(own))
    wanted = set(cat_ids)
    compared = [
        a
        for a in api.dataset.get('annotations', ())
        if a['category_id'] in wanted and a['image_id'] in api.imgs
    ]
    if all(a.get('iscrowd') for a in compared):
        report.problem(
            f'{path} has no object to compare with: no annotation of metainfo.classes '
            'without iscrowd. To write results only, set format_only=True and '
            'outfile_prefix',
            where,
        )
    _complete(api)
    if 'segm' in metric.metrics:
        _check_masks(where, path, api, compared, report)


def _complete(api: Any) -> None:
    """Give annotations what pycocotools needs and mmdet's datasets do not.

    That is `iscrowd`, and an id above 0, which would mean that an object is not found.
    No result depends on the ids.
    """
    annotations = api.dataset.get('annotations', ())
    for i, annotation in enumerate(annotations, 1):
        annotation.update(id=i, iscrowd=int(bool(annotation.get('iscrowd'))))
    api.anns = {annotation['id']: annotation for annotation in annotations}


def _check_images(
    where: str, path: str, api: Any, infos: Sequence[dict], report: Report | Doubts
) -> None:
    """Check that the images of the datasets are those of the file."""
    if not all({'img_id', 'img_path', 'height', 'width'} <= set(i) for i in infos):
        return  # a dataset of another form
    ids = {info['img_id'] for info in infos}
    if len(ids) < len(infos):
        report.problem(
            f'The dataset has several images of one id ({len(infos)} images, '
            f'{len(ids)} ids), and pycocotools takes them for one',
            where,
        )
    other = [
        info for info in infos if _facts(info) != _facts(api.imgs.get(info['img_id']))
    ]
    if other:
        mine, file = _facts(other[0]), _facts(api.imgs.get(other[0]['img_id']))
        report.problem(
            f'{path} does not have {len(other)} of {len(infos)} images of the dataset '
            f'(first: id {other[0]["img_id"]!r} is {mine} in the dataset and '
            f'{file or "not"} in the file). Set {where} to the annotation file of the '
            'dataset',
            where,
        )
    if len(api.imgs) > len(ids):
        report.note(
            f'{path} has {len(api.imgs) - len(ids)} images that the dataset has not; '
            'the evaluation counts their objects as not found'
        )


def _facts(image: dict | None) -> tuple:
    """Return the name without folder and suffix, and the size, of an image."""
    if image is None:
        return ()
    path = str(image.get('img_path') or image['file_name']).replace('\\', '/')
    name = path.rpartition('/')[2].rpartition('.')[0]
    return name, image['height'], image['width']


def _check_masks(
    where: str, path: str, api: Any, annotations: list[dict], report: Report
) -> None:
    """Check the masks to compare with, and leave out polygons of two points."""
    wrong, pointless = [], []
    for annotation in annotations:
        image = api.imgs[annotation['image_id']]
        name, mask = image['file_name'], annotation.get('segmentation')
        problem = mask_problem(mask, image['height'], image['width'])
        if isinstance(mask, list) and not problem:
            # mmdet leaves out the others, too.
            kept = [polygon for polygon in mask if len(polygon) >= 6]
            if kept:
                annotation['segmentation'] = kept
            elif _is_read(api, annotation):
                pointless.append(name)
            else:
                problem = 'it has no polygon of three points or more'
        if problem:
            wrong.append(f'one of {name}: {problem}')
    if pointless:
        report.note(
            f'{path}: {len(pointless)} objects {POINTLESS}, and pycocotools reads '
            f'another mask from it (first: one of {pointless[0]})'
        )
    if wrong:
        report.problem(
            f'{path}: {len(wrong)} objects have no mask that pycocotools can compare '
            f'with (first: {"; ".join(wrong[:3])})',
            where,
        )


def _is_read(api: Any, annotation: dict) -> bool:
    """Return whether pycocotools makes a mask of an annotation."""
    try:
        api.annToRLE(annotation)
    except Exception:  # of a form that it does not know
        return False
    return True


def some(names: Iterable[Any], count: int = 5) -> str:
    """Return the first names as text; a number is not the text of its digits."""
    names = list(names)
    shown = [f'{n!r}' if str(n).isdecimal() else str(n) for n in names[:count]]
    return ', '.join(shown) + ', ...' * (len(names) > count)
