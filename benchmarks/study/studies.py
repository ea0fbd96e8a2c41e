"""The studies: which runs each compares, and by what."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import mean

from mmadaptor.models import MambaAdaptor

from .classes import NEW, OLD, root_of, split_classes
from .run import CHECKPOINT, Run

DETECTOR = 'mask_rcnn_mamba_adaptor_b0_shapes'
SEGMENTOR = 'upernet_mamba_adaptor_b0_shapes'
CLASSIFIER = 'mamba_adaptor_b0_shapes'
Metrics = Mapping[str, float]
Column = Callable[[Metrics], float]


@dataclass(frozen=True)
class Study:
    """Runs that are compared.

    Args:
        title: What it asks.
        runs: The rows of its table.
        columns: The columns of its table, in points: how to tell them from
            the metrics that a run recorded. A run may lack some.
        share: Whether the share of the parameters that trains is a column too.
        prepare: What makes its data, where the dataset itself is not enough.
    """

    title: str
    runs: tuple[Run, ...]
    columns: Mapping[str, Column]
    share: bool = False
    prepare: Callable[[], None] | None = None


def average(*names: str, points: float = 1.) -> Column:
    """A column that is the mean of some metrics.

    Args:
        names: The metrics.
        points: What one of the metric is in points.

    Returns:
        The column.
    """
    return lambda metrics: points * mean(metrics[name] for name in names)


def for_epochs(count: int) -> dict:
    """Options for a schedule of so many epochs, with one validation.

    Args:
        count: The epochs.

    Returns:
        The options.
    """
    return {'train_cfg.max_epochs': count, 'train_cfg.val_interval': count,
            'param_scheduler.1.T_max': count}


PAIRS = dict(discs=('disc_off', 'disc_on'), stripes=('columns', 'rows'),
             stars=('star5', 'star6'))
DETECTION = {
    'box AP': average('coco/bbox_mAP', points=100),
    'mask AP': average('coco/segm_mAP', points=100),
}
BY_PAIR = {
    f'{pair}, mask AP': average(
        *(f'coco/{name}_precision' for name in names), points=100)
    for pair, names in PAIRS.items()
}
SEGMENTATION = {'mIoU': average('mIoU')} | {
    f'{pair}, IoU': average(*(f'IoU_{name}' for name in names))
    for pair, names in PAIRS.items()
}
BY_CLASS = {'val_evaluator.type': 'ClasswiseIoU',
            'custom_imports.imports': ['mmadaptor', 'benchmarks.study.metrics']}


def b0(**settings: object) -> dict:
    """The config of a backbone of b0's size, without adaptors.

    Args:
        settings: Its arguments, and its `type` if it is not `VMamba`.

    Returns:
        The config.
    """
    arch = dict(MambaAdaptor.arch_settings['b0'])
    return dict(
        dict(type='mmadaptor.VMamba', arch=arch, drop_path_rate=0.), **settings)


def backbone(**settings: object) -> dict:
    """Options that put another backbone of b0's size in place.

    Args:
        settings: As `b0` takes them.

    Returns:
        The options.
    """
    return {'model.backbone': dict(b0(**settings), _delete_=True)}


PARTS = Study(
    'What each part gives a detector',
    (
        Run('untrained', DETECTOR, trained=False),
        Run('no scan', DETECTOR, {
            **backbone(type='mmadaptor.ConvolutionalVMamba'),
            'custom_imports.imports': [
                'mmadaptor', 'benchmarks.convolutional_vmamba']}),
        Run('scan', DETECTOR, backbone()),
        Run('scan, both adaptors', DETECTOR),
    ),
    DETECTION | BY_PAIR)


def adapted(name: str, **adaptors: dict) -> Run:
    """A segmentor of the ablation.

    Args:
        name: The run's.
        adaptors: The backbone's.

    Returns:
        The run.
    """
    return Run(name, SEGMENTOR, {
        **for_epochs(2), **BY_CLASS, **backbone(adaptors=adaptors or None)})


ABLATION = Study(
    'Which adaptors, and which kind of them, help a segmentor from scratch',
    (
        adapted('none'),
        adapted('T', temporal=dict()),
        adapted('S', spatial=dict()),
        adapted('T and S', temporal=dict(), spatial=dict()),
        adapted('T, static places', temporal=dict(static=True)),
        adapted('T, 2 places', temporal=dict(places=2)),
        adapted('T, 8 places', temporal=dict(places=8)),
        adapted('T, 1 sequence', temporal=dict(sequences=1)),
        adapted('T, 4 sequences', temporal=dict(sequences=4)),
        adapted('S, one scale', spatial=dict(dilations=(1, ))),
    ),
    SEGMENTATION)

PLAIN_BASE = Run('base', SEGMENTOR, {
    **for_epochs(2), **BY_CLASS, **backbone()})


def raised(name: str, **settings: object) -> Run:
    """A segmentor that goes on from the plain base.

    Args:
        name: The run's.
        settings: Its backbone's arguments.

    Returns:
        The run.
    """
    return Run(name, SEGMENTOR, {
        **for_epochs(2), **BY_CLASS, **backbone(**settings),
        'load_from': CHECKPOINT,
        'custom_hooks': [
            dict(type='mmadaptor.EpochSeedHook'),
            dict(type='mmadaptor.StrictLoadHook',
                 optional=[r'\.(temporal|spatial)\.'])],
    }, after=PLAIN_BASE)


BOOSTER = Study(
    'What adaptors give a trained base, against as much more training of it',
    (PLAIN_BASE, raised('base, trained on'),
     raised('base, trained on with adaptors',
            adaptors=dict(temporal=dict(), spatial=dict()))),
    SEGMENTATION)



def classify(name: str, classes: tuple[str, ...], epochs: int, options: dict,
             after: Run | None = None) -> Run:
    """A classifier of some of the classes.

    Args:
        name: The run's.
        classes: The classes.
        epochs: Of its training.
        options: What else is changed.
        after: The run with whose backbone it begins.

    Returns:
        The run.
    """
    data = {f'{split}_dataloader.dataset': dict(
        data_root=root_of(classes), metainfo=dict(classes=classes))
        for split in ('train', 'val', 'test')}
    return Run(name, CLASSIFIER, {
        **for_epochs(epochs), **data, 'model.head.num_classes': len(classes),
        'model.data_preprocessor.num_classes': len(classes), **options
    }, after)


OLD_BASE = classify('base', OLD, 2, backbone(out_indices=(3, )))
BEGUN = dict(init_cfg=dict(
    type='Pretrained', checkpoint=CHECKPOINT, prefix='backbone.'))


def tuned(name: str, rate: float, **settings: object) -> Run:
    """The base, tuned to new classes.

    Args:
        name: The run's.
        rate: Its learning rate.
        settings: Its backbone's arguments.

    Returns:
        The run.
    """
    options = backbone(out_indices=(3, ), **BEGUN, **settings)
    return transferred(name, rate, options)


def transferred(name: str, rate: float, options: dict) -> Run:
    """A classifier of the new classes.

    Args:
        name: The run's.
        rate: Its learning rate.
        options: What makes its backbone.

    Returns:
        The run.
    """
    return classify(name, NEW, 4, {
        'optim_wrapper.optimizer.lr': rate,
        'optim_wrapper.paramwise_cfg.bypass_duplicate': True, **options,
    }, after=OLD_BASE)


LORA = {'model.backbone': dict(
    _delete_=True, type='LoRAModel', alpha=16, rank=8,
    targets=[dict(type=r'.*mixer\.(in_proj|x_proj|out_proj)')],
    module=b0(out_indices=(3, ), **BEGUN))}
BOTH = dict(temporal=dict(), spatial=dict())
TUNING = Study(
    'How well a classifier of new classes does by what of a base it tunes',
    (
        tuned('everything', 5e-4),
        tuned('head', 2e-3, trainable=[]),
        tuned('biases and norms', 2e-3, trainable=['biases', 'norms']),
        transferred('LoRA', 2e-3, LORA),
        tuned('adaptors', 2e-3, trainable=['adaptors'], adaptors=BOTH),
        tuned('shared adaptors', 2e-3, trainable=['adaptors'],
              adaptors=dict(BOTH, share=True)),
    ),
    {'top-1': average('accuracy/top1')}, share=True, prepare=split_classes)

CLASSES = Run('classifier', CLASSIFIER)
PRETRAINED = {f'model.backbone.init_cfg.{key}': value
              for key, value in BEGUN['init_cfg'].items()}
TRANSFER = Study(
    'What pretraining as a classifier gives after an epoch',
    (
        Run('detector, from scratch', DETECTOR, for_epochs(1)),
        Run('detector, pretrained', DETECTOR,
            for_epochs(1) | PRETRAINED, after=CLASSES),
        Run('segmentor, from scratch', SEGMENTOR, for_epochs(1)),
        Run('segmentor, pretrained', SEGMENTOR,
            for_epochs(1) | PRETRAINED, after=CLASSES),
    ),
    DETECTION | {'mIoU': average('mIoU')})

STUDIES = dict(parts=PARTS, ablation=ABLATION, booster=BOOSTER, tuning=TUNING,
               transfer=TRANSFER)
