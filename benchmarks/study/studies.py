"""The studies: which runs each compares, and by what."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import mean

from mmadaptor.models import MambaAdaptor

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
    """

    title: str
    runs: tuple[Run, ...]
    columns: Mapping[str, Column]
    share: bool = False


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
BY_CLASS = {
    'val_evaluator.type': 'ClasswiseIoU',
    'custom_imports.imports': ['mmadaptor', 'benchmarks.study.by_class']
}


def b0(**settings: object) -> dict:
    """The config of a backbone of b0's size, without adaptors.

    Args:
        settings: Its arguments, and its `type` if it is not `VMamba`.

    Returns:
        The config.
    """
    arch = dict(MambaAdaptor.arch_settings['b0'])
    return dict(
        dict(type='mmadaptor.VMamba', arch=arch, scan_init='balanced',
             drop_path_rate=0.), **settings)


def backbone(**settings: object) -> dict:
    """Options that put another backbone of b0's size in place.

    Args:
        settings: As `b0` takes them.

    Returns:
        The options.
    """
    return {'model.backbone': dict(b0(**settings), _delete_=True)}


def without_scan(options: dict) -> dict:
    """The same options with a backbone that does not scan.

    Args:
        options: As `backbone` makes them.

    Returns:
        The options.
    """
    key, imports = 'model.backbone', 'custom_imports.imports'
    return options | {
        key: options[key] | dict(type='mmadaptor.ConvolutionalVMamba'),
        imports: [*options.get(imports, ['mmadaptor']),
                  'benchmarks.convolutional_vmamba']}


PARTS = Study(
    'What each part gives a detector',
    (
        Run('untrained', DETECTOR, trained=False),
        Run('no scan', DETECTOR, without_scan(backbone())),
        Run('scan', DETECTOR, backbone()),
        Run('scan, both adaptors', DETECTOR),
    ),
    DETECTION | BY_PAIR)


DIMS = (32, 64)
TWO_STAGES = dict(
    arch=dict(
        embed_dims=DIMS[0], depths=(2, 2), d_state=1, ssm_ratio=1.),
    out_indices=(0, 1))


def segment(name: str, after: Run | None = None, scanning: bool = True,
            **settings: object) -> Run:
    """A small segmentor, for which far means far.

    Two stages and a head that mixes no pixels: what lies further than their few
    convolutions reach comes by the scan or the adaptors alone.

    Args:
        name: The run's.
        after: The run that it goes on from, with adaptors added if it has some.
        scanning: Whether its backbone scans.
        settings: Its backbone's arguments.

    Returns:
        The run.
    """
    head = dict(
        type='FCNHead', _delete_=True, in_channels=DIMS, in_index=(0, 1),
        input_transform='resize_concat', channels=64, num_convs=1,
        kernel_size=1, concat_input=False, dropout_ratio=0., num_classes=7,
        norm_cfg=dict(type='BN'), align_corners=False, init_cfg=None,
        loss_decode=dict(
            type='CrossEntropyLoss', class_weight=[.05] + [1.] * 6))
    options = {
        **for_epochs(5), **BY_CLASS,
        'model.decode_head': head,
        'model.auxiliary_head': None,
        **backbone(**(TWO_STAGES | settings)),
    }
    if not scanning:
        options = without_scan(options)
    if after:
        options |= {
            'load_from': CHECKPOINT,
            'custom_hooks': [
                dict(type='mmadaptor.EpochSeedHook'),
                dict(type='mmadaptor.StrictLoadHook',
                     optional=[r'\.(temporal|spatial)\.'])],
        }
    return Run(name, SEGMENTOR, options, after)


def one_stage(depth: int = 1) -> dict:
    """Arguments of a backbone whose convolutions do not reach.

    Args:
        depth: Its blocks.

    Returns:
        The arguments.
    """
    return dict(
        arch=dict(
            embed_dims=DIMS[0], depths=(depth, ), d_state=1, ssm_ratio=1.),
        out_indices=(0, ))


