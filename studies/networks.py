# SPDX-License-Identifier: Apache-2.0
"""Networks of the studies, as base configs with overrides."""

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
    """Return overrides that train for `count` epochs and validate once at the end."""
    return {
        'train_cfg.max_epochs': count,
        'train_cfg.val_interval': count,
        'param_scheduler.1.T_max': count,
    }


def b0(**settings: object) -> dict:
    """Return the config of a backbone of size b0 without adaptors.

    Args:
        settings: Arguments of the backbone, and `type` if it is not `VMamba`.
    """
    arch = dict(MambaAdaptor.arch_settings['b0'])
    return dict(
        dict(
            type='mmadaptor.VMamba', arch=arch, scan_init='balanced', drop_path_rate=0.0
        ),
        **settings,
    )


def backbone(**settings: object) -> dict:
    """Return overrides that replace the backbone by `b0(**settings)`."""
    return {'model.backbone': dict(b0(**settings), _delete_=True)}


def without_scan(options: dict) -> dict:
    """Return `options` (those of `backbone`) with a backbone without scans."""
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
    """Return a run of a small segmentor with a limited convolutional receptive field.

    It has two stages and a head of 1x1 convolutions, so information from beyond
    the reach of its few convolutions arrives only through the scan or the adaptors.

    Args:
        name: Name of the run.
        after: Run whose checkpoint it starts from; adaptors missing there are added.
        scanning: Whether the backbone has scans.
        settings: Arguments of the backbone.
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
            'default_hooks.strict_load.optional': [r'\.(temporal|spatial)\.'],
        }
    return Run(name, SEGMENTOR, options, after)


def one_stage(depth: int = 1) -> dict:
    """Return backbone arguments for one stage, whose receptive field is small.

    Args:
        depth: Number of blocks.
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
    """Return a run of a one-stage segmentor on `corners`.

    Args:
        name: Name of the run.
        after: Run whose checkpoint it starts from; adaptors missing there are added.
        depth: Number of blocks.
        data: Further arguments of the dataset.
        settings: Arguments of the backbone.
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
    """Return a run of the small segmentor on a subset of the classes.

    Pixels of the other classes are ignored.

    Args:
        name: Name of the run.
        classes: Classes in addition to the background.
        after: Run that its backbone is initialized from.
        options: Further overrides.
        settings: Arguments of the backbone.
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
    """Return overrides that wrap the frozen `b0(**settings)` in LoRA."""
    return low_rank(b0(**settings, **BEGUN), 'in_proj|x_proj|out_proj')


def low_rank(module: dict, layers: str) -> dict:
    """Return overrides that wrap a frozen backbone in LoRA.

    Args:
        module: Config of the backbone.
        layers: Regular expression for the layers of its mixers that are updated.
    """
    return {
        'model.backbone': dict(
            _delete_=True,
            type='mmpretrain.LoRAModel',
            alpha=16,
            rank=8,
            targets=[dict(type=rf'.*mixer\.({layers})')],
            module=module,
        )
    }


def at_rate(rate: float) -> dict:
    """Return overrides that set the learning rate."""
    return {'optim_wrapper.optimizer.lr': rate}
