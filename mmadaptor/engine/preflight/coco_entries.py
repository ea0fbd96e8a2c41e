# SPDX-License-Identifier: Apache-2.0
"""Names the entries of an annotation file that pycocotools or mmdet cannot read."""

from collections.abc import Callable, Iterator
from typing import Any

from mmengine.fileio import load

from .objects import finite

Check = tuple[str, Callable[[Any], bool]]
ID: Check = 'a number or text', lambda value: isinstance(value, int | float | str)
TEXT: Check = 'text', lambda value: isinstance(value, str)
NUMBER: Check = 'a number', lambda value: finite([value])
BOX: Check = (
    'four numbers',
    lambda value: isinstance(value, list) and len(value) == 4 and finite(value),
)
PARTS = dict(
    images=dict(id=ID, file_name=TEXT, height=NUMBER, width=NUMBER),
    categories=dict(id=ID, name=TEXT),
    annotations=dict(id=ID, image_id=ID, category_id=ID, bbox=BOX, area=NUMBER),
)
SHOWN = 3


def explain(dataset: Any) -> list[str]:
    """Return why the annotation file of a dataset cannot be read.

    Args:
        dataset: A dataset of mmdet that failed to read it.

    Returns:
        A sentence for the first entries of it. Empty if they are not the reason.
    """
    if getattr(getattr(dataset, 'COCOAPI', None), '__name__', '') != 'COCO':
        return []  # another format
    try:
        content = load(dataset.ann_file, backend_args=dataset.backend_args)
    except Exception:  # no JSON; the error that led here says so
        return []
    found = list(unreadable_entries(content))
    texts = [f'{dataset.ann_file}: {text}' for text in found[:SHOWN]]
    if len(found) > SHOWN:
        texts.append(f'{dataset.ann_file}: {len(found) - SHOWN} more of this kind')
    return texts


def unreadable_entries(content: Any) -> Iterator[str]:
    """Yield a sentence for each entry that is not as mmdet reads it."""
    if not isinstance(content, dict):
        yield (
            'expected an object with images, categories and annotations, '
            f'got {shown(content)}'
        )
        return
    for part, fields in PARTS.items():
        if part == 'annotations' and part not in content:
            continue  # as in the files of COCO's test-dev
        entries = content.get(part)
        if not isinstance(entries, list):
            yield f'expected a list named {part}, got {shown(entries)}'
            continue
        for i, entry in enumerate(entries):
            if not isinstance(entry, dict):
                yield f'{part}[{i}] is {shown(entry)}, not an object'
                continue
            who = f'{part}[{i}] (id {shown(entry.get("id"))})'
            for field, (expected, check) in fields.items():
                if field not in entry:
                    yield f'{who} has no {field}'
                elif not check(value := entry[field]):
                    yield f'{who}: {field} must be {expected}, got {shown(value)}'


def shown(value: Any) -> str:
    """Return a value as text of at most 60 characters, as JSON names it."""
    if isinstance(value, list | dict) and len(value) > 8:
        return f'a {"list" if isinstance(value, list) else "object"} of {len(value)}'
    try:
        text = 'null' if value is None else repr(value)
    except (RecursionError, ValueError):  # deep; an integer of thousands of digits
        return f'a {type(value).__name__}'
    return text if len(text) <= 60 else f'{text[:57]}...'
