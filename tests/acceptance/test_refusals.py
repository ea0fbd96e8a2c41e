# SPDX-License-Identifier: Apache-2.0
"""What the toolboxes' own tools refuse when a config of ours names the runner."""

import shutil
import sys

import pytest
import torch
from helpers import toolboxes as t

from mmadaptor.checkpoints.strict import TASKS
from mmadaptor.datasets import make_shapes


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('refused')
    make_shapes(folder / 'data' / 'shapes', train=8, val=2, workers=1)
    return folder


def trained(toolbox, folder):
    """Return a config and the checkpoint of its run of one epoch."""
    config = t.write_config(
        folder, toolbox, f'job_{toolbox}', 'train_cfg.update(max_epochs=1)'
    )
    checkpoint = folder / toolbox / 'epoch_1.pth'
    if not checkpoint.exists():
        t.run(toolbox, 'train', folder, config, '--work-dir', checkpoint.parent)
    return config, checkpoint


@pytest.fixture(scope='module', params=t.TOOLBOXES)
def job(request, folder):
    """A toolbox, its config, and the checkpoint of a run of one epoch."""
    return request.param, *trained(request.param, folder)


def test_a_good_checkpoint_is_tested(job, folder):
    toolbox, config, checkpoint = job
    output = t.run(
        toolbox, 'test', folder, config, checkpoint, '--work-dir', folder / 'tested'
    )
    assert {
        'mmdet': 'coco/bbox_mAP:',
        'mmseg': 'mIoU:',
        'mmpretrain': 'accuracy/top1:',
    }[toolbox] in output


@pytest.mark.parametrize('tool', ['test', 'train'])
def test_planted_code_does_not_run(job, folder, tool):
    toolbox, config, checkpoint = job
    run, mark = folder / f'planted_{toolbox}', folder / f'ran_{toolbox}_{tool}'
    run.mkdir(exist_ok=True)
    torch.save(dict(t.load(checkpoint), x=t.Planted(mark)), run / 'epoch_1.pth')
    arguments = [run / 'epoch_1.pth'] if tool == 'test' else ['--resume']
    output = t.run(
        toolbox, tool, folder, config, *arguments, '--work-dir', run, fails=True
    )
    assert f'{run}/epoch_1.pth holds a pickled object (posix.mkdir)' in output
    assert not mark.exists()


def test_another_arch_is_refused_by_its_keys(job, folder):
    toolbox, _, checkpoint = job
    other = t.write_config(
        folder,
        toolbox,
        f'other_{toolbox}',
        'model = dict(backbone=dict(adaptors=dict(temporal=dict())))',
    )
    output = t.run(
        toolbox,
        'test',
        folder,
        other,
        checkpoint,
        '--work-dir',
        folder / 'other',
        fails=True,
    )
    assert f'{checkpoint} does not fit' in output
    assert 'unexpected:' in output and 'mixer.spatial.' in output


def test_a_checkpoint_of_another_task_is_named(job, folder):
    toolbox, config, _ = job
    other = 'mmseg' if toolbox == 'mmdet' else 'mmdet'
    _, checkpoint = trained(other, folder)
    arguments = [config, checkpoint, '--work-dir', folder / 'task']
    output = t.run(toolbox, 'test', folder, *arguments, fails=True)
    assert f'The checkpoint holds a model of {TASKS[other]}.' in output


def test_a_full_disk_keeps_the_last_good_checkpoint(job, folder):
    """A limit on the size of files stands for a full disk."""
    toolbox, _, checkpoint = job
    run = folder / f'full_{toolbox}'
    shutil.copytree(checkpoint.parent, run)
    before = (run / 'epoch_1.pth').read_bytes()
    config = t.write_config(
        folder,
        toolbox,
        f'full_{toolbox}',
        'train_cfg.update(max_epochs=2)',
        'default_hooks.update(checkpoint=dict(max_keep_ckpts=1))',
    )
    limit = len(before) // 1024 // 2
    output = t.run(
        toolbox,
        'train',
        folder,
        config,
        '--work-dir',
        run,
        '--resume',
        fails=True,
        prelude=f'ulimit -f {limit}',
    )
    assert 'epoch_2.pth could not be written: File too large' in output
    assert 'Earlier checkpoints are unchanged' in output
    assert {p.name for p in run.glob('epoch*')} == {'epoch_1.pth'}
    assert (run / 'epoch_1.pth').read_bytes() == before


def test_two_trainings_do_not_share_a_folder(job, folder):
    toolbox, config, _ = job
    run = folder / f'shared_{toolbox}'
    first = t.start(
        [
            sys.executable,
            '-c',
            f"""
import time
from mmadaptor.engine.lock import locked
with locked({str(run)!r}):
    print('locked', flush=True)
    time.sleep(99)""",
        ],
        folder,
        prelude=f'mkdir -p {run}',
    )
    try:
        assert first.stdout.readline() == 'locked\n'
        output = t.run(toolbox, 'train', folder, config, '--work-dir', run, fails=True)
        assert f'{run} is used by another training (process {first.pid} on' in output
    finally:
        first.kill()
        first.communicate()