def corner(name: str, after: Run | None = None, depth: int = 1,
           data: dict | None = None, **settings: object) -> Run:
    """A segmentor of `corners`, of one stage.

    Args:
        name: The run's.
        after: The run that it goes on from, with adaptors added if it has some.
        depth: Its blocks.
        data: Further arguments of its dataset.
        settings: Its backbone's arguments.

    Returns:
        The run.
    """
    pipeline = [dict(type='DrawCorners'), dict(type='PackSegInputs')]
    train = dict(_delete_=True, type='Corners', pictures=2000, first=0,
                 pipeline=pipeline, **(data or {}))
    val = dict(train, pictures=300, first=train['pictures'])
    head = 'model.decode_head'
    plain = segment(name, after, **one_stage(depth), **settings)
    return Run(name, SEGMENTOR, {
        **plain.options, **for_epochs(6),
        'embedded_dataset': None,
        'train_dataloader.dataset': train,
        'val_dataloader.dataset': val,
        'test_dataloader.dataset': val,
        'optim_wrapper.optimizer.lr': 4e-3,
        'custom_imports.imports': [*BY_CLASS['custom_imports.imports'],
                                   'benchmarks.study.corners'],
        head: plain.options[head] | dict(
            in_channels=DIMS[:1], in_index=(0, ), num_classes=3,
            loss_decode=dict(type='CrossEntropyLoss',
                             class_weight=[.05, 1., 1.])),
    }, after)


T, S = dict(temporal=dict()), dict(spatial=dict())
BOTH = T | S
DISCS = {'discs, IoU': SEGMENTATION['discs, IoU']}
PLAIN_CORNER = corner('scan')
CORNERS = Study(
    'What the adaptors give where the cue is in no row or column',
    (
        PLAIN_CORNER,
        corner('scan, two blocks', depth=2),
        corner('scan, S, one scale',
               adaptors=dict(spatial=dict(dilations=(1, )))),
        corner('scan, S', adaptors=S),
        corner('scan, T, static places',
               adaptors=dict(temporal=dict(static=True))),
        corner('scan, T', adaptors=T),
        corner('scan, T and S', adaptors=BOTH),
    ),
    DISCS)

# Beside those of `CORNERS`, which has four places in each of two sequences.
VARIANTS = Study(
    'How many places and sequences a memory needs',
    tuple(corner(name, adaptors=dict(temporal=options))
          for name, options in {
              '1 place': dict(places=1),
              '2 places': dict(places=2),
              '8 places': dict(places=8),
              '1 sequence': dict(sequences=1),
              '4 sequences': dict(sequences=4),
          }.items()),
    DISCS)


PLAIN = segment('scan')
ABLATION = Study(
    'What the scan and the adaptors give a segmentor from scratch',
    (
        segment('no scan', scanning=False),
        segment("scan, VMamba's start", scan_init='vmamba'),
        PLAIN,
        segment('scan, T', adaptors=T),
        segment('scan, S', adaptors=S),
        segment('scan, T and S', adaptors=BOTH),
    ),
    SEGMENTATION)

BOOSTER = Study(
    'What adaptors give a trained base, against as much more training of it',
    (PLAIN, segment('base, trained on', PLAIN),
     segment('base, trained on with adaptors', PLAIN, adaptors=BOTH)),
    SEGMENTATION)
RAISED = corner('with T', PLAIN_CORNER, adaptors=T)
BOOSTER_CORNERS = Study(
    'What adaptors give a trained base that lacks a memory',
    (PLAIN_CORNER, corner('base, trained on', PLAIN_CORNER),
     corner('with S', PLAIN_CORNER, adaptors=S), RAISED,
     # The rates of the booster configs.
     Run('with T, the rest at a tenth', SEGMENTOR, RAISED.options | {
         'optim_wrapper.optimizer.lr': 4e-4,
         'optim_wrapper.paramwise_cfg.custom_keys': {
             '.temporal.': dict(lr_mult=10.),
             'temporal.gamma': dict(lr_mult=10., decay_mult=0.)},
     }, PLAIN_CORNER)),
    DISCS)


BEGUN = dict(init_cfg=dict(
    type='Pretrained', checkpoint=CHECKPOINT, prefix='backbone.'))


