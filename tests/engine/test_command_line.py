# SPDX-License-Identifier: Apache-2.0
"""What the tools do with the errors of their users, and with bugs."""

import argparse

import pytest
from helpers import toy  # noqa: F401
from helpers.jobs import TOY, write_config
from mmengine.config import Config

from mmadaptor.engine.command_line import (
    RUNNER_TYPE,
    TRACEBACK,
    build_runner,
    load_config,
    read_config,
    run,
)
from mmadaptor.errors import InputError


def arguments(config, **others):
    return argparse.Namespace(
        **{
            'config': str(config),
            'work_dir': None,
            'cfg_options': {},
            'launcher': 'none',
            'local_rank': 0,
            **others,
        }
    )


def test_a_file_where_a_folder_should_be(tmp_path):
    (tmp_path / 'file').touch()
    for folder in ('file', 'file/below'):
        with pytest.raises(SystemExit, match=f'error: .*{folder}'):
            run((tmp_path / folder).mkdir)


@pytest.mark.parametrize('kind', [TypeError, ValueError, KeyError, RuntimeError])
def test_bugs_keep_their_traceback(kind):
    def buggy():
        raise kind('a bug')

    with pytest.raises(kind, match='a bug'):
        run(buggy)


def test_an_import_of_ops_that_mmcv_lacks(monkeypatch):
    """Wherever it fails, and whatever was made of the error."""
    problem = 'mmcv has no compiled ops: pip install ...'
    monkeypatch.setattr('mmadaptor.environment.problem_of_mmcv_ops', lambda: problem)

    def fails():
        raise ModuleNotFoundError("No module named 'mmcv._ext'", name='mmcv._ext')

    def fails_in_a_config():
        try:
            fails()
        except ImportError as error:
            raise InputError('config.py cannot be read') from error

    for main in (fails, fails_in_a_config):
        with pytest.raises(SystemExit, match=f'^\nerror: {problem}'):
            run(main)


def test_an_import_of_anything_else_keeps_its_traceback():
    def fails():
        raise ModuleNotFoundError("No module named 'mmcv.nothing'", name='mmcv.nothing')

    with pytest.raises(ModuleNotFoundError):
        run(fails)


def test_the_error_of_a_data_worker_is_shown_without_its_traceback():
    def fails():
        raise InputError(
            'Caught InputError in DataLoader worker process 0.\nOriginal Traceback:\n'
            'mmadaptor.errors.InputError: x.png cannot be read\n'
        )

    with pytest.raises(SystemExit) as ended:
        run(fails)
    assert str(ended.value) == '\nerror: x.png cannot be read\n'


def test_a_traceback_can_be_asked_for(monkeypatch, capsys):
    def fails():
        try:
            int('x')
        except ValueError as error:
            raise InputError('`model` of the config: no number') from error

    with pytest.raises(SystemExit, match=f'no number\n.{TRACEBACK}=1 shows where'):
        run(fails)
    assert 'Traceback' not in capsys.readouterr().err
    monkeypatch.setenv(TRACEBACK, '1')
    with pytest.raises(SystemExit):
        run(fails)
    assert "int('x')" in capsys.readouterr().err


@pytest.mark.parametrize(
    'model, says',
    [
        (dict(type='ToyModel', wdth=3), "unexpected keyword argument 'wdth'"),
        (dict(type='ToyModle'), 'ToyModle is not in the'),
        (dict(type='mmadaptor.MambaAdaptor', arch='b9'), "got 'b9'"),
    ],
)
def test_a_wrong_config_is_named_without_a_traceback(model, says, tmp_path):
    name = str(tmp_path)  # of two in a second, the folder would be the first one's
    cfg = dict(model=model, work_dir=name, experiment_name=name)
    cfg = Config(dict(cfg, runner_type=RUNNER_TYPE))
    with pytest.raises(SystemExit, match='error: `model` of the config: ') as ended:
        run(lambda: build_runner(cfg))
    assert says in str(ended.value)


@pytest.mark.parametrize(
    'text, says',
    [
        ('a = (', 'SyntaxError'),
        ('_base_ = ["none.py"]', 'none.py'),
        ('custom_imports = dict(imports=["no_such_module"])', 'no_such_module'),
        ('a = 1 / 0', 'ZeroDivisionError'),
    ],
)
def test_broken_config_is_named(text, says, tmp_path):
    path = write_config(tmp_path, text)
    with pytest.raises(InputError) as error:
        load_config(arguments(path))
    assert path in str(error.value)
    assert says in str(error.value)


def test_config_and_checkpoint_in_the_wrong_order(tmp_path):
    (tmp_path / 'epoch_1.pth').touch()
    with pytest.raises(InputError, match=r'epoch_1\.pth cannot be read: OSError: Only'):
        load_config(arguments(str(tmp_path / 'epoch_1.pth')))


