# SPDX-License-Identifier: Apache-2.0
"""What mmengine trains with is not refused: datasets and loaders of the user's own."""

import json
import zipfile

import numpy as np
import pytest
from helpers.refusals import build, edit, problems
from mmcv.transforms import BaseTransform
from mmengine.dataset import BaseDataset
from mmengine.evaluator import Evaluator
from mmengine.fileio import BaseStorageBackend, FileClient
from mmengine.registry import DATASETS, LOOPS, TRANSFORMS
from mmengine.runner import BaseLoop, ValLoop
from PIL import Image


def register(registry, kind):
    registry.register_module(kind.__name__, module=kind, force=True)
    return kind.__name__


def test_a_dataset_of_another_format(det, root):
    """Its file is read by its own method, and not by pycocotools."""
    from mmdet.datasets import CocoDataset

    class Text(CocoDataset):
        def load_data_list(self):
            folder, entries = self.data_prefix['img'], []
            with open(self.ann_file) as file:
                for i, line in enumerate(file):
                    name, *box, label = line.split()
                    thing = dict(bbox=list(map(float, box)), bbox_label=int(label))
                    entries.append(
                        dict(
                            img_path=f'{folder}/{name}',
                            img_id=i,
                            height=48,
                            width=64,
                            instances=[dict(thing, ignore_flag=0)],
                        )
                    )
            return entries

        def filter_data(self):
            return self.data_list

    lines = [f'{i}.png 16 8 40 32 {i % 2}\n' for i in range(4)]
    (root / 'train.txt').write_text(''.join(lines))
    dataset = det.train_dataloader.dataset.dataset
    dataset.update(type=register(DATASETS, Text), ann_file='train.txt')
    build(det)
    (root / 'train.txt').unlink()
    assert f'missing: {root}/train.txt' in problems(det)
    lines[2] = '2.png 16 8 40 32 5\n'
    (root / 'train.txt').write_text(''.join(lines))
    assert '1 of 4 labels are outside of the 2 classes (first: 5)' in problems(det)


def test_a_dataset_that_makes_one_class_of_all(det):
    from mmdet.datasets import CocoDataset

    class OneClass(CocoDataset):
        METAINFO = dict(classes=('object',), palette=[(0, 0, 0)])

        def load_data_list(self):
            self._metainfo['classes'] = ('disc', 'box')
            entries = super().load_data_list()
            self._metainfo['classes'] = ('object',)
            for thing in (thing for entry in entries for thing in entry['instances']):
                thing['bbox_label'] = 0
            return entries

    dataset = det.train_dataloader.dataset.dataset
    dataset.type = register(DATASETS, OneClass)
    del dataset['metainfo']
    det.model.bbox_head.num_classes = 1
    det.val_dataloader = det.val_cfg = det.val_evaluator = None
    build(det)


def test_a_dataset_that_leaves_out_what_it_cannot_parse(det, root):
    from mmdet.datasets import CocoDataset

    class Lenient(CocoDataset):
        def load_data_list(self):
            entries = []
            for image in json.loads((root / 'train.json').read_text())['images']:
                try:
                    entries.append(self.parse_data_info(image))
                except KeyError:
                    continue
            return entries

        def parse_data_info(self, image):
            path = f'{self.data_prefix["img"]}/{image["file_name"]}'
            thing = dict(bbox=[0, 0, 9, 9], bbox_label=0, ignore_flag=0)
            return dict(img_path=path, height=48, width=64, instances=[thing])

        def filter_data(self):
            return self.data_list

    edit(root / 'train.json', lambda content: content['images'][1].pop('file_name'))
    det.train_dataloader.dataset.dataset.type = register(DATASETS, Lenient)
    assert len(build(det).train_dataloader.dataset) == 3


@pytest.mark.parametrize(
    'entry',
    [
        dict(instances=np.zeros((2, 4))),
        dict(instances=['a', 'b'], img_path=None, height='48', width='64'),
        dict(gt_label=[[0], [1, 2]]),
        dict(gt_label='box'),
    ],
    ids=['array', 'text', 'ragged', 'name'],
)
def test_entries_of_a_form_that_is_not_known(cls, entry):
    class Entries(BaseDataset):
        METAINFO = dict(classes=np.array(['box', 'disc'], object))

        def load_data_list(self):
            return [dict(entry, number=i) for i in range(4)]

        def prepare_data(self, idx):
            return dict(inputs=idx)

    cls.train_dataloader.pop('dataset')
    cls.train_dataloader.dataset = dict(type=register(DATASETS, Entries))
    build(cls)


def test_class_folders_that_are_numbered_anew(cls):
    from mmpretrain.datasets import CustomDataset
    from mmpretrain.registry import DATASETS

    class Renumbered(CustomDataset):
        def load_data_list(self):
            entries = super().load_data_list()
            self._metainfo['classes'] = ('disc', 'box')
            return [dict(e, gt_label=1 - e['gt_label']) for e in entries]

    for dataset in (cls.train_dataloader.dataset, cls.test_dataloader.dataset):
        dataset.type, dataset.metainfo = register(DATASETS, Renumbered), None
    build(cls)


def test_a_class_without_an_init(cls):
    class NoInit:
        def __len__(self):
            return 4

        def __getitem__(self, index):
            return dict(inputs=index)

    cls.train_dataloader.pop('dataset')
    cls.train_dataloader.dataset = dict(type=register(DATASETS, NoInit))
    build(cls)


