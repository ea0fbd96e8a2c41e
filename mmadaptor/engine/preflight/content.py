# SPDX-License-Identifier: Apache-2.0
"""Reads the annotations of datasets, and checks them and their files."""

import os
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Sized
from contextlib import contextmanager, suppress
from mmap import ACCESS_READ, mmap
from typing import Any

from mmengine.dataset import BaseDataset, Compose
from mmengine.fileio import load
from torch import nn

from mmadaptor.datasets.checked_pipeline import (
    IGNORED,
    CheckedPipeline,
    read_by_toolboxes,
)
from mmadaptor.datasets.image_files import kind_problem
from mmadaptor.errors import InputError, described

from .coco import check_categories, note_lost, reads_coco, recorded, some
from .objects import (
    POINTLESS,
    box_problem,
    labels_in,
    loses_polygons,
    mask_problem,
    object_loader,
    objects_in,
    size_in,
    trained_objects,
)
from .report import Report
from .samples import (
    can_load,
    classes_in,
    classes_of,
    load_some,
    note_absent,
    renumbered,
)
from .source import Source

HOW_TO_GET = dict(
    CocoDataset='COCO 2017 (train2017, val2017, annotations): '
    'https://cocodataset.org/#download',
    ImageNet='ImageNet-1K (ILSVRC 2012): https://image-net.org/download',
    CUB='CUB-200-2011: https://www.vision.caltech.edu/datasets/cub_200_2011',
    ADE20KDataset='ADE20K (ADEChallengeData2016): http://sceneparsing.csail.mit.edu',
)
MADE = {
    f'data/{name}/': f'Make it: python tools/make_data.py {name}'
    for name in ('fashion', 'trees')
}
# The first line of a list, or an image of a JSON file.
ABSOLUTE = re.compile(rb'\A/|"(?:file_name|img_path)"\s*:\s*"/')
MASKS = ('seg', 'seg_map_path')  # names of their folder in data_prefix


