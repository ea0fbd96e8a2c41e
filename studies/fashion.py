# SPDX-License-Identifier: Apache-2.0
"""Fashion-MNIST: classifiers from scratch, and five classes learned after five."""

from dataclasses import dataclass, field

from .networks import BEGUN, at_rate, for_epochs, low_rank
from .parts import S, T, parts
from .run import SEED, Run
from .study import Study, average

CONFIG, ADAPTED = 'vmamba_fashion', 'mamba_adaptor_fashion'
BASE_CLASSES = ('sandal', 'shirt', 'sneaker', 'bag', 'ankle_boot')
NEW_CLASSES = ('t_shirt', 'trouser', 'pullover', 'dress', 'coat')
# Images per class, and epochs with batches of 32; with all images of 128.
EPOCHS = {10: 100, 50: 40, 200: 15, None: 2}
RATES = (1e-3, 4e-3, 1.6e-2, 6.4e-2, 0.256)


def classify(
    name: str,
    classes: tuple[str, ...],
    epochs: int,
    per_class: int | None = None,
    test: str = 'test',
    config: str = CONFIG,
    **options: object,
) -> Run:
    """Return the run of a classifier of some classes.

    Args:
        name: Name of the run.
        classes: The classes.
        epochs: Epochs of training.
        per_class: Training images of each class, drawn anew for each seed. None: all.
        test: Split that it is tested on.
        config: The classifier of all classes.
        options: Further overrides; `after` is the run that it starts from.
    """
    after = options.pop('after', None)
    data = {
        f'{split}_dataloader.{key}': value
        for split in ('train', 'val', 'test')
        for key, value in {
            'dataset.type': 'SomeClasses',
            'dataset.metainfo': None,
            'dataset.classes': classes,
            'num_workers': 0,
        }.items()
    }
    return Run(
        name,
        config,
        {
            **data,
            'train_dataloader.dataset.per_class': per_class,
            'train_dataloader.dataset.seed': SEED,
            'val_dataloader.dataset.data_prefix': test,
            'custom_imports.imports': [
                'mmadaptor',
                'mmadaptor.engine',
                'studies.some_classes',
                'studies.tuning_layers',
            ],
            'model.head.num_classes': len(classes),
            'data_preprocessor.num_classes': len(classes),
            **for_epochs(epochs),
            **options,
        },
        after,
    )


BASE = classify('base', BASE_CLASSES, 4)


@dataclass(frozen=True)
class Method:
    """A way to tune the base.

    Args:
        rate: Learning rate.
        backbone: Arguments of the backbone.
        lora: Regular expression for the layers with low-rank updates.
        rates: Other learning rates, by the number of training images per class (None:
            all), e.g. `{200: 1e-3}`.
    """

    rate: float
    backbone: dict = field(default_factory=dict)
    lora: str = ''
    rates: dict[int | None, float] = field(default_factory=dict)

    def rate_with(self, per_class: int | None) -> float:
        """Return the learning rate for a number of training images per class."""
        return self.rates.get(per_class, self.rate)

    def options(self) -> dict:
        """Return the overrides of the config."""
        if not self.lora:
            backbone = {**self.backbone, **BEGUN}
            return {f'model.backbone.{k}': v for k, v in backbone.items()}
        arch = dict(embed_dims=64, depths=(2, 2), d_state=1, ssm_ratio=1.0)
        module = dict(
            type='mmadaptor.VMamba',
            arch=arch,
            out_indices=(1,),
            scan_init='balanced',
            **BEGUN,
        )
        return low_rank(module, self.lora)


def of_ours(adaptors: dict, *more: str) -> dict:
    """Return the arguments of a backbone whose adaptors train, and `more`."""
    return dict(adaptors=adaptors, trainable=['adaptors', *more])


def of_others(method: str, **settings: object) -> dict:
    """Return the arguments of a backbone with the layers of another paper."""
    return dict(type='mmadaptor.TunedVMamba', method=method, **settings)


