# SPDX-License-Identifier: Apache-2.0
"""tools/train.py as a user runs it."""

import argparse
import runpy
import shutil

import pytest
import torch
from helpers.jobs import (
    CLASSIFIER,
    DETECTOR,
    ROOT,
    SEGMENTOR,
    TOY,
    refusal,
    tool,
    write_coco,
    write_config,
    write_labels,
)
from mmengine.config import Config

from mmadaptor.engine.command_line import RUNNER_TYPE


def load(path):
    return torch.load(path, weights_only=False)


def assert_user_error(result, *says):
    """The run ended with a message, not with a traceback."""
    assert result.returncode != 0
    assert 'Traceback' not in result.stderr
    for text in says:
        assert text in result.stderr


@pytest.fixture(scope='module')
def unbroken(tmp_path_factory):
    """The work folder of a run of three epochs that nothing stopped."""
    folder = tmp_path_factory.mktemp('unbroken')
    config = write_config(folder, TOY, work_dir=str(folder / 'run'))
    result = tool('train', config)
    assert result.returncode == 0, result.stderr
    return folder


def test_a_run_leaves_checkpoints_and_curves(unbroken):
    names = {path.name for path in (unbroken / 'run').iterdir()}
    assert {'epoch_2.pth', 'epoch_3.pth', 'curves.png'} <= names
    assert 'epoch_1.pth' not in names
    assert not any(name.endswith('.part') for name in names)


def test_killed_and_resumed_ends_with_the_same_weights(unbroken, tmp_path):
    """Killed in epoch 3, the newest checkpoint cut: resumes from epoch 1."""
    run = tmp_path / 'run'
    killed = write_config(
        tmp_path,
        TOY + '\ncustom_hooks.append(dict(type="KillHook", after=11))',
        work_dir=str(run),
    )
    assert tool('train', killed).returncode == -9
    assert (run / 'last_checkpoint').read_text().endswith('epoch_2.pth')
    newest = run / 'epoch_2.pth'
    newest.write_bytes(newest.read_bytes()[:-100])

    whole = write_config(tmp_path, TOY, 'whole.py', work_dir=str(run))
    # No seed given: that of the run is kept.
    result = tool('train', whole, '--resume', '--cfg-options', 'randomness.seed=None')
    assert result.returncode == 0, result.stderr
    log = result.stdout + result.stderr
    assert f'{newest} is truncated' in log
    assert 'resumed epoch: 1, iter: 4' in log

    got, expected = load(run / 'epoch_3.pth'), load(unbroken / 'run' / 'epoch_3.pth')
    assert got['meta']['iter'] == expected['meta']['iter'] == 12
    torch.testing.assert_close(
        got['state_dict'], expected['state_dict'], rtol=0, atol=0
    )
    torch.testing.assert_close(
        got['optimizer']['state'], expected['optimizer']['state'], rtol=0, atol=0
    )


def test_full_disk_keeps_the_last_good_checkpoint(unbroken, tmp_path):
    """A limit on the size of files stands for a full disk.

    mmengine removes the oldest checkpoint before it writes the next one.
    """
    run = tmp_path / 'run'
    shutil.copytree(unbroken / 'run', run)
    before = (run / 'epoch_3.pth').read_bytes()
    assert len(before) > 150 * 1024
    config = write_config(tmp_path, TOY, work_dir=str(run))
    result = tool(
        'train',
        config,
        '--resume',
        '--cfg-options',
        'train_cfg.max_epochs=4',
        'default_hooks.checkpoint.max_keep_ckpts=1',
        prelude='ulimit -f 150',
    )
    assert_user_error(
        result,
        'epoch_4.pth',
        'could not be written: File too large',
        'Earlier checkpoints are unchanged: make room, then resume.',
    )
    assert (run / 'epoch_3.pth').read_bytes() == before
    assert {p.name for p in run.glob('epoch_*')} == {'epoch_3.pth'}
    assert (run / 'last_checkpoint').read_text().endswith('epoch_3.pth')


def test_everything_missing_is_listed_before_the_start(tmp_path):
    pytest.importorskip('mmdet')
    root = write_coco(tmp_path / 'data')
    (root / 'val.json').unlink()
    shutil.rmtree(root / 'train')
    config = write_config(tmp_path, DETECTOR, data_root=str(root))
    result = tool(
        'train',
        config,
        '--work-dir',
        tmp_path / 'run',
        '--cfg-options',
        'model.backbone.init_cfg.type=Pretrained',
        'model.backbone.init_cfg.checkpoint=no/imagenet.pth',
    )
    assert_user_error(
        result,
        'error: Training not started: 3 problems found',
        f'missing: {root}/val.json',
        f'missing: {root}/train\n',
        'no/imagenet.pth',
        '--from-scratch',
    )
    assert result.returncode == 1


