# SPDX-License-Identifier: Apache-2.0
"""What a power cut leaves of the newest checkpoint is named and passed over."""

import os
import shutil

import pytest
import torch
from helpers.fork_server import ForkServer
from helpers.jobs import TOY, write_config

from mmadaptor.checkpoints.resumable import find_resumable
from mmadaptor.checkpoints.writing import save


def truncated(path):
    os.truncate(path, path.stat().st_size // 2)


def emptied(path):
    os.truncate(path, 0)


def zeroed(path):
    path.write_bytes(bytes(path.stat().st_size))


def last_page_zeroed(path):
    path.write_bytes(path.read_bytes()[:-4096].ljust(path.stat().st_size, b'\0'))


def middle_page_zeroed(path):
    content = bytearray(path.read_bytes())
    content[8192:12288] = bytes(4096)
    path.write_bytes(content)


def first_page_of_another(path):
    older = path.with_name('epoch_1.pth').read_bytes()
    path.write_bytes(older[:4096] + path.read_bytes()[4096:])


def not_renamed(path):
    path.rename(f'{path}.part')


def another_zip(path):
    shutil.make_archive(
        str(path.with_suffix('')), 'zip', path.parent, 'last_checkpoint'
    )
    path.with_suffix('.zip').rename(path)


CUTS = [
    truncated,
    emptied,
    zeroed,
    last_page_zeroed,
    middle_page_zeroed,
    first_page_of_another,
    not_renamed,
    another_zip,
]


@pytest.mark.parametrize('cut', CUTS, ids=lambda cut: cut.__name__)
@pytest.mark.parametrize('record', ['epoch_2.pth', 'epoch_3.pth', '', None])
def test_the_one_before_is_found(cut, record, tmp_path, caplog):
    """`last_checkpoint` may be as it was before the save, empty, or not there."""
    for epoch in (1, 2, 3):
        content = dict(
            meta=dict(epoch=epoch, iter=epoch),
            message_hub={},
            state_dict=dict(weight=torch.full((9999,), float(epoch))),
        )
        save(content, tmp_path / f'epoch_{epoch}.pth')
    (tmp_path / 'last_checkpoint').write_text('any')
    cut(tmp_path / 'epoch_3.pth')
    if record is None:
        (tmp_path / 'last_checkpoint').unlink()
    else:
        (tmp_path / 'last_checkpoint').write_text(record and str(tmp_path / record))
    assert find_resumable(str(tmp_path)) == str(tmp_path / 'epoch_2.pth')


def test_a_training_goes_on_from_the_one_before(tmp_path):
    server = ForkServer(tmp_path)
    run, log = tmp_path / 'run', tmp_path / 'log.txt'
    config = write_config(tmp_path, TOY, work_dir=str(run))
    try:
        server.start('train', config, log=log)
        assert server.wait() == 0, log.read_text()
        whole = torch.load(run / 'epoch_3.pth', weights_only=False)
        zeroed(run / 'epoch_3.pth')
        (run / 'epoch_9.pth.part').write_bytes(b'half')
        server.start('train', config, '--resume', log=log)
        assert server.wait() == 0, log.read_text()
    finally:
        server.close()
    assert f'{run}/epoch_3.pth is truncated or' in log.read_text()
    assert 'resumed epoch: 2' in log.read_text()
    torch.testing.assert_close(
        torch.load(run / 'epoch_3.pth', weights_only=False)['state_dict'],
        whole['state_dict'],
        rtol=0,
        atol=0,
    )
    assert not list(run.glob('*.part'))