# Each has the best of `RATES` with 50 images per class, on the validation images
# (`python -m studies tuning_fashion_50_rates --seeds 1`, then `python -m studies.rates
# tuning_fashion_50_rates`). `rates` has those of other numbers of images: the best of
# this rate and its neighbors.
METHODS = {
    'full': Method(4e-3, rates={200: 1e-3}),
    'linear': Method(0.256, dict(trainable=[])),
    'BitFit': Method(0.256, dict(trainable=['biases']), rates={None: 6.4e-2}),
    'norms': Method(0.256, dict(trainable=['norms']), rates={200: 6.4e-2}),
    'depthwise conv': Method(
        6.4e-2, dict(trainable=[r'mixer\.conv\.']), rates={200: 0.256}
    ),
    'norms, conv': Method(
        6.4e-2, dict(trainable=['norms', r'mixer\.conv\.']), rates={200: 1.6e-2}
    ),
    'A and D': Method(
        0.256, dict(trainable=[r'mixer\.(A_log|D)$']), rates={200: 1.024}
    ),
    'state offset': Method(0.256, of_others('state_offset')),
    'LoRA, in_proj': Method(6.4e-2, lora='in_proj', rates={None: 1.6e-2}),
    'LoRA, all of the scan': Method(
        1.6e-2, lora='in_proj|x_proj|out_proj', rates={200: 4e-3}
    ),
    'ParallelAdapter': Method(
        6.4e-2, of_others('parallel', rank=16), rates={None: 0.256}
    ),
    'Mona-like': Method(1.6e-2, of_others('mona', rank=8), rates={None: 6.4e-2}),
    'T': Method(0.256, of_ours(T), rates={200: 6.4e-2, None: 6.4e-2}),
    'S': Method(0.256, of_ours(S), rates={200: 1.024}),
    'T and S': Method(0.256, of_ours(T | S), rates={200: 1.024}),
    'T and S, shared': Method(0.256, of_ours(dict(T | S, share=True))),
    'T and S, norms': Method(6.4e-2, of_ours(T | S, 'norms')),
    'T and S, norms, conv': Method(
        6.4e-2, of_ours(T | S, 'norms', r'mixer\.conv\.'), rates={None: 1.6e-2}
    ),
}
STEM = r'downsample_layers\.0\.'
# Rows with all images only, where training the stem helped on the validation images.
MORE_METHODS = {
    'norms, conv, stem': Method(
        1.6e-2, dict(trainable=['norms', r'mixer\.conv\.', STEM])
    ),
    'T and S, norms, conv, stem': Method(
        6.4e-2, of_ours(T | S, 'norms', r'mixer\.conv\.', STEM)
    ),
}


def methods_with(per_class: int | None) -> dict[str, Method]:
    """Return the methods that are compared at a number of training images per class."""
    return METHODS if per_class else METHODS | MORE_METHODS


def tuned(
    name: str,
    method: Method,
    per_class: int | None,
    rate: float | None = None,
    test: str = 'test',
    base: Run = BASE,
) -> Run:
    """Return the run of a method.

    Args:
        name: Name of the run.
        method: The method.
        per_class: Training images of each class. None: all.
        rate: Learning rate, if it is not the method's.
        test: Split that it is tested on.
        base: The run that is tuned.
    """
    return classify(
        name,
        NEW_CLASSES,
        EPOCHS[per_class],
        per_class,
        test,
        base.config,
        after=base,
        **{
            'train_dataloader.batch_size': 32 if per_class else 128,
            'default_hooks.checkpoint.interval': EPOCHS[per_class],
            'param_scheduler.0.end': 50,
            **at_rate(rate or method.rate_with(per_class)),
        },
        **method.options(),
    )


def tuning(
    per_class: int | None, methods: dict[str, Method] = METHODS, base: Run = BASE
) -> Study:
    """Return the study of all methods with a number of training images per class."""
    runs = [
        tuned(name, method, per_class, base=base) for name, method in methods.items()
    ]
    return Study(
        f'{base.config}: ways to tune, {per_class or 5500} images per class',
        tuple(runs),
        ACCURACY,
        share=True,
        baseline=runs[0],
    )


def around(rate: float) -> tuple[float, ...]:
    """Return a learning rate and its neighbors, at the distance of `RATES`."""
    return rate / 4, rate, rate * 4


def rates(
    per_class: int | None, methods: dict[str, Method] = METHODS, base: Run = BASE
) -> Study:
    """Return the study of the rates of all methods, on the validation images.

    With 50 images per class it tries `RATES`, else the rate of 50 images and its
    neighbors.
    """
    return Study(
        f'{base.config}: learning rates, {per_class or 5500} images per class',
        tuple(
            tuned(f'{name}, {rate:g}', method, per_class, rate, 'val', base)
            for name, method in methods.items()
            for rate in (RATES if per_class == 50 else around(method.rate))
        ),
        ACCURACY,
        share=True,
    )


def from_scratch(name: str, config: str) -> Run:
    """Return the run of a classifier of all classes, for two epochs."""
    return Run(
        name,
        config,
        {
            **for_epochs(2),
            'train_dataloader.num_workers': 0,
            'val_dataloader.num_workers': 0,
            'val_dataloader.dataset.data_prefix': 'test',
        },
    )


ACCURACY = {'top-1': average('accuracy/top1')}
TUNING_FASHION = {
    f'tuning_fashion_{per_class or "all"}': tuning(per_class, methods_with(per_class))
    for per_class in EPOCHS
}
TUNING_FASHION |= {
    f'tuning_fashion_{per_class or "all"}_rates': rates(
        per_class, methods_with(per_class)
    )
    for per_class in EPOCHS
}

SCAN = from_scratch('scan', CONFIG)
FASHION = Study(
    'Fashion-MNIST: parts of the classifier',
    parts(
        from_scratch('ResNet of equal size', 'baselines/resnet_fashion'), SCAN, ADAPTED
    ),
    ACCURACY,
    baseline=SCAN,
)
