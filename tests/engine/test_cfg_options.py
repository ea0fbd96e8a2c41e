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
