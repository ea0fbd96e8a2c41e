# SPDX-License-Identifier: Apache-2.0
"""No file that is loaded as a checkpoint can run anything."""

import argparse
import os
import pathlib
import re
import zipfile

import numpy as np
import pytest
import torch
from mmengine.fileio import LocalBackend
from mmengine.logging.history_buffer import HistoryBuffer
from mmengine.model import PretrainedInit
from mmengine.runner import checkpoint as mmengine_checkpoint
from mmengine.runner import load_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader

import mmadaptor.engine  # noqa: F401, mmengine's loaders become ours
from mmadaptor.checkpoints.loading import load_from_url, peek, read_checkpoint
from mmadaptor.checkpoints.openmmlab import register_safe_loaders
from mmadaptor.errors import DamagedFileError, InputError, UnsafeCheckpointError


class Planted:
    """Touches a file when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return pathlib.Path.touch, (self.mark,)


@pytest.fixture
def planted(tmp_path):
    path = tmp_path / 'planted.pth'
    torch.save(
        dict(state_dict=dict(weight=torch.ones(1)), x=Planted(tmp_path / 'ran')), path
    )
    return path


def read_by_loader(path):
    return CheckpointLoader.load_checkpoint(str(path), 'cpu')


def read_into_model(path):
    return load_checkpoint(torch.nn.Linear(1, 1, bias=False), str(path))


def read_by_init(path):
    PretrainedInit(str(path))(torch.nn.Linear(1, 1, bias=False))


def read_by_peek(path):
    return peek(str(path))


@pytest.fixture(params=['', 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'], ids=['', 'forced'])
def whatever_torch_is_told(request, monkeypatch):
    """Also where a user's environment asks torch for full unpickling."""
    if request.param:
        monkeypatch.setenv(request.param, '1')
    yield
    if request.param:
        assert os.environ[request.param] == '1'


READERS = [read_by_loader, read_into_model, read_by_init, read_by_peek]


@pytest.mark.parametrize('read', READERS)
@pytest.mark.usefixtures('whatever_torch_is_told')
def test_planted_object_is_refused_and_named(read, planted, tmp_path):
    with pytest.raises(UnsafeCheckpointError, match=re.escape(str(planted))):
        read(planted)
    assert not (tmp_path / 'ran').exists()


def test_the_planted_object_does_run_without_us(planted, tmp_path):
    torch.load(planted, weights_only=False)
    assert (tmp_path / 'ran').exists()


def test_http_has_no_fallback_either(
    planted, tmp_path, monkeypatch, address='https://example.org/planted.pth'
):
    """The download is there already, as in torch's cache."""
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))
    cache = tmp_path / 'hub' / 'checkpoints'
    cache.mkdir(parents=True)
    planted.rename(cache / 'planted.pth')
    with pytest.raises(UnsafeCheckpointError, match='https://example.org/planted.pth'):
        read_by_loader(address)
    assert not (tmp_path / 'ran').exists()


def test_another_mmengine_is_refused(monkeypatch):
    monkeypatch.delattr(mmengine_checkpoint, '_safe_torch_load')
    with pytest.raises(ImportError, match=r'has no _safe_torch_load: expected onedl-'):
        register_safe_loaders()


@pytest.mark.parametrize(
    'address', ['torchvision://planted', 'open-mmlab://planted', 'mmcls://planted']
)
def test_catalogues_have_no_fallback_either(address, planted, tmp_path, monkeypatch):
    for table in ('torchvision_models', 'external_models', 'mmcls_models'):
        monkeypatch.setattr(
            mmengine_checkpoint,
            f'get_{table}',
            lambda: dict(planted='https://example.org/planted.pth'),
        )
    test_http_has_no_fallback_either(planted, tmp_path, monkeypatch, address)


def test_file_backends_have_no_fallback_either(planted, tmp_path, monkeypatch):
    """mmengine reads bytes of a store by the same function."""
    monkeypatch.setattr(
        mmengine_checkpoint, 'get_file_backend', lambda *_, **__: LocalBackend()
    )
    monkeypatch.setattr(LocalBackend, 'get', lambda *_: planted.read_bytes())
    with pytest.raises(UnsafeCheckpointError, match=r'object \(pathlib'):
        read_by_loader('s3://bucket/planted.pth')
    assert not (tmp_path / 'ran').exists()


