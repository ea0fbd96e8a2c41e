# SPDX-License-Identifier: Apache-2.0
"""Are the pictures there that a dataset like mmpretrain's names?"""

import os
from collections.abc import Mapping
from typing import Any

from ..cfg_options import default_of
from .coco_file import missing_files
from .report import Report


def check_class_folders(
    key: str, node: Mapping, cls: Any, classes: tuple[str, ...], report: Report
) -> int | None:
    """Checks the pictures and labels of a dataset like mmpretrain's.

    Args:
        key: The dataset's place in the config.
        node: Its config.
        cls: Its class.
        classes: The names of its classes; none if the folders name them.
        report: Takes what is wrong.

    Returns:
        How many classes there are by the folders; None if folders do not say.
    """
    if not node.get('with_label', True) or node.get('split') == 'test':
        return None
    root, prefix = node.get('data_root') or '', node.get('data_prefix') or ''
    prefix = prefix.get('img_path', '') if isinstance(prefix, dict) else prefix
    folder = os.path.join(root, prefix or node.get('split') or '')
    ann_file = _annotations(node, root)
    if ann_file:
        _check_list(key, ann_file, folder, classes, report)
        return None
    if not os.path.isdir(folder):
        return None
    names = sorted(e.name for e in os.scandir(folder) if e.is_dir())
    extensions = tuple(
        e.lower()
        for e in node.get('extensions')
        or getattr(cls, 'IMG_EXTENSIONS', None)
        or default_of(cls, 'extensions')
    )
    empty = [n for n in names if not _has_picture(os.path.join(folder, n), extensions)]
    where = f'{key}.data_prefix'
    if not names:
        report.broken(where, folder, 'has no folder; expected one a class')
    elif empty:
        report.broken(
            where,
            folder,
            f'has {len(empty)} of {len(names)} class folders '
            f'without a picture (first: {", ".join(empty[:3])}; pictures end '
            f'in {", ".join(extensions)})',
        )
    elif classes and len(names) != len(classes):
        report.broken(
            where,
            folder,
            f'has {len(names)} class folders '
            f'({", ".join(names[:5])}), but there are {len(classes)} classes '
            f'({", ".join(classes[:5])})',
        )
    elif classes and set(names) == set(classes) and names != list(classes):
        report.broken(
            where,
            folder,
            'has its class folders numbered by the alphabet '
            f'({", ".join(names[:5])}), and metainfo.classes has them in '
            f'another order ({", ".join(classes[:5])})',
        )
    return len(names)


def _annotations(node: Mapping, root: str) -> str | None:
    """The list of pictures; mmpretrain's ImageNet finds it by itself."""
    if node.get('ann_file'):
        return os.path.join(root, node['ann_file'])
    path = os.path.join(root, 'meta', f'{node.get("split")}.txt')
    return path if node.get('split') and os.path.isfile(path) else None


def _has_picture(folder: str, extensions: tuple[str, ...]) -> bool:
    return any(
        name.lower().endswith(extensions)
        for _, _, names in os.walk(folder)
        for name in names
    )


def _check_list(
    key: str, path: str, folder: str, classes: tuple[str, ...], report: Report
) -> None:
    """Checks a file of lines `picture label`."""
    where = f'{key}.ann_file'
    with open(path, encoding='utf-8') as file:
        lines = [line.strip().rsplit(' ', 1) for line in file]
    bad = [
        i
        for i, parts in enumerate(lines, 1)
        if len(parts) != 2 or not parts[1].isdigit()
    ]
    if bad or not lines:
        report.broken(
            where,
            path,
            f'has {len(bad)} of {len(lines)} lines that '
            'are not "picture label"' + (f' (first: line {bad[0]})' if bad else ''),
        )
        return
    wrong = [
        i
        for i, (_, label) in enumerate(lines, 1)
        if classes and int(label) >= len(classes)
    ]
    if wrong:
        report.broken(
            where,
            path,
            f'has {len(wrong)} labels outside of the '
            f'{len(classes)} classes (first: line {wrong[0]}, '
            f'{lines[wrong[0] - 1][1]})',
        )
    lost = missing_files(folder, tuple(name for name, _ in lines))
    if lost:
        report.broken(
            f'{key}.data_prefix',
            folder,
            f'lacks {len(lost)} of the '
            f'{len(lines)} images of {path} (first: {", ".join(lost[:3])})',
        )
