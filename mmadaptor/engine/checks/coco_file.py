# SPDX-License-Identifier: Apache-2.0
"""What a COCO annotation file holds, and what is wrong with it."""

import functools
import json
import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

PARTS = {
    'images': ('id', 'file_name', 'height', 'width'),
    'annotations': ('id', 'image_id', 'category_id'),
    'categories': ('id', 'name'),
}


@dataclass(frozen=True)
class CocoSummary:
    """The part of an annotation file that the checks need.

    Args:
        problems: A sentence for each thing that is wrong.
        file_names: The images, relative to the image folder.
        categories: The names of the categories.
        readable: Whether it is JSON at all.
    """

    problems: tuple[str, ...]
    file_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    readable: bool = True


def read_coco(path: str) -> CocoSummary:
    """Reads a COCO annotation file and checks that it hangs together.

    Args:
        path: The file.

    Returns:
        Its summary; the file itself is not kept in memory.
    """
    return _read_coco(path, os.stat(path).st_mtime_ns)


@functools.lru_cache
def _read_coco(path: str, changed: int) -> CocoSummary:
    """Reads a file once, though several parts of a config name it."""
    try:
        with open(path, encoding='utf-8') as file:
            content = json.load(file)
    except ValueError as error:
        return CocoSummary(
            readable=False,
            problems=(
                f'is broken JSON ({error}; the file has {os.path.getsize(path)} bytes)',
            ),
        )
    except OSError as error:
        return CocoSummary(
            readable=False, problems=(f'cannot be read ({error.strerror})',)
        )
    problems = tuple(_structure_problems(content))
    if problems:
        return CocoSummary(problems)
    return CocoSummary(
        tuple(_reference_problems(content)),
        tuple(image['file_name'] for image in content['images']),
        tuple(category['name'] for category in content['categories']),
    )


def _structure_problems(content: object) -> Iterator[str]:
    if not isinstance(content, dict):
        yield f'holds a {type(content).__name__}, expected a dict'
        return
    for part, keys in PARTS.items():
        entries = content.get(part)
        if not isinstance(entries, list):
            yield f'has no list `{part}`'
            continue
        bad = [
            i
            for i, entry in enumerate(entries)
            if not (isinstance(entry, dict) and all(k in entry for k in keys))
        ]
        if bad:
            yield (
                f'has {len(bad)} `{part}` without {", ".join(keys)} (first: '
                f'number {bad[0]})'
            )


def _reference_problems(content: dict) -> Iterator[str]:
    known = {
        'image_id': {image['id'] for image in content['images']},
        'category_id': {entry['id'] for entry in content['categories']},
    }
    for key, ids in known.items():
        lost = [a for a in content['annotations'] if a[key] not in ids]
        if lost:
            yield (
                f'has {len(lost)} annotations whose {key} is not in the '
                f'file (first: annotation {lost[0]["id"]}, {key} '
                f'{lost[0][key]})'
            )
    if len({a['id'] for a in content['annotations']}) < len(content['annotations']):
        yield 'has annotations of equal id'


def missing_files(folder: str, names: tuple[str, ...]) -> list[str]:
    """Compares a list of files with what lies in a folder.

    Args:
        folder: The folder.
        names: Paths relative to it.

    Returns:
        Those that are not there. Each folder is listed once, which is quick
        where asking for each of COCO's 118,287 images is not.
    """
    wanted = defaultdict(list)
    for name in names:
        wanted[os.path.dirname(name)].append(name)
    missing = []
    for below, inside in wanted.items():
        place = os.path.join(folder, below)
        there = set(os.listdir(place)) if os.path.isdir(place) else set()
        missing += [n for n in inside if os.path.basename(n) not in there]
    return missing
