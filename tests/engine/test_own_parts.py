# SPDX-License-Identifier: Apache-2.0
"""What mmengine trains with is not refused: parts of the user's own, and odd settings.

mmengine's runner trains with each of these.
"""

import pytest
import torch
from helpers.jobs import RUNS, TOY, write_config
from helpers.toy import ToyDataset, ToyModel
from mmengine.config import Config
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.hooks import CheckpointHook, Hook
from mmengine.optim import OptimWrapper
from mmengine.registry import (
    DATA_SAMPLERS,
    DATASETS,
    FUNCTIONS,
    HOOKS,
    LOOPS,
    MODELS,
    OPTIM_WRAPPER_CONSTRUCTORS,
    OPTIM_WRAPPERS,
    VISBACKENDS,
    VISUALIZERS,
)
from mmengine.runner import EpochBasedTrainLoop
from mmengine.visualization import BaseVisBackend
from torch import nn
from torch.utils.data import BatchSampler, IterableDataset, get_worker_info

from mmadaptor.engine import Runner
from mmadaptor.engine.optim import layer_decay_of_toolbox
from mmadaptor.models import MambaAdaptor


@pytest.fixture
def cfg(tmp_path):
    cfg = Config.fromfile(write_config(tmp_path, TOY, work_dir=str(tmp_path / 'run')))
    cfg.train_cfg.max_epochs = 1
    cfg.train_dataloader.num_workers = 0
    return cfg


def train(cfg):
    cfg.experiment_name = f'own_{next(RUNS)}'
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


def without_validation(cfg):
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None


def register(registry, kind):
    registry.register_module(kind.__name__, module=kind, force=True)
    return kind.__name__


class EndingSampler(InfiniteSampler):
    def __iter__(self):
        return iter(range(8))


class EndingBatches(BatchSampler):
    def __iter__(self):
        return (batch for batch, _ in zip(super().__iter__(), range(4), strict=False))

    def __len__(self):
        return 4


def test_samplers_that_end(cfg):
    loader = cfg.train_dataloader
    loader.sampler = dict(type=register(DATA_SAMPLERS, EndingSampler))
    assert train(cfg).iter == 4
    loader.sampler = dict(type='InfiniteSampler')
    kind = register(DATA_SAMPLERS, EndingBatches)
    loader.batch_sampler = dict(type=kind, drop_last=False)
    assert train(cfg).iter == 4


def test_a_sampler_of_pairs(cfg):
    """Its class has the name of torch's."""

    class RandomSampler(DefaultSampler):
        def __iter__(self):
            return iter([(i, 'small') for i in super().__iter__()])

    class Pairs(ToyDataset):
        def __getitem__(self, pair):
            index, _ = pair
            return super().__getitem__(index)

    DATA_SAMPLERS.register_module('OwnSampler', module=RandomSampler, force=True)
    cfg.train_dataloader.update(
        dataset=dict(type=register(DATASETS, Pairs)), sampler=dict(type='OwnSampler')
    )
    train(cfg)


def test_samples_without_end(cfg):
    class Endless(IterableDataset):
        def __iter__(self):
            while True:
                yield dict(inputs=torch.rand(4))

    without_validation(cfg)
    cfg.train_dataloader.pop('dataset')
    dataset = dict(type=register(DATASETS, Endless))
    cfg.train_dataloader.update(dataset=dataset, sampler=None)
    cfg.train_cfg = dict(by_epoch=False, max_iters=3)
    cfg.default_hooks.logger = None  # it asks for the length
    assert train(cfg).iter == 3


@pytest.mark.parametrize(
    'settings',
    [
        dict(val_interval=0, val_begin=3),
        dict(val_interval=0, val_begin=2, dynamic_intervals=[(2, 1)]),
    ],
    ids=['never', 'later'],
)
def test_an_interval_of_validations_that_is_not_used(cfg, settings):
    cfg.train_cfg.update(max_epochs=2, **settings)
    train(cfg)


class WithoutValidation(EpochBasedTrainLoop):
    def run(self):
        self.runner.call_hook('before_train')
        while self._epoch < self._max_epochs:
            self.run_epoch()
        self.runner.call_hook('after_train')
        return self.runner.model


