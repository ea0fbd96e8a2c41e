# SPDX-License-Identifier: Apache-2.0
"""The newest checkpoint that is not damaged is found."""

import shutil

import pytest
import torch

from mmadaptor.checkpoints.resumable import find_resumable, open_resumable
from mmadaptor.errors import DamagedFileError, InputError


def save_run(folder, numbers, stem='epoch_', last=None):
    for number in numbers:
        torch.save(
            dict(meta=dict(epoch=number, iter=number), message_hub={}, state_dict={}),
            folder / f'{stem}{number}.pth',
        )
    (folder / 'last_checkpoint').write_text(
        str(folder / f'{stem}{last or numbers[-1]}.pth')
    )


def cut(path):
    path.write_bytes(path.read_bytes()[:-40])


@pytest.mark.parametrize('stem', ['epoch_', 'iter_', 'mine+'])
def test_truncated_newest_is_named_and_skipped(stem, tmp_path, monkeypatch):
    save_run(tmp_path, [8, 9, 10], stem)
    said = []
    monkeypatch.setattr(
        'mmadaptor.checkpoints.resumable.warn', lambda message, *_: said.append(message)
    )
    assert find_resumable(str(tmp_path)) == str(tmp_path / f'{stem}10.pth')
    assert not said
    cut(tmp_path / f'{stem}10.pth')
    assert find_resumable(str(tmp_path)) == str(tmp_path / f'{stem}9.pth')
    assert len(said) == 1
    assert f'{stem}10.pth is truncated' in said[0]


def test_checkpoints_of_an_older_run_are_not_taken(tmp_path):
    """A new run in the same folder had come to its second epoch."""
    save_run(tmp_path, [1, 2, 12], last=2)
    cut(tmp_path / 'epoch_2.pth')
    assert find_resumable(str(tmp_path)) == str(tmp_path / 'epoch_1.pth')


@pytest.mark.parametrize('stem', ['epoch_', 'iter_'])
@pytest.mark.parametrize('record', ['', '{}\n'])
def test_a_record_that_is_empty_or_written_by_hand_is_no_obstacle(
    stem, record, tmp_path
):
    save_run(tmp_path, [1, 2], stem)
    newest = str(tmp_path / f'{stem}2.pth')
    (tmp_path / 'last_checkpoint').write_text(record.format(newest))
    assert find_resumable(str(tmp_path)) == newest


def test_a_copied_folder_is_resumed_from_its_own_files(tmp_path):
    old = tmp_path / 'old'
    old.mkdir()
    save_run(old, [1, 2])
    shutil.copytree(old, tmp_path / 'new')
    assert find_resumable(str(tmp_path / 'new')) == str(
        tmp_path / 'new' / 'epoch_2.pth'
    )


def test_a_moved_folder_is_resumed_in_its_new_place(tmp_path):
    old = tmp_path / 'old'
    old.mkdir()
    save_run(old, [1, 2])
    old.rename(tmp_path / 'new')
    assert find_resumable(str(tmp_path / 'new')) == str(
        tmp_path / 'new' / 'epoch_2.pth'
    )


def test_all_damaged_is_an_error_that_names_all(tmp_path):
    save_run(tmp_path, [1, 2])
    cut(tmp_path / 'epoch_1.pth')
    cut(tmp_path / 'epoch_2.pth')
    with pytest.raises(InputError, match=r'(?s)epoch_2\.pth.*epoch_1\.pth'):
        find_resumable(str(tmp_path))


def test_weights_alone_are_not_resumed_from(tmp_path):
    path = tmp_path / 'epoch_1.pth'
    torch.save(dict(meta={}, state_dict={}), path)
    with pytest.raises(DamagedFileError, match='epoch_1.pth.*no message_hub'):
        open_resumable(str(path))
    with pytest.raises(InputError, match='epoch_1.pth.*no message_hub'):
        find_resumable(str(tmp_path))


NUMBERS = dict(epoch=1, iter=2, seed=3)


@pytest.mark.parametrize(
    'changes, says',
    [
        (dict(meta=None), 'its meta is not a dict'),
        (dict(message_hub='none'), 'its message_hub is not a dict'),
        (dict(meta={}), r"meta\['epoch'\] is no number from 0 to 2147483647"),
        (dict(meta=dict(NUMBERS, epoch='1')), r"meta\['epoch'\] is no number"),
        (dict(meta=dict(NUMBERS, epoch=True)), r"meta\['epoch'\] is no number"),
        (dict(meta=dict(NUMBERS, epoch=2**31)), r"meta\['epoch'\] is no number"),
        (dict(meta=dict(NUMBERS, iter=-1)), r"meta\['iter'\] is no number from 0"),
        (dict(meta=dict(NUMBERS, iter=2**53)), r"meta\['iter'\] is no number"),
        (dict(meta=dict(NUMBERS, seed=-1)), r"meta\['seed'\] is no number from 0"),
        (dict(meta=dict(NUMBERS, seed=2**32)), r"meta\['seed'\] is no number"),
    ],
)
def test_a_state_that_no_training_has_is_named(changes, says, tmp_path):
    content = dict(meta=NUMBERS, message_hub={}, state_dict={})
    path = tmp_path / 'epoch_1.pth'
    torch.save(content, path)
    assert open_resumable(str(path))['meta'] == NUMBERS
    torch.save({**content, **changes}, path)
    with pytest.raises(DamagedFileError, match=f'epoch_1.pth cannot be .*: {says}'):
        open_resumable(str(path))
    torch.save(dict(message_hub={}), path)
    with pytest.raises(DamagedFileError, match='it has no meta[.]'):
        open_resumable(str(path))