def test_several_tasks(cls, root):
    """mmpretrain's dataset of them has no `get_data_info`."""
    images = [
        dict(img_path=f'val/{i}.png', gt_label=dict(kind=i % 2)) for i in range(4)
    ]
    content = dict(metainfo=dict(tasks=['kind']), data_list=images)
    (root / 'tasks.json').write_text(json.dumps(content))
    dataset = dict(
        type='MultiTaskDataset',
        data_root=str(root),
        ann_file='tasks.json',
        pipeline=cls.train_dataloader.dataset.pipeline[:1],
    )
    cls.train_dataloader.pop('dataset')
    cls.train_dataloader.dataset = dataset
    build(cls)


def test_a_loader_that_needs_what_the_dataset_adds(cls):
    from mmpretrain.datasets import CustomDataset

    class LoadPrompt(BaseTransform):
        def transform(self, results):
            return {**results, 'length': len(results['prompt'])}

    class Prompted(CustomDataset):
        def prepare_data(self, idx):
            return self.pipeline({**self.get_data_info(idx), 'prompt': 'a photo'})

    dataset = cls.train_dataloader.dataset
    dataset.type = register(DATASETS, Prompted)
    dataset.pipeline.insert(1, dict(type=register(TRANSFORMS, LoadPrompt)))
    build(cls)


class LoadFromZip(BaseTransform):
    """A loader of images that are no files."""

    def __init__(self, path):
        self.path = path

    def transform(self, results):
        with zipfile.ZipFile(self.path) as archive:
            content = archive.read(results['img_path'].rpartition('/')[2])
        image = np.frombuffer(content, np.uint8)[:3072].reshape(32, 32, 3)
        return {**results, 'img': image, 'img_shape': (32, 32), 'ori_shape': (32, 32)}


def test_images_in_an_archive(seg, root):
    """Where a loader of a toolbox reads, their absence is an error."""
    del seg.train_dataloader.dataset.pipeline[1:]
    with zipfile.ZipFile(root / 'images.zip', 'w') as archive:
        for path in (root / 'val').iterdir():
            archive.writestr(path.name, bytes(3072))
    (root / 'list.txt').write_text('0\n1\n')
    dataset = seg.train_dataloader.dataset
    dataset.ann_file = 'list.txt'
    for path in (root / 'val').glob('0.png'):
        path.unlink()
    assert '1 of 2 files do not exist' in problems(seg)
    loader = dict(type=register(TRANSFORMS, LoadFromZip), path=str(root / 'images.zip'))
    dataset.pipeline[0] = loader
    notes = build(seg).notes
    assert any('as img_path: 1 of 2 files do not exist' in note for note in notes)


def test_a_client_of_another_backend(det, root):
    """As petrel and lmdb are, in configs of earlier versions of mmengine."""

    @FileClient.register_backend('elsewhere', force=True)
    class Elsewhere(BaseStorageBackend):
        def get(self, path):
            return (root / 'hidden' / path.rpartition('/')[2]).read_bytes()

        def get_text(self, path, encoding='utf-8'):
            return self.get(path).decode(encoding)

    (root / 'train').rename(root / 'hidden')
    pipeline = det.train_dataloader.dataset.dataset.pipeline
    pipeline[0] = dict(
        type='LoadImageFromFile', file_client_args=dict(backend='elsewhere')
    )
    assert build(det).train_dataloader.dataset[0]['inputs'].shape == (3, 48, 64)
    pipeline[0]['file_client_args']['backend'] = 'disk'
    assert f'missing: {root}/train' in problems(det)


def test_a_loop_of_several_loaders(det):
    """As mmagic's: a list of data loaders, and one of their evaluators."""

    class MultiValLoop(BaseLoop):
        dataloader = evaluator = None

        def __init__(self, runner, dataloader, evaluator):
            self._runner = runner
            pairs = zip(dataloader, evaluator, strict=True)
            self.loops = [ValLoop(runner, *pair) for pair in pairs]

        def run(self):
            """Run one after the other."""

    det.val_dataloader = [det.val_dataloader] * 2
    det.val_evaluator = [det.val_evaluator] * 2
    det.val_cfg = dict(type=register(LOOPS, MultiValLoop))
    runner = build(det)
    assert not isinstance(runner._val_evaluator, Evaluator)
    loop = runner.build_val_loop(runner._val_loop)
    assert [type(part.evaluator) for part in loop.loops] == [Evaluator] * 2


class MergeLabels(BaseTransform):
    """Makes labels of the file to those of the classes."""

    def transform(self, results):
        return {**results, 'gt_seg_map': results['gt_seg_map'] // 7}


def test_a_transform_that_changes_the_labels(seg, root):
    for path in (root / 'masks').iterdir():
        Image.fromarray(np.asarray(Image.open(path)) * 7).save(path)
    assert 'has labels 7, and there are 2 classes' in problems(seg)
    step = dict(type=register(TRANSFORMS, MergeLabels))
    seg.train_dataloader.dataset.pipeline.insert(2, step)
    runner = build(seg)
    assert any('7, and there are 2 classes' in note for note in runner.notes)
    mask = runner.train_dataloader.dataset[0]['data_samples'].gt_sem_seg.data
    assert mask.unique().tolist() == [0, 1]