INFERENCERS = dict(
    mmdet="""
from mmdet.apis import DetInferencer
inferencer = DetInferencer(config, checkpoint, 'cpu', show_progress=False)
inferencer.model.roi_head.test_cfg.score_thr = 0.0  # for a model of a few steps
assert len(inferencer(image)['predictions'][0]['labels']) > 0
""",
    mmseg="""
from mmseg.apis import MMSegInferencer
inferencer = MMSegInferencer(config, checkpoint, device='cpu', show_progress=False)
assert inferencer(image)['predictions'].shape == (128, 128)
""",
    mmpretrain="""
from mmpretrain import ImageClassificationInferencer
inferencer = ImageClassificationInferencer(config, checkpoint, 'cpu')
assert inferencer(image)[0]['pred_class'] in inferencer.classes
""",
)


@pytest.mark.parametrize('file', ['config', 'dumped config', 'planted'])
def test_the_toolboxes_inferencers(job, folder, file):
    toolbox, config, checkpoint = job
    mark = folder / f'ran_inferencer_{toolbox}'
    if file == 'dumped config':  # as the training left it
        config = checkpoint.parent / config.name
    if file == 'planted':
        content = dict(t.load(checkpoint), x=t.Planted(mark))
        checkpoint = folder / f'planted_{toolbox}.pth'
        torch.save(content, checkpoint)
    image = next((folder / 'data/shapes/images/val').glob('*.png'))
    code = f"""
config, checkpoint, image = {str(config)!r}, {str(checkpoint)!r}, {str(image)!r}
{INFERENCERS[toolbox]}
weights = torch_load(checkpoint)['state_dict']
state = inferencer.model.state_dict()
assert weights and all((state[k] == v).all() for k, v in weights.items())
print('as loaded')
"""
    code = 'from helpers.toolboxes import load as torch_load\n' + code
    process = t.start([sys.executable, '-c', code], folder)
    output, _ = process.communicate(timeout=300)
    if file == 'planted':
        assert process.returncode != 0
        assert f'{checkpoint} holds a pickled object (posix.mkdir)' in output
        assert not mark.exists()
    else:
        assert process.returncode == 0 and 'as loaded' in output, output[-3000:]


@pytest.mark.parametrize(
    'toolbox, config, missing',
    [
        (
            'mmdet',
            'mask_rcnn_mamba_adaptor_b2_coco',
            [
                'coco/annotations/instances_train2017.json',
                'coco/train2017',
                'coco/annotations/instances_val2017.json',
                'coco/val2017',
                'checkpoints/mamba_adaptor_b2_imagenet.pth',
                'https://cocodataset.org',
            ],
        ),
        (
            'mmseg',
            'upernet_mamba_adaptor_b1_ade20k',
            [
                'ADEChallengeData2016/images/training',
                'ADEChallengeData2016/annotations/validation',
                'checkpoints/mamba_adaptor_b1_imagenet.pth',
            ],
        ),
        (
            'mmpretrain',
            'vmamba_t_booster_imagenet',
            [
                'data/imagenet/train',
                'data/imagenet/val',
                'checkpoints/vmamba_t_imagenet.pth',
                'tools/convert_checkpoint.py --from vmamba',
            ],
        ),
    ],
)
def test_everything_missing_comes_in_one_report(toolbox, config, missing, tmp_path):
    output = t.run(
        toolbox, 'train', tmp_path, t.ROOT / 'configs' / f'{config}.py', fails=True
    )
    report = output[output.index('Training not started: ') :]
    for text in missing:
        assert text in report, report
    assert 'named by ' in report and 'How to continue:' in report


def test_a_folder_that_cannot_be_written(job, folder):
    toolbox, config, _ = job
    (folder / 'file').touch()
    output = t.run(
        toolbox,
        'train',
        folder,
        config,
        '--work-dir',
        folder / 'file' / 'run',
        fails=True,
    )
    assert f"Not a directory: '{folder}/file" in output.splitlines()[-1]


def test_runner_type_in_a_config_of_ones_own(tmp_path):
    """Any config gets the runner by its name, without our configs or imports."""
    code = """
from mmengine.config import Config
from mmengine.registry import RUNNERS
import helpers.toy
cfg = Config(dict(
    model=dict(type='ToyModel'), work_dir='run', runner_type='mmadaptor.Runner',
    train_dataloader=dict(dataset=dict(type='ToyDataset'), batch_size=2,
                          sampler=dict(type='DefaultSampler', shuffle=True)),
    train_cfg=dict(by_epoch=True, max_epochs=1),
    optim_wrapper=dict(optimizer=dict(type='SGD', lr=.1))))
runner = RUNNERS.build(cfg)
import mmadaptor
assert type(runner) is mmadaptor.Runner
print([type(hook).__name__ for hook in runner.hooks])
runner.train()
"""
    process = t.start([sys.executable, '-c', code], tmp_path)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert 'ExactResumeHook' in output and 'StrictLoadHook' in output
    assert (tmp_path / 'run' / 'epoch_1.pth').exists()
