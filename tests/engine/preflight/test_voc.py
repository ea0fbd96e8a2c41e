# SPDX-License-Identifier: Apache-2.0
"""Datasets of XML files, of which pycocotools reads nothing."""

import pytest
from helpers.jobs import CLASSES
from helpers.refusals import build, problems
from PIL import Image

XML = """<annotation><filename>{name}.jpg</filename>
<size><width>64</width><height>48</height><depth>3</depth></size>
<object><name>{kind}</name><difficult>0</difficult><bndbox>
<xmin>17</xmin><ymin>9</ymin><xmax>40</xmax><ymax>32</ymax></bndbox></object>
</annotation>"""


@pytest.fixture
def voc(det, root):
    """The detector's config on XML files, and their folder."""
    folder = root / 'VOC2007'
    for part in ('ImageSets/Main', 'Annotations', 'JPEGImages'):
        (folder / part).mkdir(parents=True)
    for split in ('train', 'val'):
        names = [f'{split}{i}' for i in range(4)]
        (folder / f'ImageSets/Main/{split}.txt').write_text('\n'.join(names))
        for i, name in enumerate(names):
            image = Image.open(root / split / f'{i}.png')
            image.save(folder / 'JPEGImages' / f'{name}.jpg')
            text = XML.format(name=name, kind=CLASSES[i % 2])
            (folder / 'Annotations' / f'{name}.xml').write_text(text)
        det[f'{split}_dataloader'].dataset = dict(
            type='VOCDataset',
            data_root=str(root),
            ann_file=f'VOC2007/ImageSets/Main/{split}.txt',
            data_prefix=dict(sub_data_root='VOC2007/'),
            metainfo=dict(classes=CLASSES),
            test_mode=split == 'val',
            pipeline=det.pipeline,
        )
    det.val_evaluator = dict(type='VOCMetric')
    return det, folder / 'Annotations'


def change(folder, old, new, pattern='train*.xml'):
    for path in folder.glob(pattern):
        path.write_text(path.read_text().replace(old, new))


def notes(cfg):
    return [note for note in build(cfg).notes if 'images are in' not in note]


def test_good_files_pass_without_a_word(voc):
    assert notes(voc[0]) == []


@pytest.mark.parametrize(
    'old, new, says',
    [
        ('<name>box<', '<name>boxx<', '1 of 2 classes, such as box, have no object'),
        ('<xmax>40', '<xmax>4', '4 objects have a box without a positive width and h'),
        # mmdet counts from 0, VOC from 1.
        ('<ymax>32', '<ymax>9', 'train0.jpg, x1, y1, x2, y2 [16, 8, 39, 8]'),
        ('<width>64', '<width>0', 'train0.xml says 48 x 0 (height x width)'),
        # No EXIF data rotates the images, and the boxes are inside of them.
        (
            '<width>64</width><height>48',
            '<width>48</width><height>64',
            'train0.xml says 64 x 48 (height x width)',
        ),
    ],
)
def test_what_is_read_otherwise_than_meant_is_noted(voc, old, new, says):
    cfg, folder = voc
    change(folder, old, new)
    (note,) = notes(cfg)
    assert note.startswith('train_dataloader.dataset') and says in note


def test_no_object_is_noted(voc):
    cfg, folder = voc
    change(folder, '</name>', 'x</name>')
    assert 'train_dataloader.dataset has no object of metainfo.classes' in notes(cfg)[0]


@pytest.mark.parametrize(
    'old, new, says',
    [
        ('bndbox', 'box', 'train0.xml cannot be read: AttributeError'),
        ('</annotation>', '', 'train0.xml cannot be read: ParseError'),
    ],
)
def test_what_cannot_be_used_is_refused_by_its_name(voc, old, new, says):
    cfg, folder = voc
    change(folder, old, new, 'train0.xml')
    assert says in problems(cfg)