def test_a_toolbox_that_its_base_needs_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr('mmengine.config.config.is_installed', lambda name: False)
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    path = write_config(tmp_path, '_base_ = "mmdet::_base_/default_runtime.py"')
    with pytest.raises(
        InputError, match=r'needs mmdet, which is not installed.*".\[det\]"'
    ):
        load_config(arguments(path))


def test_missing_config_is_named():
    with pytest.raises(InputError, match=r'none\.py: no such config file'):
        load_config(arguments('none.py'))


def test_work_dir_by_argument_then_config_then_name(tmp_path):
    with_dir = write_config(tmp_path, TOY, work_dir='in_config')
    assert load_config(arguments(with_dir)).work_dir == 'in_config'
    assert load_config(arguments(with_dir, work_dir='x')).work_dir == 'x'
    without = write_config(tmp_path, 'model = dict()', 'plain.py')
    assert load_config(arguments(without)).work_dir == 'work_dirs/plain'


def test_what_a_config_says_of_scope_and_hooks_stays(tmp_path):
    text = """
default_scope = 'mmseg'
model = dict(type='mmdet.RetinaNet')
default_hooks = dict(strict_load=dict(type='mmadaptor.StrictLoadHook', a=1))
"""
    cfg = load_config(arguments(write_config(tmp_path, text)))
    assert cfg.default_scope == 'mmseg' and cfg.default_hooks.strict_load.a == 1


def test_every_config_gets_our_runner_unless_it_names_one(tmp_path):
    plain = write_config(tmp_path, 'model = dict()')
    assert load_config(arguments(plain)).runner_type == RUNNER_TYPE
    own = write_config(tmp_path, 'model = {}\nrunner_type = "FlexibleRunner"')
    assert load_config(arguments(own)).runner_type == 'FlexibleRunner'


@pytest.mark.parametrize('hooks', ['None', '{}', 'dict(timer=None)'])
def test_every_config_loads_strictly(hooks, tmp_path):
    path = write_config(tmp_path, f'model = {{}}\ndefault_hooks = {hooks}')
    default_hooks = load_config(arguments(path)).default_hooks
    assert default_hooks['strict_load'] == dict(type='mmadaptor.StrictLoadHook')


def test_an_error_of_the_config_itself_is_shown(tmp_path):
    """mmengine's own `UnboundLocalError` hides that of a full disk."""
    path = write_config(tmp_path, 'def f():\n    a\n    a = 1\nf()\n')
    with pytest.raises(
        InputError, match='config.py cannot be read: UnboundLocalError: '
    ):
        load_config(arguments(path))


def test_a_full_disk_as_a_config_is_read_is_named(tmp_path, monkeypatch):
    def fails(*_, **__):
        try:
            raise OSError(28, 'No space left on device')
        finally:
            del copy  # noqa: F821

    monkeypatch.setattr('mmengine.config.Config.fromfile', fails)
    with pytest.raises(InputError, match='OSError.*No space left'):
        load_config(arguments(write_config(tmp_path, 'a = 1')))


@pytest.mark.parametrize('text', ['a = 1', 'model = None', 'model = "x"'])
def test_a_config_without_a_model_is_named(text, tmp_path):
    """Such as those in configs/_base_."""
    path = write_config(tmp_path, text)
    with pytest.raises(InputError, match=r'config\.py: expected model=dict\(\.\.\.\)'):
        read_config(path)


@pytest.mark.parametrize('lacks', ['train_cfg', 'val_evaluator', 'optim_wrapper'])
@pytest.mark.parametrize('kind', [RUNNER_TYPE, 'Runner'])
def test_a_part_of_a_training_is_named(lacks, kind, tmp_path):
    path = write_config(tmp_path, TOY, work_dir=str(tmp_path))
    cfg = load_config(arguments(path))
    cfg.merge_from_dict({lacks: None, 'runner_type': kind})
    with pytest.raises(InputError, match=rf'expected {lacks}=dict.*, got None'):
        build_runner(cfg, 'train')


def test_a_config_without_a_training_is_named(tmp_path):
    cfg = load_config(arguments(write_config(tmp_path, 'model = dict(type="x")')))
    with pytest.raises(InputError, match='expected train_dataloader=dict'):
        build_runner(cfg, 'train')


def test_an_unknown_runner_is_named(tmp_path):
    path = write_config(tmp_path, 'model = {}\nrunner_type = "Runer"')
    with pytest.raises(InputError, match="expected a runner_type, got 'Runer'"):
        build_runner(load_config(arguments(path)))
