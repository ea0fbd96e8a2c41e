# SPDX-License-Identifier: Apache-2.0
"""Options that match nothing are errors that name the closest key."""

import pytest
from mmengine.config import Config

from mmadaptor.engine.cfg_options import merge_options
from mmadaptor.errors import InputError


def config():
    return Config(
        dict(
            model=dict(
                type='ToyModel',
                init_cfg=None,
                parts=[dict(a=1), dict(a=2)],
                adaptors=dict(temporal=dict()),
                test_cfg=dict(rcnn=dict(score_thr=0.05)),
            ),
            train_cfg=dict(by_epoch=True, max_epochs=12),
            train_dataloader=dict(batch_size=2),
            optim_wrapper=dict(type='OptimWrapper', optimizer=dict(lr=0.1)),
        )
    )


@pytest.mark.parametrize(
    'key, closest',
    [
        ('train_cfg.max_epoch', 'train_cfg.max_epochs'),
        ('trian_cfg.max_epochs', 'train_cfg'),
        ('optim_wrapper.optimizer.lrr', 'optim_wrapper.optimizer.lr'),
        ('train_dataloader.batchsize', 'train_dataloader.batch_size'),
        ('model.parts.0.b', 'model.parts.0 has no'),
        ('model.test_cfg.rcnn.score_th', 'model.test_cfg.rcnn.score_thr'),
    ],
)
def test_misspelled_keys_name_the_closest(key, closest):
    with pytest.raises(InputError) as error:
        merge_options(config(), {key: 3})
    assert key in str(error.value)
    assert closest in str(error.value)
    assert 'To add a new key, write +key=value.' in str(error.value)


def test_all_misspelled_keys_are_named_at_once():
    with pytest.raises(InputError, match=r'(?s)\.max_epoch:.*\.lrr:'):
        merge_options(
            config(), {'train_cfg.max_epoch': 3, 'optim_wrapper.optimizer.lrr': 1}
        )


@pytest.mark.parametrize(
    'key, says',
    [
        ('model.parts.2.a', "model.parts has no '2'. It has 0, 1"),
        ('train_cfg.max_epochs.x', 'is of type int and has no keys'),
    ],
)
def test_keys_into_lists_and_numbers(key, says):
    with pytest.raises(InputError, match=says):
        merge_options(config(), {key: 3})


@pytest.mark.parametrize(
    'key',
    [
        'train_cfg.max_epochs',
        'train_cfg.val_begin',  # an argument of the loop
        'model.width',  # of a class, which refuses a wrong one by name
        'model.init_cfg.checkpoint',  # below one that is None
        'train_dataloader.pin_memory',  # of torch's loader
        'optim_wrapper.clip_grad.max_norm',
        'randomness.seed',  # of the runner
        'model.parts.1.a',
        'model.adaptors.temporal.places',
        'model.adaptors.share',
        '+model.anything.new',
        '+new.key',
    ],
)
def test_keys_that_something_takes(key):
    cfg = config()
    merge_options(cfg, {key: 7})
    node = cfg
    for part in key.removeprefix('+').split('.'):
        node = node[int(part)] if part.isdigit() else node[part]
    assert node == 7


OTHERS = dict(
    randomness=dict(seed=0),
    optim_wrapper=dict(optimizer=dict(type='SGD'), clip_grad=dict(max_norm=1)),
    auto_scale_lr=dict(base_batch_size=256),
    env_cfg=dict(dist_cfg=dict(backend='nccl'), mp_cfg=dict(mp_start_method='fork')),
    default_hooks=dict(checkpoint=dict(type='CheckpointHook')),
    model=dict(test_cfg=dict(mode='whole'), train_cfg=dict()),
    train_cfg=dict(max_epochs=1),
    val_cfg=dict(),
    data_preprocessor=dict(mean=[1]),
    compile=dict(mode='default'),
)


@pytest.mark.parametrize(
    'key',
    [
        'randomness.deterministic',
        'randomness.diff_rank_seed',
        'optim_wrapper.type',
        'optim_wrapper.constructor',
        'optim_wrapper.accumulative_counts',
        'optim_wrapper.loss_scale',
        'optim_wrapper.clip_grad.norm_type',
        'optim_wrapper.clip_grad.type',
        'optim_wrapper.paramwise_cfg.norm_decay_mult',
        'optim_wrapper.paramwise_cfg.custom_keys.head.lr_mult',
        'auto_scale_lr.enable',
        'env_cfg.cudnn_benchmark',
        'env_cfg.resource_limit',
        'env_cfg.mp_cfg.opencv_num_threads',
        'env_cfg.dist_cfg.timeout',
        'train_cfg.by_epoch',
        'train_cfg.max_iters',
        'val_cfg.fp16',
        'data_preprocessor.to_onehot',
        'default_hooks.non_finite',
        'default_hooks.logger.interval',
        'compile.backend',
        'compile',
        'activation_checkpointing',
        'efficient_conv_bn_eval',
        'find_unused_parameters',
        'sync_bn',
    ],
)
def test_arguments_that_the_runner_gives_on_are_known(key):
    cfg = Config(OTHERS)
    merge_options(cfg, {key: 7})
    for part in key.split('.'):
        cfg = cfg[part]
    assert cfg == 7


def test_known_keys_are_added_to_those_that_exist():
    cfg = Config(OTHERS)
    cfg.optim_wrapper.paramwise_cfg = dict(custom_keys={'norm': dict(decay_mult=0.0)})
    merge_options(cfg, {'optim_wrapper.paramwise_cfg.bias_lr_mult': 2})
    merge_options(cfg, {'optim_wrapper.paramwise_cfg.custom_keys.head.lr_mult': 3})
    assert cfg.optim_wrapper.paramwise_cfg == dict(
        custom_keys=dict(norm=dict(decay_mult=0.0), head=dict(lr_mult=3)),
        bias_lr_mult=2,
    )


@pytest.mark.parametrize(
    'key, says',
    [
        ('randomness.sed', r'Did you mean randomness\.seed\?'),
        (
            'optim_wrapper.clip_grad.maxnorm',
            r'Did you mean optim_wrapper\.clip_grad\.max_n',
        ),
        ('env_cfg.mp_cfg.start', r'mp_start_method'),
        ('val_cfg.max_epochs', r"val_cfg has no 'max_epochs'\. It has fp16, type\."),
        ('model.test_cfg.stride', r"model\.test_cfg has no 'stride'\. It has mode\."),
        ('model.train_cfg.max_epochs', r"no 'max_epochs'\. It has no keys\."),
        (
            'default_hooks.chekpoint.interval',
            r'Did you mean default_hooks\.checkpoint\?',
        ),
    ],
)
def test_their_misspellings_name_their_own_keys(key, says):
    with pytest.raises(InputError, match=says):
        merge_options(Config(OTHERS), {key: 3})
