# SPDX-License-Identifier: Apache-2.0
"""What mmengine trains with is not refused: datasets and loaders of the user's own."""

import copy
import json
import shutil
import zipfile

import numpy as np
import pytest
from helpers.refusals import build, edit, problems
from mmcv.transforms import BaseTransform
from mmengine.dataset import BaseDataset, RepeatDataset
from mmengine.evaluator import Evaluator
from mmengine.fileio import BaseStorageBackend, FileClient
from mmengine.registry import DATASETS, LOOPS, MODELS, TRANSFORMS
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


def inner(det):
    return det.train_dataloader.dataset.dataset


def make_method(name, change):
    """Return a method of a dataset that changes its entries."""

    def filter_data(self):
        self.data_list = [change(entry) for entry in self.data_list]
        return self.data_list

    def get_data_info(self, index):
        return change(super(type(self), self).get_data_info(index))

    def prepare_data(self, index):
        return self.pipeline(change(self.get_data_info(index)))

    return {
        name: dict(
            filter_data=filter_data,
            get_data_info=get_data_info,
            prepare_data=prepare_data,
        )[name]
    }


def own(base, name, change):
    """Return the name of a dataset whose method changes its entries."""
    place = dict(make_method(name, change), __module__=__name__)
    return register(DATASETS, type(f'Own{base.__name__}', (base,), place))


def change_by(name, dataset, base, change, transform, place):
    """Let a method of the dataset, or a transform at a place, change the entries."""
    if name == 'transform':
        dataset.pipeline.insert(place, dict(type=register(TRANSFORMS, transform)))
    elif name:
        dataset.type = own(base, name, change)


METHODS = ['filter_data', 'get_data_info', 'prepare_data']


def with_other_labels(entry):
    for thing in entry['instances']:
        thing['bbox_label'] = 1 - thing['bbox_label']
    return entry


class OtherLabels(BaseTransform):
    def transform(self, results):
        return {**results, 'gt_bboxes_labels': 1 - results['gt_bboxes_labels']}


def first_label(runner):
    return runner.train_dataloader.dataset[0]['data_samples'].gt_instances.labels[0]


@pytest.mark.parametrize('name', [None, *METHODS, 'transform'])
def test_categories_that_are_numbered_anew(det, root, name):
    from mmdet.datasets import CocoDataset

    edit(root / 'train.json', lambda content: content['categories'].reverse())
    change_by(name, inner(det), CocoDataset, with_other_labels, OtherLabels, 2)
    if name:
        assert first_label(build(det)) == 0  # a disc
    else:
        assert 'lists its categories in another order' in problems(det)


class SwappedWrapper(RepeatDataset):
    def __getitem__(self, index):
        result = super().__getitem__(index)
        objects = result['data_samples'].gt_instances
        objects.labels = 1 - objects.labels
        return result


class OneClassWrapper(SwappedWrapper):
    METAINFO = dict(classes=('object',))

    def __init__(self, **arguments):
        super().__init__(**arguments)
        self._metainfo = self.METAINFO


@pytest.mark.parametrize('kind', [SwappedWrapper, OneClassWrapper])
def test_a_wrapper_that_numbers_classes_anew(det, root, kind):
    edit(root / 'train.json', lambda content: content['categories'].reverse())
    det.train_dataloader.dataset.type = register(DATASETS, kind)
    if kind is OneClassWrapper:
        det.model.bbox_head.num_classes = 1
        det.val_dataloader = det.val_cfg = det.val_evaluator = None
    build(det)