class Part(Source):
    """A dataset of a job that reads files, without its wrappers, and its checks.

    Args:
        key: Its key in the config.
        dataset: The dataset.
        report: Takes the problems and notes.
        model: The model that gets its samples.
        wrapped: Whether a user-defined wrapper gives its samples.
    """

    def __init__(
        self,
        key: str,
        dataset: Any,
        report: Report,
        model: nn.Module,
        wrapped: bool = False,
    ) -> None:
        super().__init__(key, dataset, model, wrapped)
        self.report = report
        self.labels: set[int] = set()
        self.contents: list[dict] = []  # of the files that pycocotools read
        self.named = bool(classes_of(dataset))  # without its file

    def check_paths(self) -> bool:
        """Report files and folders that do not exist.

        Returns whether all are there, as far as is known.
        """
        dataset, report, kind = self.dataset, self.report, type(self.dataset)
        downloads = getattr(dataset, 'download', False)
        if not self.is_known or downloads or self.is_remote:
            return True
        before = len(report.missing)
        ann_file = getattr(dataset, 'ann_file', None)
        if _is_local_path(ann_file):
            report.require(f'{self.key}.ann_file', ann_file)
        prefixes = getattr(dataset, 'data_prefix', None)
        for name, folder in prefixes.items() if isinstance(prefixes, dict) else ():
            is_read = name not in MASKS or self.reads_masks
            is_read &= self.reads('seg_map_path' if name in MASKS else 'img_path')
            if not _is_local_path(folder) or not is_read or _may_have_files(folder):
                continue
            if _has_absolute_paths(ann_file):  # they need no folder
                continue
            if report.require(f'{self.key}.data_prefix', folder):
                report.problem(f'{folder} is not a folder with files', self.key)
        complete = len(report.missing) == before
        public = classes_of(dataset) == classes_in(getattr(kind, 'METAINFO', None))
        if not complete and public and kind.__name__ in HOW_TO_GET:
            report.hint(f'Get {HOW_TO_GET[kind.__name__]}.')
        for folder, how in MADE.items():
            if any(path.startswith(folder) for path in report.missing):
                report.hint(how)
        return complete

    def initialize(self, ignored: Collection[int] = (IGNORED,)) -> None:
        """Read the annotations, and make the pipeline name its files."""
        dataset = self.dataset
        what = getattr(dataset, 'ann_file', None) or type(dataset).__name__
        with (
            self.report.collect(self.key, what),
            _entries_named(dataset, what),
            recorded(dataset) as self.contents,
        ):
            try:
                if hasattr(dataset, 'full_init'):
                    dataset.full_init()
                size = len(dataset) if isinstance(dataset, Sized) else None
                if not self.contents and reads_coco(dataset):  # as it was built
                    args = dataset.backend_args
                    self.contents.append(load(dataset.ann_file, backend_args=args))
            except ValueError as error:  # numpy's, when mmengine serializes no sample
                if 'need at least one array' not in str(error):
                    raise
                size = 0
            if size == 0:
                text = (
                    f'{what}: no sample is left. Check filter_cfg, indices, suffixes '
                    'and the folders of the dataset'
                )
                if self.is_read and self.is_one_of_several:
                    self.report.note(f'{self.key}: {text}')
                else:
                    self.report.problem(text, self.key)
            is_compose = type(getattr(dataset, 'pipeline', None)) is Compose
            if is_compose and not self.is_changed:  # which may expect its errors
                semantic = hasattr(dataset, 'reduce_zero_label')
                classes = len(classes_of(dataset)) if semantic else None
                dataset.pipeline = CheckedPipeline(
                    dataset.pipeline, classes, ignored, self.model_is_own
                )

    def check_content(self) -> set[str]:
        """Check what the dataset lists, once it is read, and load some of its samples.

        Returns the paths of its images.
        """
        if not self.is_read:
            return set()  # what was reported says why
        key, dataset, report = self.key, self.dataset, self.report
        before, paths, unread = report.told, {}, set()
        what = getattr(dataset, 'ann_file', '') or key
        with report.collect(key, what):
            for content in self.contents:
                self._check_coco(content)
            if isinstance(dataset, BaseDataset):
                paths = self._check_samples()
                if self.numbered:
                    self._check_numbering()
        good = report.told == before  # pycocotools may end the process
        with report.collect(key, what):
            unread = self._check_files(paths)
        if good and can_load(dataset) and next(self.entries(), None) is not None:
            with report.collect(key, type(dataset).__name__):
                load_some(key, dataset, unread, report)
        return set(paths.get('img_path', ()))

    def _check_coco(self, content: dict) -> None:
        """Check the categories of a COCO file, and what refers to them."""
        dataset, where = self.dataset, f'{self.key}.ann_file'
        note_lost(dataset.ann_file, content, self.report)
        if not self.numbered:
            return
        classes, ids = classes_of(dataset), getattr(dataset, 'cat_ids', ())
        path, trains = dataset.ann_file, not dataset.test_mode
        report = self.report.unless(self.may_renumber)
        check_categories(where, path, classes, ids, content, trains, report)

    def _check_samples(self) -> dict[str, list[str]]:
        """Check the objects and labels that are listed; return the paths of files."""
        key, dataset, report = self.key, self.dataset, self.report
        paths, labels, odd, masks = defaultdict(list), [], defaultdict(list), []
        loader, where = object_loader(dataset), f'{key}.ann_file'
        for info in self.entries():
            for name in ('img_path', 'seg_map_path'):
                if isinstance(info.get(name), str) and '://' not in info[name]:
                    paths[name].append(info[name])
            labels += labels_in(info)
            image, size = info.get('img_path'), size_in(info) or (None, None)
            for thing in trained_objects(info) if loader else ():
                if problem := box_problem(thing.get('bbox'), *size):
                    box = list(thing['bbox'])
                    odd[problem].append(f'{image}, x1, y1, x2, y2 {box}')
            for thing in objects_in(info) if loader and loader.with_mask else ():
                if problem := mask_problem(thing.get('mask'), *size):
                    masks.append(f'{image}, box {thing.get("bbox")!s:.60}: {problem}')
                elif loses_polygons(thing['mask']) and not thing.get('ignore_flag'):
                    odd[POINTLESS].append(str(image))
        for problem, things in odd.items():
            report.note(f'{key}: {len(things)} objects {problem} (first: {things[0]})')
        if masks:
            shown = '; '.join(masks[:3])
            report.unless(self.may_relabel).problem(
                f'{len(masks)} objects cannot be used (first: {shown})', where
            )
        tests = getattr(dataset, 'test_mode', False)
        if loader and loader.with_bbox and not labels and not tests:
            self._tell_nothing_left()
        note_absent(key, dataset, set(labels), 'object' if loader else 'sample', report)
        classes = len(classes_of(dataset))
        wrong = [label for label in labels if not 0 <= label < classes]
        self.labels = set(labels)
        if wrong and classes:
            report.unless(self.may_relabel or self.model_is_own).problem(
                f'{len(wrong)} of {len(labels)} labels are outside of the {classes} '
                f'classes (first: {wrong[0]})',
                where if dataset.ann_file else key,
            )
        return paths

    def _tell_nothing_left(self) -> None:
        """Report that mmdet leaves out all objects; a file of background has none."""
        ids, key = getattr(self.dataset, 'cat_ids', ()), self.key
        annotations = [
            a for content in self.contents for a in content.get('annotations', ())
        ]
        count = sum(a.get('category_id') in ids for a in annotations)
        if not count:
            self.report.note(f'{key} has no object of metainfo.classes to train with')
            return
        doubts = self.may_relabel or self.is_one_of_several
        self.report.unless(doubts).problem(
            f'{self.dataset.ann_file}: mmdet trains with none of the {count} objects '
            'of metainfo.classes: it leaves out those with iscrowd or ignore, without '
            'an image, outside of their image, with an area of 0 or with a side below '
            '1 pixel (bbox and area are in pixels)',
            f'{key}.ann_file',
        )

    def _check_files(self, paths: dict) -> set[str]:
        """Check that the files that are listed are there; return the others."""
        all_lost, read = set(), read_by_toolboxes(self.transforms)
        for name, found in paths.items():
            if self.is_remote or (name in MASKS and not self.reads_masks):
                continue
            for reason, lost in unreadable_files(found).items():
                text = f'{len(lost)} of {len(found)} files {reason} (first: '
                text, where = f'{text}{", ".join(lost[:3])})', f'{self.key} as {name}'
                if name in read and not self.is_changed:
                    self.report.problem(text, where)
                else:
                    self.report.note(f'{where}: {text}')
                all_lost.update(lost)
        self._note_left_out(set(paths.get('seg_map_path', ())))
        return all_lost

    def _note_left_out(self, masks: set[str]) -> None:
        """Note masks without an image: mmseg lists the images only."""
        dataset = self.dataset
        suffix = getattr(dataset, 'seg_map_suffix', None)
        part = getattr(dataset, 'ann_file', '') or getattr(dataset, '_indices', None)
        folders = {os.path.dirname(mask) for mask in masks if suffix and not part}
        extra = [
            name
            for folder in filter(os.path.isdir, folders)
            for name in sorted(os.listdir(folder))
            if name.endswith(suffix) and os.path.join(folder, name) not in masks
        ]
        if extra:
            self.report.note(
                f'{self.key}: {len(extra)} masks have no image and are left out: '
                f'{", ".join(extra[:3])}'
            )

    def _check_numbering(self) -> None:
        """Check that labels are numbers of `metainfo.classes`.

        mmpretrain numbers folders by name. A file of mmengine's form has a list of its
        own, which that of the config replaces.
        """
        dataset, classes = self.dataset, classes_of(self.dataset)
        folders = list(getattr(dataset, 'folder_to_idx', ()))
        report = self.report.unless(self.may_relabel)
        known = self.lists_as_toolbox
        if known and renumbered(classes, folders):
            report.problem(
                'The class folders are numbered in alphabetical order '
                f'({some(folders)}), and metainfo.classes has another order '
                f'({some(classes)})',
                f'{self.key}.data_prefix',
            )
        kind = type(dataset)
        is_mmengines = kind.load_data_list is BaseDataset.load_data_list
        if self.named and is_mmengines and known:
            listed = classes_in(load(dataset.ann_file).get('metainfo'))
            if renumbered(listed, classes):
                report.problem(
                    f'The labels of {dataset.ann_file} are numbers of the classes in '
                    f'its metainfo ({some(listed)}), and metainfo.classes of the '
                    f'config has another order ({some(classes)})',
                    f'{self.key}.ann_file',
                )


