# SPDX-License-Identifier: Apache-2.0
"""Arguments that cannot be used are refused by argparse, with their name."""

import argparse

import pytest

from mmadaptor.arguments import new_checkpoint, new_file, positive, refuse_to_overwrite
from mmadaptor.errors import InputError


def test_a_file_to_write(tmp_path, monkeypatch):
    assert new_file(str(tmp_path / 'new')) == tmp_path / 'new'
    for text in (tmp_path, tmp_path / 'no' / 'new'):
        with pytest.raises(argparse.ArgumentTypeError, match='a folder that exists'):
            new_file(str(text))
    monkeypatch.setattr('os.access', lambda path, mode: path != tmp_path)
    with pytest.raises(argparse.ArgumentTypeError, match='that you may write to, got'):
        new_file(str(tmp_path / 'new'))


def test_a_file_is_not_written_over_its_source(tmp_path):
    (tmp_path / 'a.pth').touch()
    (tmp_path / 'b.pth').symlink_to(tmp_path / 'a.pth')
    with pytest.raises(InputError, match='give another name'):
        refuse_to_overwrite(str(tmp_path / 'b.pth'), str(tmp_path / 'a.pth'))
    refuse_to_overwrite(str(tmp_path / 'c.pth'), str(tmp_path / 'a.pth'))


@pytest.mark.parametrize('text', ['0', '-1', '2.5', 'x', ''])
def test_a_count_is_positive(text):
    assert positive('3') == 3
    with pytest.raises(argparse.ArgumentTypeError, match='an integer of 1 or more'):
        positive(text)


@pytest.mark.parametrize('name', ['config.py', 'weights', 'a.json', 'folder.pth'])
def test_a_checkpoint_is_not_written_over_something_else(name, tmp_path):
    (tmp_path / 'folder.pth').mkdir()
    with pytest.raises(argparse.ArgumentTypeError, match=r'ends with \.safetensors or'):
        new_checkpoint(str(tmp_path / name))
    for good in ('a.pth', 'new/b.safetensors'):
        assert new_checkpoint(good) == good
