# SPDX-License-Identifier: Apache-2.0
"""No checkpoint runs code, ends the interpreter, or is read without end."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers import hostile
from helpers.jobs import ROOT, TOY, write_config
from helpers.toolboxes import tools_of
from PIL import Image

from mmadaptor.checkpoints.loading import read_checkpoint
from mmadaptor.errors import InputError

# `make faults` gives all files to all tools.
STEP = 1 if os.environ.get('ALL') else 4
HERE = pathlib.Path(__file__).parent
# Files that hold nothing wrong where the readers look.
READ = {
    'executed_config',
    'hidden_items',
    'meta_is_text',
    'meta_lacks',
    'epoch_is_text',
    'seed_below_zero',
    'huge_iteration',
    'hub_is_text',
    'hub_of_numbers',
    'optimizer_is_text',
    'arguments',
}


def use(tool, mark, files, *arguments, folder=None):
    """Uses a tool on each file in a process of its own; returns what came of each."""
    path = os.pathsep.join(map(str, (ROOT, ROOT / 'tests')))
    command = [HERE / 'read_all.py', tool, mark, *files, '--', *arguments]
    process = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=folder,
        text=True,
        capture_output=True,
        timeout=300,
        env={**os.environ, 'PYTHONPATH': path, 'OMP_NUM_THREADS': '1'},
    )
    lines = [line for line in process.stdout.splitlines() if line.startswith('{"file"')]
    results = {
        pathlib.Path(result['file']).stem: result for result in map(json.loads, lines)
    }
    assert process.returncode == 0, (
        process.returncode,
        process.stderr[-2000:],
        lines[-1:],
    )
    assert len(results) == len(files)
    return results


def assert_harmless(results, read):
    """Nothing ran; each file was named in a sentence, or is one of `read`."""
    assert not [stem for stem, result in results.items() if result['ran']]
    for stem, result in results.items():
        assert result['kind'] in ('InputError', 'done'), (stem, result)
        if result['kind'] == 'InputError':
            assert stem in result['message'], result
    assert {stem for stem, r in results.items() if r['kind'] == 'done'} <= read


def test_readers(tmp_path):
    files = hostile.write_all(tmp_path / 'files', tmp_path / 'ran')
    assert len(files) > 70
    results = use('read', tmp_path / 'ran', files)
    assert_harmless(results, READ)
    planted = hostile.planted(tmp_path / 'ran').keys() - READ
    assert all(results[stem]['kind'] == 'InputError' for stem in planted)


@pytest.mark.parametrize('stem', ['reduce', 'evaluated', 'in_meta', 'object_array'])
def test_the_planted_code_runs_without_us(stem, tmp_path):
    path = tmp_path / 'planted.pth'
    path.write_bytes(hostile.planted(tmp_path / 'ran')[stem])
    torch.load(path, weights_only=False)
    assert (tmp_path / 'ran').exists()


def test_mmengines_list_reaches_any_function(tmp_path):
    """The reason for a list of our own: `getattr` on a module's globals."""
    from mmengine.runner.checkpoint import get_torch_safe_globals

    path = tmp_path / 'planted.pth'
    path.write_bytes(hostile.planted(tmp_path / 'ran')['getattr_globals'])
    with torch.serialization.safe_globals(get_torch_safe_globals()):
        assert 'HistoryBuffer' in torch.load(path, weights_only=True)['x']
    with pytest.raises(InputError, match=r'holds a pickled object \(getattr\)'):
        read_checkpoint(str(path))


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A training of one epoch: its folder, config and checkpoint."""
    folder = tmp_path_factory.mktemp('trained')
    text = TOY.replace('num_workers=2', 'num_workers=0')
    config = write_config(folder, text, work_dir=str(folder / 'run'))
    use(
        str(ROOT / 'tools' / 'train.py'),
        folder / 'ran',
        [config],
        '{}',
        '--cfg-options',
        'train_cfg.max_epochs=1',
        folder=folder,
    )
    return folder, config, folder / 'run' / 'epoch_1.pth'


@pytest.mark.parametrize('tool', ['test', 'train'])
def test_tools(tool, trained, tmp_path):
    folder, config, checkpoint = trained
    base = torch.load(checkpoint, weights_only=False)
    files = hostile.write_all(tmp_path / 'files', tmp_path / 'ran', base)[::STEP]
    arguments = ['--resume', '{}'] if tool == 'train' else ['{}']
    results = use(
        str(ROOT / 'tools' / f'{tool}.py'),
        tmp_path / 'ran',
        files,
        config,
        *arguments,
        '--work-dir',
        tmp_path / 'run',
        folder=folder,
    )
    assert_harmless(results, READ)


CLASSIFIER = ROOT / 'configs' / 'mamba_adaptor_b0_shapes.py'
OTHER_TOOLS = dict(
    convert_checkpoint=['--from', 'vmamba', '{}', 'converted.pth'],
    merge_adaptors=[CLASSIFIER, '{}', 'merged.pth'],
    publish_model=['{}', 'published.safetensors'],
    image_demo=['image.png', CLASSIFIER, '{}', '--out-dir', 'drawn', '--device', 'cpu'],
    visualize_memory=['image.png', CLASSIFIER, '{}', '--out-dir', 'drawn'],
)


@pytest.mark.parametrize('tool', OTHER_TOOLS)
def test_tools_for_weights(tool, tmp_path):
    files = hostile.write_all(tmp_path / 'files', tmp_path / 'ran')[::STEP]
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / 'image.png')
    path = str(ROOT / 'tools' / f'{tool}.py')
    results = use(path, tmp_path / 'ran', files, *OTHER_TOOLS[tool], folder=tmp_path)
    # It fits no model to the weights, so it copies what can be read.
    assert_harmless(results, READ if tool == 'publish_model' else set())


@pytest.mark.parametrize('toolbox', ['mmdet', 'mmseg', 'mmpretrain'])
def test_tools_of_the_toolboxes(toolbox, trained, tmp_path):
    """Their own test tools end in our error, with a traceback of theirs."""
    pytest.importorskip(toolbox)
    folder, config, checkpoint = trained
    base = torch.load(checkpoint, weights_only=False)
    files = hostile.write_all(tmp_path / 'files', tmp_path / 'ran', base)[::STEP]
    path = str(tools_of(toolbox) / 'test.py')
    text = pathlib.Path(config).read_text() + (
        "\ncustom_imports['imports'].append('mmadaptor.engine')"
        "\nrunner_type = 'mmadaptor.Runner'\nlauncher = 'none'"
        '\nvisualizer = dict(type="Visualizer")'
    )
    ours = write_config(tmp_path, text, 'ours.py')
    arguments = [ours, '{}', '--work-dir', tmp_path / 'run']
    results = use(path, tmp_path / 'ran', files, *arguments, folder=folder)
    assert_harmless(results, READ)