@pytest.mark.parametrize('record', [b'', b'\xff\xfe\x00', b'none/of/these', b'/etc'])
def test_a_wrong_record_is_no_obstacle(record, tmp_path):
    save_run(tmp_path, [1, 2])
    (tmp_path / 'last_checkpoint').write_bytes(record)
    assert find_resumable(str(tmp_path)) == str(tmp_path / 'epoch_2.pth')
    (tmp_path / 'last_checkpoint').unlink()
    assert find_resumable(str(tmp_path)) == str(tmp_path / 'epoch_2.pth')


def test_checkpoints_in_another_folder_are_found(tmp_path):
    """Where `out_dir` of the CheckpointHook put them."""
    (tmp_path / 'run').mkdir()
    (tmp_path / 'out').mkdir()
    save_run(tmp_path / 'out', [1, 2])
    (tmp_path / 'out' / 'last_checkpoint').rename(tmp_path / 'run' / 'last_checkpoint')
    assert find_resumable(str(tmp_path / 'run')) == str(tmp_path / 'out/epoch_2.pth')


def test_the_best_checkpoint_is_not_the_newest(tmp_path):
    save_run(tmp_path, [9, 10])
    shutil.copy(tmp_path / 'epoch_9.pth', tmp_path / 'best_mAP_epoch_99.pth')
    for part in ('epoch_10.pth.part', 'epoch_11.pth.part'):
        (tmp_path / part).write_bytes(b'half')
    assert find_resumable(str(tmp_path)) == str(tmp_path / 'epoch_10.pth')


def test_nothing_there_yet(tmp_path):
    assert find_resumable(str(tmp_path)) is None
    assert find_resumable(str(tmp_path / 'none')) is None


def test_an_address_is_taken_as_recorded(tmp_path):
    """From a remote `out_dir`; a file of an older run in the folder is not it."""
    save_run(tmp_path, [1, 2])
    address = 's3://bucket/run/iter_80000.pth'
    (tmp_path / 'last_checkpoint').write_text(address)
    assert find_resumable(str(tmp_path)) == address


@pytest.mark.parametrize(
    'place, saved_to', [('run', 'out/run'), ('out/run', 'out/run'), ('run', 'run/ckpt')]
)
def test_after_a_move_all_folders_of_the_training_are_searched(
    place, saved_to, tmp_path
):
    (tmp_path / 'run').mkdir()
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    save_run(tmp_path / place, [1, 2])
    (tmp_path / 'run' / 'last_checkpoint').write_text('/gone/run/epoch_2.pth')
    found = find_resumable(str(tmp_path / 'run'), str(tmp_path / saved_to))
    assert found == str(tmp_path / place / 'epoch_2.pth')


def test_without_the_recorded_file_the_one_before_it_is_taken(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr('mmadaptor.checkpoints.resumable.warn', said.append)
    run, out = tmp_path / 'run', tmp_path / 'out' / 'run'
    run.mkdir()
    out.mkdir(parents=True)
    save_run(out, [1, 2])
    (out / 'last_checkpoint').rename(run / 'last_checkpoint')
    (out / 'epoch_2.pth').unlink()
    assert find_resumable(str(run)) == str(out / 'epoch_1.pth')
    last = out / 'epoch_2.pth'
    assert said == [f'{last} is the last checkpoint as recorded, and it is missing.']


@pytest.mark.parametrize('elsewhere', [True, False])
def test_of_two_files_of_a_name_out_dir_decides(elsewhere, tmp_path):
    run, out = tmp_path / 'run', tmp_path / 'out' / 'run'
    for folder in (run, out):
        folder.mkdir(parents=True)
        save_run(folder, [1, 2])
    (run / 'last_checkpoint').write_text(str(out / 'epoch_2.pth'))
    place = out if elsewhere else run
    assert find_resumable(str(run), str(place)) == str(place / 'epoch_2.pth')


@pytest.mark.parametrize('record', ['{}/gone/epoch_2.pth', '{}/epoch_2.pth', ''])
def test_a_record_of_nothing_is_an_error(record, tmp_path):
    (tmp_path / 'last_checkpoint').write_text(record.format(tmp_path))
    with pytest.raises(
        InputError, match='found none.*from the beginning, remove .*last'
    ):
        find_resumable(str(tmp_path))


@pytest.mark.parametrize('name', ['latest.pth', 'ep_7_of_mine.pth', 'epoch_2.pt'])
def test_names_of_ones_own_are_found(name, tmp_path):
    save_run(tmp_path, [1, 2])
    (tmp_path / 'epoch_2.pth').rename(tmp_path / name)
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / name))
    assert find_resumable(str(tmp_path)) == str(tmp_path / name)


def test_below_a_moved_folder(tmp_path):
    """`filename_tmpl='ckpt/epoch_{}.pth'`; the old place is still there."""
    for run in (tmp_path / 'old', tmp_path / 'new'):
        (run / 'ckpt').mkdir(parents=True)
        save_run(run / 'ckpt', [1, 2])
        (run / 'last_checkpoint').write_text(str(tmp_path / 'old/ckpt/epoch_2.pth'))
    found = find_resumable(str(run), str(run / 'ckpt'))
    assert found == str(tmp_path / 'new' / 'ckpt' / 'epoch_2.pth')


def test_shards_are_left_to_mmengine(tmp_path):
    (tmp_path / 'epoch_1.pth').mkdir()
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_1.pth'))
    assert find_resumable(str(tmp_path)) == str(tmp_path / 'epoch_1.pth')


def test_the_home_folder_is_expanded(tmp_path, monkeypatch):
    save_run(tmp_path, [1])
    monkeypatch.setenv('HOME', str(tmp_path))
    assert open_resumable('~/epoch_1.pth')['meta']['epoch'] == 1
    with pytest.raises(InputError, match='~/epoch_2.pth: no such'):
        open_resumable('~/epoch_2.pth')