def segment_some(name: str, classes: tuple[str, ...], after: Run | None = None,
                 options: dict | None = None, **settings: object) -> Run:
    """The small segmentor of some of the classes; the others count as nothing.

    Args:
        name: The run's.
        classes: The classes beside the background.
        after: The run with whose backbone it begins.
        options: What else is changed.
        settings: Its backbone's arguments.

    Returns:
        The run.
    """
    metainfo = dict(_delete_=True, classes=('background', *classes))
    dataset = dict(type='ShapesOfSomeClasses', metainfo=metainfo)
    data = {f'{split}_dataloader.dataset.{key}': value
            for split in ('train', 'val', 'test')
            for key, value in dataset.items()}
    head = 'model.decode_head'
    changed = {
        f'{head}.num_classes': 1 + len(classes),
        f'{head}.loss_decode.class_weight': [.05] + [1.] * len(classes),
    }
    plain = segment(name, **settings)
    return Run(name, SEGMENTOR, {**plain.options, **data, **changed,
                                 **(options or {})}, after)


def lora(**settings: object) -> dict:
    """Options that put low-rank changes of a frozen backbone in place.

    Args:
        settings: The backbone's arguments.

    Returns:
        The options.
    """
    return {'model.backbone': dict(
        _delete_=True, type='mmpretrain.LoRAModel', alpha=16, rank=8,
        targets=[dict(type=r'.*mixer\.(in_proj|x_proj|out_proj)')],
        module=b0(**settings, **BEGUN))}


def at_rate(rate: float) -> dict:
    """Options of a tuning.

    Args:
        rate: Its learning rate.

    Returns:
        The options.
    """
    return {'optim_wrapper.optimizer.lr': rate,
            'optim_wrapper.paramwise_cfg.bypass_duplicate': True}


def tuning(new: str, rate_with_norms: float) -> Study:
    """The study of ways to tune a base to a pair of classes.

    Args:
        new: The pair, of `PAIRS`; the base is trained on the others.
        rate_with_norms: The learning rate of adaptors and norms, for which
            another one is best with each pair.

    Returns:
        The study.
    """
    base = segment_some('base', tuple(
        name for pair, names in PAIRS.items() if pair != new for name in names))

    def tuned(name: str, rate: float, options: dict | None = None,
              **settings: object) -> Run:
        return segment_some(name, PAIRS[new], base, {
            **at_rate(rate), **(options or {}),
        }, **BEGUN, **settings)

    column = f'{new}, IoU'
    return Study(
        f'How well a base learns {new} by what of it is tuned',
        (
            tuned('everything', 4e-3),
            tuned('head', 2e-2, trainable=[]),
            tuned('biases and norms', 2e-2, trainable=['biases', 'norms']),
            tuned('LoRA', 1e-2, lora(**TWO_STAGES)),
            tuned('adaptors', 2e-2, trainable=['adaptors'], adaptors=BOTH),
            tuned('shared adaptors', 2e-2, trainable=['adaptors'],
                  adaptors=dict(BOTH, share=True)),
            tuned('adaptors and norms', rate_with_norms,
                  trainable=['adaptors', 'norms'], adaptors=BOTH),
        ),
        {column: SEGMENTATION[column]}, share=True)


def tuning_corners() -> Study:
    """The study of ways to tune a base that lacks a memory.

    Returns:
        The study.
    """
    base = corner('base')
    below = dict(decides=3)  # the lamp below on the right

    def tuned(name: str, rate: float, options: dict | None = None,
              **settings: object) -> Run:
        plain = corner(name, data=below, **BEGUN, **settings)
        return Run(name, SEGMENTOR, plain.options | at_rate(rate) |
                   (options or {}), base)

    return Study(
        'How well a base without a memory learns another lamp',
        (
            tuned('everything', 4e-3),
            tuned('head', 2e-2, trainable=[]),
            tuned('biases and norms', 2e-2, trainable=['biases', 'norms']),
            tuned('LoRA', 1e-2, lora(**one_stage())),
            tuned('T', 2e-2, trainable=['adaptors'], adaptors=T),
            tuned('T and S', 2e-2, trainable=['adaptors'], adaptors=BOTH),
        ),
        DISCS, share=True)


TUNING = {f'tuning_{new}': tuning(new, rate)
          for new, rate in dict(discs=1e-2, stripes=2e-2).items()}
TUNING['tuning_corners'] = tuning_corners()

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

STUDIES = dict(
    parts=PARTS, ablation=ABLATION, corners=CORNERS, variants=VARIANTS,
    booster=BOOSTER, booster_corners=BOOSTER_CORNERS, **TUNING,
    transfer=TRANSFER)