def _is_local_path(path: Any) -> bool:
    return isinstance(path, str) and path != '' and '://' not in path


def _has_absolute_paths(ann_file: Any) -> bool:
    """Return whether an annotation file names its images by absolute paths."""
    if not _is_local_path(ann_file) or not os.path.isfile(ann_file):
        return False
    if not os.path.getsize(ann_file):
        return False
    with (
        open(ann_file, 'rb') as file,
        mmap(file.fileno(), 0, access=ACCESS_READ) as text,
    ):
        return ABSOLUTE.search(text) is not None


def _may_have_files(path: str) -> bool:
    """Return whether a path is a folder that is not empty, or cannot be listed."""
    try:
        return os.path.isdir(path) and any(os.scandir(path))
    except PermissionError:
        return True


@contextmanager
def _entries_named(dataset: Any, what: str) -> Iterator[None]:
    """Name the entry of an annotation file that cannot be parsed.

    The dataset gets the exception as it is, and may leave out such entries.
    """
    parse, failed = getattr(dataset, 'parse_data_info', None), {}

    def parse_noted(info: Any) -> Any:
        try:
            return parse(info)
        except Exception as error:
            if isinstance(info, dict):
                image = info.get('raw_img_info', info)
                name = image.get('xml_path') or f'{what}: {image.get("file_name")}'
                failed.update(error=error, name=name)
            raise

    if parse is None:
        yield
        return
    dataset.parse_data_info = parse_noted  # shadows the method of the class
    try:
        yield
    except Exception as error:
        if error is not failed.get('error') or isinstance(error, OSError):
            raise
        text = f'{failed["name"]} cannot be read: {described(error)}'
        raise InputError(text) from error
    finally:
        del dataset.parse_data_info


def unreadable_files(paths: list[str]) -> dict[str, list[str]]:
    """Return the paths that are no regular files; each folder is listed once."""
    there, unread = {}, defaultdict(list)
    for folder in {os.path.dirname(path) for path in paths}:
        there[folder] = set()
        # A folder may be open to those who know the names in it.
        with suppress(OSError), os.scandir(folder) as entries:
            there[folder] = {
                entry.name
                for entry in entries
                if entry.is_file(follow_symlinks=False) or os.path.isfile(entry.path)
            }
    for path in paths:
        listed = os.path.basename(path) in there[os.path.dirname(path)]
        # A file system may know a file by several names.
        if not listed and not os.path.isfile(path):
            reason = 'are not regular files' if kind_problem(path) else 'do not exist'
            unread[reason].append(path)
    return unread
