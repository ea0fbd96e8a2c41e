# SPDX-License-Identifier: Apache-2.0
"""The networks of the studies: which configs, with what changed."""

from mmadaptor.models import MambaAdaptor

from .run import CHECKPOINT, Run

SEGMENTOR = 'upernet_mamba_adaptor_b0_shapes'
BY_CLASS = {
    'val_evaluator.type': 'ClasswiseIoU',
    'custom_imports.imports': ['mmadaptor', 'studies.by_class'],
}
DIMS = (32, 64)
TWO_STAGES = dict(
    arch=dict(embed_dims=DIMS[0], depths=(2, 2), d_state=1, ssm_ratio=1.0),
    out_indices=(0, 1),
)
BEGUN = dict(
    init_cfg=dict(type='Pretrained', checkpoint=CHECKPOINT, prefix='backbone.')
)


def for_epochs(count: int) -> dict:
    """Options for a schedule of so many epochs, with one validation.

    Args:
        count: The epochs.

    Returns:
        The options.
    """
    return {
        'train_cfg.max_epochs': count,
        'train_cfg.val_interval': count,
        'param_scheduler.1.T_max': count,
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
        dict(
            type='mmadaptor.VMamba', arch=arch, scan_init='balanced', drop_path_rate=0.0
        ),
        **settings,
    )


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
        imports: [
            *options.get(imports, ['mmadaptor']),
            'benchmarks.convolutional_vmamba',
        ],
    }


def segment(
    name: str, after: Run | None = None, scanning: bool = True, **settings: object
) -> Run:
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
        type='FCNHead',
        _delete_=True,
        in_channels=DIMS,
        in_index=(0, 1),
        input_transform='resize_concat',
        channels=64,
        num_convs=1,
        kernel_size=1,
        concat_input=False,
        dropout_ratio=0.0,
        num_classes=7,
        norm_cfg=dict(type='BN'),
        align_corners=False,
        init_cfg=None,
        loss_decode=dict(type='CrossEntropyLoss', class_weight=[0.05] + [1.0] * 6),
    )
    options = {
        **for_epochs(5),
        **BY_CLASS,
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
                dict(
                    type='mmadaptor.StrictLoadHook',
                    optional=[r'\.(temporal|spatial)\.'],
                ),
            ],
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
        arch=dict(embed_dims=DIMS[0], depths=(depth,), d_state=1, ssm_ratio=1.0),
        out_indices=(0,),
    )


def corner(
    name: str,
    after: Run | None = None,
    depth: int = 1,
    data: dict | None = None,
    **settings: object,
) -> Run:
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
    train = dict(
        _delete_=True,
        type='Corners',
        pictures=2000,
        first=0,
        pipeline=pipeline,
        **(data or {}),
    )
    val = dict(train, pictures=300, first=train['pictures'])
    head = 'model.decode_head'
    plain = segment(name, after, **one_stage(depth), **settings)
    return Run(
        name,
        SEGMENTOR,
        {
            **plain.options,
            **for_epochs(6),
            'embedded_dataset': None,
            'train_dataloader.dataset': train,
            'val_dataloader.dataset': val,
            'test_dataloader.dataset': val,
            'optim_wrapper.optimizer.lr': 4e-3,
            'custom_imports.imports': [
                *BY_CLASS['custom_imports.imports'],
                'studies.corners',
            ],
            head: plain.options[head]
            | dict(
                in_channels=DIMS[:1],
                in_index=(0,),
                num_classes=3,
                loss_decode=dict(
                    type='CrossEntropyLoss', class_weight=[0.05, 1.0, 1.0]
                ),
            ),
        },
        after,
    )


def segment_some(
    name: str,
    classes: tuple[str, ...],
    after: Run | None = None,
    options: dict | None = None,
    **settings: object,
) -> Run:
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
    data = {
        f'{split}_dataloader.dataset.{key}': value
        for split in ('train', 'val', 'test')
        for key, value in dataset.items()
    }
    head = 'model.decode_head'
    changed = {
        f'{head}.num_classes': 1 + len(classes),
        f'{head}.loss_decode.class_weight': [0.05] + [1.0] * len(classes),
    }
    plain = segment(name, **settings)
    return Run(
        name, SEGMENTOR, {**plain.options, **data, **changed, **(options or {})}, after
    )


def lora(**settings: object) -> dict:
    """Options that put low-rank changes of a frozen backbone in place.

    Args:
        settings: The backbone's arguments.

    Returns:
        The options.
    """
    return {
        'model.backbone': dict(
            _delete_=True,
            type='mmpretrain.LoRAModel',
            alpha=16,
            rank=8,
            targets=[dict(type=r'.*mixer\.(in_proj|x_proj|out_proj)')],
            module=b0(**settings, **BEGUN),
        )
    }


def at_rate(rate: float) -> dict:
    """Options of a tuning.

    Args:
        rate: Its learning rate.

    Returns:
        The options.
    """
    return {
        'optim_wrapper.optimizer.lr': rate,
        'optim_wrapper.paramwise_cfg.bypass_duplicate': True,
    }