def with_tenths(entry):
    return dict(entry, gt_label=entry['gt_label'] // 10)


class Tenths(BaseTransform):
    def transform(self, results):
        return with_tenths(results)


@pytest.mark.parametrize('name', [None, 'prepare_data', 'transform'])
def test_labels_that_are_changed(cls, root, name):
    from mmpretrain.datasets import CustomDataset

    (root / 'list.txt').write_text('0.png 0\n1.png 10\n2.png 5\n3.png 15\n')
    dataset = cls.train_dataloader.dataset
    dataset.update(ann_file='list.txt', data_prefix='val')
    change_by(name, dataset, CustomDataset, with_tenths, Tenths, 1)
    if name:
        data = build(cls).train_dataloader.dataset
        assert [int(data[i]['data_samples'].gt_label) for i in range(4)] == [0, 1, 0, 1]
    else:
        assert '3 of 4 labels are outside of the 2 classes' in problems(cls)


def test_labels_that_a_head_ignores(cls, root):
    from mmpretrain.models import LinearClsHead

    (root / 'list.txt').write_text('0.png 0\n1.png 1\n2.png -1\n')
    cls.train_dataloader.dataset.update(ann_file='list.txt', data_prefix='val')
    assert '1 of 3 labels are outside of the 2 classes (first: -1)' in problems(cls)
    cls.model.head.type = register(MODELS, type('OwnHead', (LinearClsHead,), {}))
    assert 'first: -1' in ''.join(build(cls).notes)


@pytest.mark.parametrize('part', ['model', 'data_preprocessor', 'head', 'loss'])
def test_labels_of_masks_that_a_model_reads_itself(seg, root, part):
    mask = np.full((48, 64), 7, np.uint8)
    Image.fromarray(mask).save(root / 'masks' / '1.png')
    assert 'has labels 7, and there are 2 classes' in problems(seg)
    cfg = dict(
        model=seg.model,
        data_preprocessor=seg.model.data_preprocessor,
        head=seg.model.decode_head,
        loss=seg.model.decode_head.loss_decode,
    )[part]
    with MODELS.switch_scope_and_registry('mmseg') as registry:
        base = registry.get(cfg.type)
    cfg.type = register(MODELS, type('OwnPart', (base,), {'__module__': __name__}))
    runner = build(seg)
    assert any('has labels 7' in note for note in runner.notes)
    assert all(runner.train_dataloader.dataset)  # no sample is refused in training


def with_other_label(entry):
    return dict(entry, gt_label=1 - entry['gt_label'])


class OtherLabel(BaseTransform):
    def transform(self, results):
        return with_other_label(results)


@pytest.mark.parametrize('name', [*METHODS, 'transform'])
@pytest.mark.parametrize('form', ['folders', 'file'])
def test_classes_that_are_numbered_anew(cls, root, name, form):
    from mmpretrain.datasets import BaseDataset, CustomDataset

    kind, dataset = CustomDataset, cls.train_dataloader.dataset
    dataset.metainfo = dict(classes=('disc', 'box'))
    if form == 'file':
        meta, images = dict(classes=['box', 'disc']), [dict(img_path='0.png')]
        content = dict(metainfo=meta, data_list=[dict(images[0], gt_label=1)])
        (root / 'labels.json').write_text(json.dumps(content))
        dataset.update(ann_file='labels.json', data_prefix='val')
        kind, dataset.type = BaseDataset, 'mmpretrain.BaseDataset'
    assert 'has another order (disc, box)' in problems(cls)
    change_by(name, dataset, kind, with_other_label, OtherLabel, 1)
    build(cls)


def test_names_of_classes_that_a_dataset_of_ones_own_does_not_use(det, root):
    """Its class has the 80 names of its base."""
    from mmdet.datasets import CocoDataset

    class Two(CocoDataset):
        labels = 2

        def load_data_list(self):
            thing = dict(bbox=[16, 8, 40, 32], ignore_flag=0)
            return [
                dict(
                    img_path=f'{root}/train/{i}.png',
                    img_id=i,
                    height=48,
                    width=64,
                    instances=[dict(thing, bbox_label=i % self.labels)],
                )
                for i in range(4)
            ]

        def filter_data(self):
            return self.data_list

    dataset = inner(det)
    dataset.type = register(DATASETS, Two)
    del dataset['metainfo']
    det.val_dataloader = det.val_cfg = det.val_evaluator = None
    build(det)
    Two.labels = 3
    assert 'num_classes is 2, but train_dataloader.dataset.dataset has 80' in (
        problems(det)
    )


def in_other_folder(entry):
    return dict(entry, img_path=entry['img_path'].replace('/train/', '/moved/'))


class InOtherFolder(BaseTransform):
    def transform(self, results):
        return in_other_folder(results)


@pytest.mark.parametrize('name', [None, 'prepare_data', 'transform'])
@pytest.mark.parametrize('there', [False, True])
def test_images_that_are_elsewhere(det, root, name, there):
    from mmdet.datasets import CocoDataset

    (root / 'train').rename(root / 'moved')
    if there:
        (root / 'train').mkdir()
        (root / 'train' / 'readme').touch()
    change_by(name, inner(det), CocoDataset, in_other_folder, InOtherFolder, 0)
    if name:
        assert build(det).train_dataloader.dataset[0]['inputs'].shape == (3, 48, 64)
    else:
        says = '4 of 4 files do not exist' if there else f'missing: {root}/train'
        assert says in problems(det)


@pytest.mark.parametrize('form', ['json', 'list'])
def test_absolute_paths_need_no_folder(det, cls, root, form):
    def change(content):
        for image in content['images']:
            image['file_name'] = str(root / 'train' / image['file_name'])

    edit(root / 'train.json', change)
    (root / 'list.txt').write_text(f'{root}/val/0.png 0\n{root}/val/1.png 1\n')
    inner(det).data_prefix = dict(img='train2017/')
    cls.train_dataloader.dataset.update(ann_file='list.txt', data_prefix='none')
    cfg = det if form == 'json' else cls
    assert build(cfg).train_dataloader.dataset[0]['inputs'] is not None
    (root / 'list.txt').write_text('')
    (root / 'train.json').write_text('')
    assert f'missing: {root}/' in problems(cfg)


@pytest.mark.parametrize('name', ['ignore_empty', 'prepare_data', 'wrapper'])
def test_images_that_are_left_out_where_they_are_missing(det, root, name):
    from mmdet.datasets import CocoDataset

    class Lenient(CocoDataset):
        def prepare_data(self, index):
            try:
                return super().prepare_data(index)
            except OSError:
                return None

    class LenientWrapper(RepeatDataset):
        def __getitem__(self, index):
            try:
                return super().__getitem__(index)
            except OSError:
                return super().__getitem__(index - 1)

    (root / 'train' / '1.png').unlink()
    dataset = inner(det)
    if name == 'ignore_empty':
        dataset.pipeline[0].ignore_empty = True
    elif name == 'prepare_data':
        dataset.type = register(DATASETS, Lenient)
    else:
        det.train_dataloader.dataset.type = register(DATASETS, LenientWrapper)
    runner = build(det)
    assert any('1 of 4 files do not exist' in note for note in runner.notes)
    assert all(runner.train_dataloader.dataset[i] for i in range(4))


def test_a_dataset_beside_one_of_ones_own(cls, root):
    """The other one may do without its files, and this one may not."""
    from mmpretrain.datasets import CustomDataset

    class Drawn(CustomDataset):
        def prepare_data(self, index):
            return self.pipeline.transforms[-1](dict(img=np.zeros((48, 64, 3))))

    stock = cls.train_dataloader.pop('dataset')
    own = {**copy.deepcopy(stock), 'type': register(DATASETS, Drawn)}
    lists = [root / f'{name}.txt' for name in ('own', 'stock')]
    for child, path in zip((own, stock), lists, strict=True):
        path.write_text('train/0.png 0\ntrain/1.png 1\n')
        child.update(ann_file=path.name, data_prefix='')
    cls.train_dataloader.dataset = dict(type='ConcatDataset', datasets=[own, stock])
    build(cls)
    lists[0].write_text('train/none.png 0\ntrain/1.png 1\n')
    assert any('1 of 2 files do not exist' in note for note in build(cls).notes)
    lists[1].write_text('train/none.png 0\ntrain/1.png 1\n')
    text = problems(cls)
    assert '1 of 2 files do not exist' in text and 'dataset.datasets.1 as' in text


def test_more_samples_than_entries(cls):
    from mmpretrain.datasets import CustomDataset

    class Twice(CustomDataset):
        def __len__(self):
            return 2 * super().__len__()

        def __getitem__(self, index):
            return super().__getitem__(index % 4)

    cls.train_dataloader.dataset.type = register(DATASETS, Twice)
    assert len(build(cls).train_dataloader.dataset) == 8


class FromPath(BaseTransform):
    def transform(self, results):
        return dict(img_path=results, gt_label=0)


@pytest.mark.parametrize('method', ['get_data_info', 'prepare_data'])
def test_entries_that_are_paths(cls, root, method):
    class Paths(BaseDataset):
        METAINFO = dict(classes=('box', 'disc'))

        def load_data_list(self):
            return [f'{root}/val/{i}.png' for i in range(4)]

    def get_data_info(self, index):
        return self.data_list[index]

    def prepare_data(self, index):
        return self.pipeline(self.data_list[index])

    setattr(Paths, method, locals()[method])
    pipeline = cls.train_dataloader.dataset.pipeline
    pipeline.insert(0, dict(type=register(TRANSFORMS, FromPath)))
    cls.train_dataloader.pop('dataset')
    cls.train_dataloader.dataset = dict(
        type=register(DATASETS, Paths), pipeline=pipeline, serialize_data=False
    )
    dataset = build(cls).train_dataloader.dataset
    assert dataset[0]['inputs'].shape == (3, 48, 64)


def test_what_a_dataset_makes_of_its_entries_as_it_is_built(det, cls):
    from mmdet.datasets import CocoDataset
    from mmpretrain.datasets import CustomDataset

    class Counts(CocoDataset):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.counts = {i: len(self.cat_img_map[i]) for i in self.cat_ids}

    class Most(CustomDataset):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.most = max(entry['gt_label'] for entry in self.data_list)

    inner(det).type = register(DATASETS, Counts)
    counts = build(det).train_dataloader.dataset.dataset.counts
    assert counts == {1: 2, 4: 2}
    dataset = cls.train_dataloader.dataset
    dataset.update(type=register(DATASETS, Most), serialize_data=False)
    assert build(cls).train_dataloader.dataset.most == 1


@pytest.mark.parametrize('size', [None, np.array([48, 64])], ids=['none', 'array'])
def test_masks_of_a_dataset_of_ones_own(det, root, size):
    """Without a height and width, mmdet takes those of the image."""
    from mmdet.datasets import CocoDataset

    class Masked(CocoDataset):
        def load_data_list(self):
            mask = dict(size=[48, 64] if size is None else size, counts=[0, 48, 3024])
            thing = dict(bbox=[16, 8, 40, 32], bbox_label=0, ignore_flag=0, mask=mask)
            shape = {} if size is None else dict(height=48, width=64)
            path = f'{root}/train/0.png'
            return [dict(img_path=path, img_id=0, instances=[thing], **shape)]

        def filter_data(self):
            return self.data_list

    inner(det).type = register(DATASETS, Masked)
    inner(det).pipeline[1].with_mask = True
    sample = build(det).train_dataloader.dataset[0]['data_samples']
    assert sample.gt_instances.masks.masks.sum() == 48


class MendsMasks(BaseTransform):
    def transform(self, results):
        square = [[16, 8, 40, 8, 40, 32, 16, 32]]
        things = [dict(o, mask=square, ignore_flag=0) for o in results['instances']]
        return dict(results, instances=things)


@pytest.mark.parametrize('change', [dict(segmentation=[]), dict(iscrowd=1)], ids=str)
def test_objects_that_a_transform_mends(det, root, change):
    def edited(content):
        for annotation in content['annotations']:
            annotation.update(change)

    edit(root / 'train.json', edited)
    pipeline = inner(det).pipeline
    pipeline[1].with_mask = 'segmentation' in change
    says = '4 objects cannot be used' if pipeline[1].with_mask else 'none of the 4 obj'
    assert says in problems(det)
    pipeline.insert(1, dict(type=register(TRANSFORMS, MendsMasks)))
    build(det)


@pytest.mark.parametrize('change', ['empty', 'crowd'])
def test_one_of_several_datasets_may_have_nothing(det, root, change):
    content = json.loads((root / 'train.json').read_text())
    if change == 'empty':
        content['annotations'] = []
    for annotation in content['annotations']:
        annotation['iscrowd'] = 1
    (root / 'other.json').write_text(json.dumps(content))
    one = inner(det)
    other = dict(one, ann_file='other.json', serialize_data=False)
    other['filter_cfg'] = dict(filter_empty_gt=True)
    assert ('no sample' if change == 'empty' else 'none of the 4 objects') in (
        problems(alone(det, dict(other)))
    )
    det.train_dataloader.dataset = dict(type='ConcatDataset', datasets=[one, other])
    assert build(det).train_dataloader.dataset[0] is not None


def alone(det, dataset):
    det.train_dataloader.pop('dataset')
    det.train_dataloader.dataset = dataset
    return det


def test_a_reader_of_ones_own(det, root):
    """It numbers the categories as the config does, and keeps no JSON."""
    from mmdet.datasets import CocoDataset
    from mmdet.datasets.api_wrappers import COCO

    class Reader(COCO):
        def __init__(self, path):
            super().__init__(path)
            del self.dataset

        def get_cat_ids(self, cat_names):
            ids = {category['name']: i for i, category in self.cats.items()}
            return [ids[name] for name in cat_names]

    edit(root / 'train.json', lambda content: content['categories'].reverse())
    place = dict(COCOAPI=Reader, __module__=__name__)
    inner(det).type = register(DATASETS, type('Read', (CocoDataset,), place))
    assert first_label(build(det)) == 0


def renamed(entry):
    return dict(entry, img_path=entry['img_path'].replace('.png', '_copy.png'))


@pytest.mark.parametrize('name', ['filter_data', 'get_data_info'])
def test_images_of_another_name_than_in_the_file_of_a_metric(det, root, name):
    from mmdet.datasets import CocoDataset

    for path in list((root / 'val').iterdir()):
        path.rename(path.with_stem(f'{path.stem}_copy'))
    det.val_dataloader.dataset.type = own(CocoDataset, name, renamed)
    assert any('4 of 4 images of the dataset' in note for note in build(det).notes)


def test_a_loader_of_smaller_images(det):
    from mmcv.transforms import LoadImageFromFile

    class LoadHalf(LoadImageFromFile):
        def transform(self, results):
            results = super().transform(results)
            image = results['img'][::2, ::2]
            shape = image.shape[:2]
            return dict(results, img=image, img_shape=shape, ori_shape=shape)

    inner(det).pipeline[0].type = register(TRANSFORMS, LoadHalf)
    build(det)


class LoadColors(BaseTransform):
    """A mask with three channels, for a head of one's own."""

    def transform(self, results):
        return dict(results, gt_seg_map=np.zeros((48, 64, 3), np.uint8))


def test_a_loader_of_masks_of_another_form(seg):
    pipeline = seg.train_dataloader.dataset.pipeline
    pipeline[1] = dict(type=register(TRANSFORMS, LoadColors))
    del pipeline[2]
    assert build(seg).train_dataloader.dataset[0]['gt_seg_map'].shape == (48, 64, 3)


def test_images_that_a_transform_chooses_from_folders(cls, root):
    class Chooses(BaseTransform):
        def transform(self, results):
            return dict(results, img_path=f'{results["img_path"]}/0.png')

    for name in 'ab':
        (root / 'videos' / name).mkdir(parents=True)
        shutil.copy(root / 'val' / '0.png', root / 'videos' / name)
    (root / 'list.txt').write_text('a 0\nb 1\n')
    dataset = cls.train_dataloader.dataset
    dataset.update(ann_file='list.txt', data_prefix='videos')
    assert 'files are not regular files' in problems(cls)
    dataset.pipeline.insert(0, dict(type=register(TRANSFORMS, Chooses)))
    assert build(cls).train_dataloader.dataset[0]['inputs'].shape == (3, 48, 64)


def test_an_archive_in_the_place_of_a_folder(seg, root):
    del seg.train_dataloader.dataset.pipeline[1:]
    with zipfile.ZipFile(root / 'images.zip', 'w') as archive:
        archive.writestr('0.png', bytes(3072))
    (root / 'list.txt').write_text('0\n')
    dataset = seg.train_dataloader.dataset
    dataset.update(ann_file='list.txt', data_prefix=dict(img_path='images.zip'))
    assert 'images.zip is not a folder with files' in problems(seg)
    loader = dict(type=register(TRANSFORMS, LoadFromZip), path=str(root / 'images.zip'))
    dataset.pipeline[0] = loader
    assert build(seg).train_dataloader.dataset[0]['img'].shape == (32, 32, 3)


class TestModelsThatGiveNoClasses:
    """Their labels may have any numbers."""

    def test_objects_of_any_kind(self, det, root):
        for name in ('train', 'val'):
            edit(root / f'{name}.json', lambda content: content['categories'].reverse())
        model = det.model
        det.model = dict(
            type='RPN',
            data_preprocessor=model.data_preprocessor,
            backbone=model.backbone,
            neck=model.neck,
            rpn_head=dict(
                type='RPNHead',
                in_channels=16,
                feat_channels=16,
                anchor_generator=model.bbox_head.anchor_generator,
            ),
            train_cfg=dict(rpn=model.train_cfg),
            test_cfg=dict(rpn=model.test_cfg),
        )
        det.val_evaluator.metric = 'proposal'
        build(det)

    def test_similar_images(self, cls, root):
        """The classes of a validation are others than those of the training."""
        shutil.copytree(root / 'classes', root / 'other')
        (root / 'other' / 'box').rename(root / 'other' / 'zebra')
        cls.train_dataloader.dataset.metainfo = None
        loader = copy.deepcopy(cls.test_dataloader)
        loader.dataset.update(metainfo=None, data_prefix='other')
        cls.update(val_dataloader=loader, val_cfg=dict())
        cls.val_evaluator = dict(type='RetrievalRecall', topk=1)
        assert 'The same classes have other labels' in problems(cls)
        model = cls.model
        cls.model = dict(
            type='ImageToImageRetriever',
            data_preprocessor=model.data_preprocessor,
            image_encoder=[model.backbone, model.neck],
            head=dict(type='ArcFaceClsHead', num_classes=2, in_channels=64),
            prototype=loader,
        )
        build(cls)

    def test_features(self, cls):
        cls.train_dataloader.dataset.metainfo = dict(classes=('disc', 'box'))
        cls.test_dataloader = cls.test_cfg = cls.test_evaluator = None
        cls.model = dict(
            type='SimSiam',
            backbone=cls.model.backbone,
            head=dict(
                type='LatentPredictHead',
                loss=dict(type='CosineSimilarityLoss'),
                predictor=dict(
                    type='NonLinearNeck',
                    in_channels=64,
                    hid_channels=8,
                    out_channels=64,
                ),
            ),
        )
        build(cls)