def test_a_loop_that_never_validates(cfg):
    kind = register(LOOPS, WithoutValidation)
    for epochs, resume in ((1, False), (2, True)):
        cfg.train_cfg = dict(type=kind, max_epochs=epochs, val_interval=0)
        cfg.resume = resume
        assert train(cfg).iter == 4 * epochs


@pytest.mark.parametrize('name', ['_clip_grad', 'step'])
def test_gradients_that_are_clipped_otherwise(cfg, name):
    seen = []

    def method(self, *args, **kwargs):
        seen.append(self.clip_grad_kwargs['factor'])

    Clips = type('Clips', (OptimWrapper,), {name: method, '__module__': __name__})
    kind = register(OPTIM_WRAPPERS, Clips)
    cfg.optim_wrapper.update(type=kind, clip_grad=dict(factor=0.5))
    train(cfg)
    assert seen == [0.5] * 4


class LayerDecayOptimizerConstructor:
    """It has the name of mmseg's, and other settings."""

    def __init__(self, optim_wrapper_cfg, paramwise_cfg=None):
        self.cfg = optim_wrapper_cfg

    def __call__(self, model):
        assert self.cfg['optimizer']['type'] == 'lamb of timm'
        return OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))


def test_a_constructor_that_takes_optimizers_from_elsewhere(cfg):
    kind = register(OPTIM_WRAPPER_CONSTRUCTORS, LayerDecayOptimizerConstructor)
    settings = dict(
        constructor=kind,
        optimizer=dict(type='lamb of timm'),
        paramwise_cfg=dict(layer_decay_rate=0.5),
    )
    cfg.optim_wrapper = settings
    train(cfg)
    model = nn.Module()
    small = dict(embed_dims=8, depths=(1,), d_state=1, ssm_ratio=1.0)
    model.backbone = MambaAdaptor(small, out_indices=(0,))
    assert layer_decay_of_toolbox(settings, model) is settings


class DrawsNothing:
    def __init__(self, **arguments):
        self.arguments = arguments

    def __getattr__(self, name):
        if name.startswith('_'):
            raise AttributeError(name)
        return lambda *args, **kwargs: None


class NoProgram(BaseVisBackend):
    """Writes what it is given; there is no object of another program."""

    @property
    def experiment(self):
        raise NotImplementedError

    def _init_env(self):
        """Nothing is to be set up."""

    add_config = add_graph = add_image = add_scalar = add_scalars = (
        lambda self, *args, **kwargs: None
    )


def test_visualizers(cfg):
    cfg.visualizer = dict(type=register(VISUALIZERS, DrawsNothing))
    train(cfg)
    backend = dict(type=register(VISBACKENDS, NoProgram))
    cfg.visualizer = dict(type='Visualizer', vis_backends=[backend])
    train(cfg)


def test_a_checkpoint_hook_without_mmengines_settings(cfg):
    class Own(CheckpointHook):
        def __init__(self):
            """Nothing is saved."""

        before_train = Hook.before_train
        after_train_iter = Hook.after_train_iter
        after_train_epoch = Hook.after_train_epoch
        after_val_epoch = Hook.after_val_epoch
        after_train = Hook.after_train

    cfg.default_hooks.checkpoint = dict(type=register(HOOKS, Own))
    train(cfg)


class Masked(ToyModel):
    def __init__(self, number, train):
        super().__init__()
        mask = torch.full((2,), float(number))
        self.mask = nn.Parameter(mask, requires_grad=train)


def test_a_frozen_mask_may_be_infinite(cfg):
    kind = register(MODELS, Masked)
    cfg.model = dict(type=kind, number='-inf', train=False)
    train(cfg)
    for number, trained in (('nan', False), ('inf', False), ('-inf', True)):
        cfg.model = dict(type=kind, number=number, train=trained)
        with pytest.raises(Exception, match='weights that are not finite: mask'):
            train(cfg)