def test_detector_trains_from_scratch_when_told_to(tmp_path):
    pytest.importorskip('mmdet')
    root = write_coco(tmp_path / 'data')
    config = write_config(tmp_path, DETECTOR, data_root=str(root))
    run = tmp_path / 'run'
    result = tool(
        'train',
        config,
        '--work-dir',
        run,
        '--from-scratch',
        '--auto-scale-lr',
        '--cfg-options',
        'model.backbone.init_cfg.type=Pretrained',
        'model.backbone.init_cfg.checkpoint=no/imagenet.pth',
        '+auto_scale_lr.base_batch_size=16',
    )
    assert result.returncode == 0, result.stderr
    # 0.001 for a batch of 16; this one is of 2.
    assert 'lr: 1.2500e-04' in result.stdout + result.stderr
    assert (run / 'epoch_1.pth').exists()

    shown, dumped = tmp_path / 'shown', tmp_path / 'predictions.pkl'
    result = tool(
        'test',
        config,
        run / 'epoch_1.pth',
        '--work-dir',
        run,
        '--show-dir',
        shown,
        '--out',
        dumped,
    )
    assert result.returncode == 0, result.stderr
    assert {path.name for path in shown.iterdir()} == {f'{i}.png' for i in range(4)}
    assert dumped.stat().st_size > 0


def test_resume_of_another_model_is_an_error(unbroken, tmp_path):
    shutil.copytree(unbroken / 'run', tmp_path / 'run')
    config = write_config(tmp_path, TOY, work_dir=str(tmp_path / 'run'))
    result = tool(
        'train',
        config,
        '--resume',
        '--cfg-options',
        'model.width=7',
        'train_cfg.max_epochs=4',
    )
    assert_user_error(result, 'ballast: expected (7,), got (50000,)')
    assert not (tmp_path / 'run' / 'epoch_4.pth').exists()


def test_misspelled_option_is_an_error(unbroken, monkeypatch):
    message = refusal(
        monkeypatch,
        'train',
        unbroken / 'config.py',
        '--cfg-options',
        'train_cfg.max_epoch=9',
    )
    assert 'Did you mean train_cfg.max_epochs?' in message


def test_auto_scale_lr_needs_its_batch_size(unbroken, monkeypatch):
    message = refusal(monkeypatch, 'train', unbroken / 'config.py', '--auto-scale-lr')
    assert 'auto_scale_lr=dict(base_batch_size=...)' in message


def resumed(work_dir, runner_type, resume):
    """The config after the arguments of a training are put into it."""
    apply = runpy.run_path(str(ROOT / 'tools' / 'train.py'))['apply_arguments']
    cfg = Config(
        dict(load_from='base.pth', work_dir=str(work_dir), runner_type=runner_type)
    )
    flags = dict.fromkeys(('from_scratch', 'amp', 'amp_dtype', 'auto_scale_lr'))
    apply(cfg, argparse.Namespace(**flags, resume=resume))
    return cfg.load_from, cfg.get('resume')


def test_resume_is_left_to_our_runner(tmp_path):
    assert resumed(tmp_path, RUNNER_TYPE, None) == ('base.pth', None)
    assert resumed(tmp_path, RUNNER_TYPE, 'auto') == ('base.pth', 'auto')
    dumped = 'mmadaptor.engine.runner.Runner'  # of a class, as a run leaves it
    assert resumed(tmp_path, dumped, 'auto') == ('base.pth', 'auto')
    assert resumed(tmp_path, RUNNER_TYPE, 'x.pth') == ('x.pth', True)


def test_resume_by_another_runner(tmp_path):
    """Its newest checkpoint; `load_from` if there is none."""
    assert resumed(tmp_path, 'FlexibleRunner', 'auto') == ('base.pth', False)
    newest = tmp_path / 'epoch_1.pth'
    (tmp_path / 'last_checkpoint').write_text(str(newest))
    assert resumed(tmp_path, 'FlexibleRunner', 'auto') == (str(newest), True)
    assert resumed(tmp_path, 'FlexibleRunner', 'x.pth') == ('x.pth', True)


def test_resume_of_a_missing_checkpoint(unbroken, monkeypatch):
    message = refusal(
        monkeypatch, 'train', unbroken / 'config.py', '--resume', 'none/epoch_7.pth'
    )
    assert 'none/epoch_7.pth' in message


@pytest.mark.parametrize(
    'text, toolbox, last',
    [(CLASSIFIER, 'mmpretrain', 'epoch_1.pth'), (SEGMENTOR, 'mmseg', 'iter_2.pth')],
)
def test_other_toolboxes_use_the_same_tools(text, toolbox, last, tmp_path):
    pytest.importorskip(toolbox)
    root = write_coco(tmp_path / 'data')
    write_labels(root)
    config = write_config(tmp_path, text, data_root=str(root))
    run, shown = tmp_path / 'run', tmp_path / 'shown'
    result = tool('train', config, '--work-dir', run)
    assert result.returncode == 0, result.stderr
    result = tool(
        'test',
        config,
        run / last,
        '--work-dir',
        run,
        '--show-dir',
        shown,
        '--out',
        tmp_path / 'predictions.pkl',
    )
    assert result.returncode == 0, result.stderr
    assert ('mIoU' if toolbox == 'mmseg' else 'top1') in result.stdout
    assert len(list(shown.glob('*.png'))) == 4
    assert (tmp_path / 'predictions.pkl').stat().st_size > 0
