# SPDX-License-Identifier: Apache-2.0
"""The zoo's files say what its tool computes, and nothing of it is stale."""

import pathlib
import re
import runpy
import shutil

import modelindex
import pytest
import yaml

from mmadaptor.errors import InputError

ROOT = pathlib.Path(__file__).parents[2]
ZOO = runpy.run_path(str(ROOT / 'tools' / 'model_zoo.py'))
README, METAFILE = ZOO['README'], ZOO['METAFILE']


@pytest.fixture(scope='module')
def generated():
    return ZOO['generate'](ROOT)


@pytest.fixture(scope='module')
def entries():
    models = yaml.safe_load((ROOT / METAFILE).read_text())['Models']
    return {entry['Name']: entry for entry in models}


@pytest.mark.parametrize('path', [README, METAFILE], ids=str)
def test_what_is_computed_is_what_stands_there(path, generated):
    assert (ROOT / path).read_text() == generated[path], (
        f'{path} is stale: run python tools/model_zoo.py'
    )


def test_a_stale_number_is_put_right(tmp_path):
    """On one config, its entry changed, and another entry whose config is gone."""
    (tmp_path / 'configs').mkdir()
    shutil.copytree(ROOT / 'configs' / '_base_', tmp_path / 'configs' / '_base_')
    name = 'mamba_adaptor_b0_shapes'
    shutil.copy(ROOT / 'configs' / f'{name}.py', tmp_path / 'configs')
    meta = yaml.safe_load((ROOT / METAFILE).read_text())
    right = next(m for m in meta['Models'] if m['Name'] == name)
    parameters = right['Metadata']['Parameters']
    right['Metadata']['Parameters'] += 100000
    (tmp_path / METAFILE).write_text(yaml.safe_dump(meta))
    shutil.copy(ROOT / README, tmp_path / README)
    written = ZOO['generate'](tmp_path)
    models = yaml.safe_load(written[METAFILE])['Models']
    assert [m['Name'] for m in models] == [name]
    assert models[0]['Metadata']['Parameters'] == parameters
    assert re.findall(r'^\| \[(\w+)\]', written[README], re.M) == [name]


def test_marks_that_are_gone_are_named():
    with pytest.raises(InputError, match='one line <!-- coco -->'):
        ZOO['put']('no marks', 'coco', '')


def test_modelindex_finds_nothing_wrong(entries):
    index = modelindex.load(str(ROOT / 'model-index.yml'))
    assert index.check(silent=True) == []
    assert {model.name for model in index.models} == set(entries)
    collections = {collection.name for collection in index.collections}
    assert {model.in_collection for model in index.models} <= collections
    for entry in entries.values():
        assert (ROOT / entry['Config']).is_file()


def test_mim_finds_the_index_and_the_configs(entries):
    """`mim search` joins lists, of which it takes only those of text."""
    index = modelindex.load(str(ROOT / 'mmadaptor' / '.mim' / 'model-index.yml'))
    assert {model.name for model in index.models} == set(entries)
    for entry in entries.values():
        assert (ROOT / 'mmadaptor' / '.mim' / entry['Config']).is_file()
        for value in entry['Metadata'].values():
            assert isinstance(value, int | float | str)


@pytest.mark.parametrize(
    'name, published',
    [
        ('vmamba_t_imagenet', 4.9e9),
        ('mask_rcnn_vmamba_t_coco', 271e9),
        ('upernet_vmamba_t_ade20k', 949e9),
    ],
)
def test_vmamba_t_as_published(name, published, entries):
    counted = entries[name]['Metadata']['FLOPs']
    assert counted == pytest.approx(published, rel=0.02)


def test_parameters_of_vmamba_t_as_published(entries):
    assert entries['vmamba_t_imagenet']['Metadata']['Parameters'] == 30249064


def test_no_result_is_taken_for_ours(entries):
    for entry in entries.values():
        if not entry['Name'].endswith(('_shapes', '_fashion', '_trees')):
            assert 'not trained by us' in entry['Results From']
        else:
            assert 'Results' not in entry
