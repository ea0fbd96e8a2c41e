# SPDX-License-Identifier: Apache-2.0
"""COCO's annotation files: what is wrong with them is said before the start."""

import pytest
from helpers.refusals import edit, problems


@pytest.mark.parametrize('text', ['', '{"images": [', 'no JSON'])
def test_broken_json_is_named(det, root, text):
    (root / 'val.json').write_text(text)
    message = problems(det)
    assert f'{root / "val.json"} is broken JSON' in message
    assert f'the file has {len(text)} bytes' in message


@pytest.mark.parametrize(
    'part, change, says',
    [
        ('annotations', dict(category_id=9), 'category_id is not in the file'),
        ('annotations', dict(image_id=9), 'image_id is not in the file'),
        ('annotations', dict(id=1), 'annotations of equal id'),
    ],
)
def test_annotations_that_lead_nowhere(det, root, part, change, says):
    edit(root / 'val.json', lambda content: content[part][0].update(change))
    assert says in problems(det)


def test_a_part_that_is_not_there(det, root):
    edit(root / 'val.json', lambda content: content.pop('categories'))
    assert 'has no list `categories`' in problems(det)


def test_an_entry_without_its_keys(det, root):
    edit(root / 'val.json', lambda content: content['images'][2].pop('width'))
    assert (
        'has 1 `images` without id, file_name, height, width (first: number 2'
        in problems(det)
    )
