# SPDX-License-Identifier: Apache-2.0
"""How many samples are looked at, what is said of them, and that nothing is left."""

from types import SimpleNamespace

import numpy as np
import pytest
from mmengine.dataset import BaseDataset, Compose

from mmadaptor.datasets.checked_pipeline import CheckedPipeline
from mmadaptor.engine.preflight import coco, samples, sizes
from mmadaptor.engine.preflight.content import _entries_named
from mmadaptor.engine.preflight.report import Report
from mmadaptor.errors import DamagedFileError, InputError


class Images:
    """A dataset whose pipeline raises what it is given, or returns nothing."""

    def __init__(self, count, error=None):
        self.count, self.error, self.loaded = count, error, []
        self.pipeline = SimpleNamespace(num_classes=None, load=self.load)

    def __len__(self):
        return self.count

    def get_data_info(self, index):
        return dict(img_path=f'none/{index}.png', height=48, width=64)

    def load(self, info):
        self.loaded.append(info['img_path'])
        if self.error:
            raise self.error(f'{info["img_path"]} is bad')

    def look(self, *unread):
        report = Report()
        samples.load_some('train', self, set(unread), report)
        return list(report.problems)


def test_samples_are_spread_over_the_dataset():
    data = Images(30)
    assert data.look('none/2.png') == []
    assert data.loaded == [f'none/{i}.png' for i in range(0, 30, 2) if i != 2]


def test_damaged_files_are_named_up_to_a_limit():
    assert len(Images(19, DamagedFileError).look()) == 19
    *named, rest = Images(100, DamagedFileError).look()
    assert named == [f'none/{i}.png is bad' for i in range(0, 100, 5)]
    assert rest == 'Other files were not looked at'


def test_of_what_does_not_fit_the_first_is_named():
    assert Images(9, InputError).look() == ['none/0.png is bad']


def test_headers_are_spread_over_the_dataset(monkeypatch):
    read = []
    monkeypatch.setattr(sizes, 'HEADERS', 4)
    monkeypatch.setattr(sizes, '_header', read.append)
    assert sizes.odd_sizes(Images(7)) == []
    assert read == [f'none/{i}.png' for i in (0, 2, 4, 6)]


@pytest.mark.parametrize(
    'labels, lost',
    [([-1, 0, 255], None), ([3, 256], '256 becomes 0'), ([-2, -1], '-2 becomes 254')],
)
def test_labels_of_more_than_eight_bits(monkeypatch, labels, lost):
    """-1 becomes 255, which stands for none in both."""
    stored = np.array([labels], np.int16)
    monkeypatch.setattr(samples, '_stored', lambda *_: stored)
    if lost is None:
        samples._check_bits(None, 'mask.tif')
        return
    with pytest.raises(InputError, match=f'mask.tif has labels {lost.split()[0]}, and'):
        samples._check_bits(None, 'mask.tif')


def test_a_backend_that_reads_no_other_bits(monkeypatch):
    """As turbojpeg, which knows no color_type='unchanged'."""

    def refuse(*_):
        raise ValueError('color_type must be "color" or "grayscale"')

    result = dict(img_path='a.png', img=np.zeros((2, 2, 3), np.uint8))
    monkeypatch.setattr(samples, '_stored', refuse)
    assert samples._what_is_lost(None, result) == ''


class Own(BaseDataset):
    def __getitem__(self, index):
        return self.pipeline({**self.get_data_info(index), 'prompt': 'a photo'})


@pytest.mark.parametrize('kind, loads', [(BaseDataset, True), (Own, False)])
def test_samples_that_a_class_of_ones_own_makes_are_not_loaded(kind, loads):
    dataset = kind(lazy_init=True)
    assert not samples.can_load(dataset)
    dataset.pipeline = CheckedPipeline(Compose([]), None, (255,))
    assert samples.can_load(dataset) == loads


def of_mmdet(*arguments):
    """Stand in for a function of mmdet."""
    return SimpleNamespace(dataset=arguments)


of_mmdet.__module__ = 'mmdet.datasets'


def test_a_dataset_is_itself_again_once_it_is_read():
    """Data workers get a pickle of it."""
    methods = dict.fromkeys(('load_data_list', 'parse_data_info'), of_mmdet)
    dataset = type('Data', (), dict(methods, COCOAPI=staticmethod(of_mmdet)))()
    with coco.recorded(dataset) as contents, _entries_named(dataset, 'val.json'):
        assert vars(dataset).keys() == {'COCOAPI', 'parse_data_info'}
        dataset.COCOAPI('val.json')
        dataset.parse_data_info({})
    assert contents == [('val.json',)] and vars(dataset) == {}


def test_metrics_that_compare_by_pycocotools():
    methods = dict.fromkeys(('process', 'results2json', 'compute_metrics'), of_mmdet)
    metric = type('CocoMetric', (), methods)()
    assert not coco.is_coco_metric(metric)  # it makes the file of the dataset
    metric._coco_api = object()
    assert coco.is_coco_metric(metric)
    metric._lvis_api = object()
    assert not coco.is_coco_metric(metric)


def test_images_of_a_dataset_of_another_form_are_not_compared():
    report, data = Report(), Images(2)
    infos = [data.get_data_info(i) for i in range(2)]
    coco._check_images('val', 'a.json', SimpleNamespace(imgs={}), infos, report)
    assert not report and report.notes == []  # it has no img_id