@pytest.mark.usefixtures('whatever_torch_is_told')
def test_what_mmengine_saves_is_read(tmp_path):
    history = HistoryBuffer([1.0, 2.0], [1, 1])
    content = dict(
        state_dict=dict(weight=torch.arange(3.0)),
        args=argparse.Namespace(lr=0.1),
        meta=dict(classes=('a',), palette=np.array([1, 2])),
        message_hub=dict(log_scalars=dict(loss=history)),
    )
    torch.save(content, tmp_path / 'good.pth')
    got = read_by_loader(tmp_path / 'good.pth')
    assert got['args'].lr == 0.1
    assert got['message_hub']['log_scalars']['loss'].mean() == 1.5
    torch.testing.assert_close(got['state_dict'], content['state_dict'])


@pytest.mark.parametrize('read', READERS)
@pytest.mark.parametrize('kept', [0, 10, 700])
def test_truncated_file_is_named(read, kept, tmp_path):
    path = tmp_path / 'cut.pth'
    torch.save(dict(state_dict=dict(weight=torch.ones(1, 1))), path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DamagedFileError, match=re.escape(str(path))):
        read(path)


@pytest.mark.parametrize('read', READERS)
@pytest.mark.parametrize('text', ['<html>not found</html>', 'hello world'])
def test_text_is_no_checkpoint(read, text, tmp_path):
    path = tmp_path / 'page.pth'
    path.write_text(text)
    with pytest.raises(DamagedFileError, match='page.pth'):
        read(path)


@pytest.mark.parametrize('read', READERS)
def test_another_zip_file_is_no_checkpoint(read, tmp_path):
    path = tmp_path / 'photos.pth'
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('photo.txt', 'none')
    with pytest.raises(DamagedFileError, match='photos.pth'):
        read(path)


@pytest.mark.parametrize('read', READERS)
def test_format_before_torch_1_6_cut_in_half(read, tmp_path):
    path = tmp_path / 'old.pth'
    torch.save(dict(weight=torch.ones(99)), path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DamagedFileError, match='old.pth'):
        read(path)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r'none\.pth: no such'):
        read_by_loader(tmp_path / 'none.pth')


def test_format_before_torch_1_6_is_read(tmp_path):
    path = tmp_path / 'old.pth'
    torch.save(dict(weight=torch.ones(2)), path, _use_new_zipfile_serialization=False)
    torch.testing.assert_close(peek(str(path))['weight'], torch.ones(2))


def test_the_home_folder_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    torch.save(dict(weight=torch.ones(2)), tmp_path / 'a.pth')
    for read in (read_checkpoint, peek):
        assert torch.equal(read('~/a.pth')['weight'], torch.ones(2))


def test_a_download_makes_its_folder(tmp_path):
    torch.save(dict(weight=torch.ones(2)), tmp_path / 'a.pth')
    folder = tmp_path / 'hub' / 'checkpoints'
    for _ in range(2):
        content = load_from_url((tmp_path / 'a.pth').as_uri(), str(folder))
        assert torch.equal(content['weight'], torch.ones(2))
        (tmp_path / 'a.pth').unlink(missing_ok=True)  # the second time it is there
    with pytest.raises(InputError, match=r'file:.*b\.pth cannot be read'):
        load_from_url((tmp_path / 'b.pth').as_uri(), str(folder))
    assert list(folder.iterdir()) == [folder / 'a.pth']


def test_a_device_without_memory_is_no_damage(tmp_path, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError('CUDA out of memory.')

    torch.save(dict(weight=torch.ones(2)), tmp_path / 'a.pth')
    monkeypatch.setattr(torch, 'load', full)
    with pytest.raises(torch.OutOfMemoryError):
        read_checkpoint(str(tmp_path / 'a.pth'))


@pytest.mark.skipif(not os.path.exists('/proc/self/maps'), reason='Linux only')
@pytest.mark.parametrize('read, maps', [(peek, True), (read_checkpoint, False)])
def test_only_peek_leaves_tensors_on_the_disk(read, maps, tmp_path):
    """What is read to be used does not change with the file."""
    path = tmp_path / 'a.pth'
    torch.save(dict(weight=torch.ones(9999)), path)
    content = read(str(path))
    assert (str(path) in pathlib.Path('/proc/self/maps').read_text()) == maps
    assert content['weight'].sum() == 9999