def test_a_loss_that_is_only_logged_may_be_anything(cfg):
    """The gradients of each step are finite."""

    class Logs(ToyModel):
        def train_step(self, data, optim_wrapper):
            loss = super().train_step(data, optim_wrapper)['loss']
            return dict(loss_a=loss, loss_b=torch.tensor(float('nan')))

    cfg.train_cfg.max_epochs = 4
    cfg.model = dict(type=register(MODELS, Logs))
    assert train(cfg).iter == 16


def test_weights_by_a_method_of_ones_own(cfg):
    """What `init_cfg` names is no path; also in a training that is resumed."""

    class OfLibrary(ToyModel):
        def init_weights(self):
            assert self.init_cfg['checkpoint'] == 'library/name'

    init_cfg = dict(type='Pretrained', checkpoint='library/name')
    cfg.model = dict(type=register(MODELS, OfLibrary), init_cfg=init_cfg)
    train(cfg)
    cfg.update(resume=True)
    cfg.train_cfg.max_epochs = 2
    assert train(cfg).epoch == 2


class NeedsState(ToyModel):
    """Needs what a hook, or its own training, makes."""

    def __init__(self, mode):
        super().__init__()
        self.needs = mode

    def forward(self, inputs, data_samples=None, mode='tensor'):
        if mode == self.needs:
            assert self.state
        return super().forward(inputs, data_samples, mode)


@pytest.mark.parametrize(
    'mode, point',
    [
        ('loss', 'after_load_checkpoint'),
        ('predict', 'after_load_checkpoint'),
        ('predict', 'before_train'),
        ('predict', 'after_train_iter'),
        ('predict', 'after_train_epoch'),
    ],
)
def test_a_hook_may_make_what_a_model_needs(cfg, mode, point, tmp_path):
    def make(self, runner, *args, **kwargs):
        runner.model.state = True

    Makes = type('Makes', (Hook,), {point: make, '__module__': __name__})
    cfg.model = dict(type=register(MODELS, NeedsState), mode=mode)
    cfg.custom_hooks = [dict(type=register(HOOKS, Makes))]
    state = NeedsState(mode).state_dict()
    torch.save(dict(state_dict=state), tmp_path / 'weights.pth')
    cfg.load_from = str(tmp_path / 'weights.pth')
    train(cfg)


def test_a_training_step_may_make_what_a_model_needs(cfg):
    class Steps(NeedsState):
        def train_step(self, data, optim_wrapper):
            self.state = True
            return super().train_step(data, optim_wrapper)

    cfg.model = dict(type=register(MODELS, Steps), mode='predict')
    train(cfg)


@pytest.mark.parametrize('name', ['self', 'kept', 'default'])
def test_a_hook_that_keeps_what_a_layer_returns(cfg, name):
    """In a copy of the model it would keep it in the model."""

    class Keeps(ToyModel):
        def __init__(self):
            super().__init__()
            self.kept = kept = {}

            def into_self(module, inputs, output):
                self.kept['layer'] = output

            def into_kept(module, inputs, output):
                kept['layer'] = output

            def into_default(module, inputs, output, owner=self):
                owner.kept['layer'] = output

            hooks = dict(self=into_self, kept=into_kept, default=into_default)
            self.layer.register_forward_hook(hooks[name])

        def forward(self, inputs, data_samples=None, mode='tensor'):
            self.kept.clear()
            outputs = super().forward(inputs, data_samples, mode)
            assert 'layer' in self.kept
            return outputs

    cfg.model = dict(type=register(MODELS, Keeps))
    train(cfg)


def open_in_worker(worker_id, **kwargs):
    get_worker_info().dataset.handle = 'open'


def test_a_dataset_that_is_opened_in_its_workers(cfg):
    class Opened(ToyDataset):
        def prepare_data(self, index):
            assert self.handle == 'open'
            return super().prepare_data(index)

    FUNCTIONS.register_module('open_in_worker', module=open_in_worker, force=True)
    dataset = dict(type=register(DATASETS, Opened))
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.update(
            dataset=dataset, num_workers=1, worker_init_fn=dict(type='open_in_worker')
        )
    train(cfg)
