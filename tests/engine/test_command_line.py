# SPDX-License-Identifier: Apache-2.0
"""What the tools do with the errors of their users, and with bugs."""

import argparse
import sys
from types import SimpleNamespace

import pytest
from helpers import toy  # noqa: F401
from helpers.jobs import TOY, write_config
from mmengine.config import Config
from mmengine.registry import MODELS

from mmadaptor.engine import StrictLoadHook
from mmadaptor.engine.command_line import (
    STRICT_LOAD,
    add_hook,
    load_config,
    make_data,
    run,
)
from mmadaptor.errors import InputError
from mmadaptor.registry import MODELS as OUR_MODELS


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


def test_wrong_keyword_is_named_without_a_traceback():
    with pytest.raises(SystemExit, match="unexpected keyword argument 'wdth'"):
        run(lambda: MODELS.build(dict(type='ToyModel', wdth=3)))


def test_unknown_type_is_named():
    with pytest.raises(SystemExit, match='ToyModle is not in the'):
        run(lambda: MODELS.build(dict(type='ToyModle')))


def test_a_value_that_our_constructor_refuses():
    with pytest.raises(SystemExit, match="error in the config.*got 'b9'"):
        run(lambda: OUR_MODELS.build(dict(type='mmadaptor.MambaAdaptor', arch='b9')))


def test_a_file_where_a_folder_should_be(tmp_path):
    (tmp_path / 'file').touch()
    for folder in ('file', 'file/below'):
        with pytest.raises(SystemExit, match=f'error: .*{folder}'):
            run((tmp_path / folder).mkdir)


@pytest.mark.parametrize(
    'error',
    [TypeError('a bug'), ValueError('a bug'), KeyError('a bug'), RuntimeError('a bug')],
)
def test_bugs_keep_their_traceback(error):
    def buggy():
        raise error

    with pytest.raises(type(error), match='a bug'):
        run(buggy)


def test_a_bug_inside_of_a_build_keeps_its_traceback():
    def buggy(n):
        return int(n + 'x')

    MODELS.register_module('BuggyForTest', module=buggy)
    try:
        with pytest.raises(ValueError, match='invalid literal'):
            run(lambda: MODELS.build(dict(type='BuggyForTest', n='1')))
    finally:
        MODELS._module_dict.pop('BuggyForTest')


@pytest.mark.parametrize(
    'text, says',
    [
        ('a = (', 'SyntaxError'),
        ('_base_ = ["none.py"]', 'none.py'),
        ('custom_imports = dict(imports=["no_such_module"])', 'no_such_module'),
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


def test_a_toolbox_that_its_base_needs_is_ours_to_name(tmp_path, monkeypatch):
    monkeypatch.setattr('mmengine.config.config.is_installed', lambda name: False)
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


def test_strict_loading_is_added_once(tmp_path):
    plain = write_config(tmp_path, 'model = dict()')
    types = [h['type'] for h in load_config(arguments(plain)).custom_hooks]
    assert types == [STRICT_LOAD]
    own = write_config(
        tmp_path,
        'custom_hooks = [dict(type="mmadaptor.StrictLoadHook", skip=["head"])]',
    )
    assert load_config(arguments(own)).custom_hooks == [
        dict(type=STRICT_LOAD, skip=['head'])
    ]


def test_mmpretrain_gets_its_stacked_batches(tmp_path):
    text = 'default_scope = {scope!r}\ntrain_dataloader = dict(batch_size=2)'
    for scope, collate in (('mmpretrain', 'default_collate'), ('mmdet', None)):
        cfg = load_config(arguments(write_config(tmp_path, text, scope=scope)))
        assert cfg.train_dataloader.get('collate_fn', {}).get('type') == collate


def test_embedded_dataset_is_made_where_the_config_asks(monkeypatch):
    made = []
    monkeypatch.setitem(
        sys.modules, 'mmadaptor.datasets', SimpleNamespace(prepare=made.append)
    )
    make_data(dict())
    make_data(dict(embedded_dataset='data/shapes'))
    assert made == ['data/shapes']


def test_folder_that_holds_other_files_is_named(monkeypatch):
    def refuse(root):
        raise FileExistsError(f'{root} holds other files')

    monkeypatch.setitem(
        sys.modules, 'mmadaptor.datasets', SimpleNamespace(prepare=refuse)
    )
    with pytest.raises(InputError, match='mine holds other files'):
        make_data(dict(embedded_dataset='mine'))


@pytest.mark.parametrize(
    'kind', ['mmadaptor.StrictLoadHook', 'StrictLoadHook', StrictLoadHook], ids=str
)
def test_a_hook_is_added_once_however_it_is_named(kind):
    cfg = Config(dict(custom_hooks=[dict(type='CurvesHook'), dict(type=kind)]))
    add_hook(cfg, STRICT_LOAD)
    assert len(cfg.custom_hooks) == 2
    cfg = Config(dict(custom_hooks=[dict(type='CurvesHook')]))
    add_hook(cfg, STRICT_LOAD)
    assert cfg.custom_hooks[1].type == STRICT_LOAD
