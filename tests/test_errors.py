# SPDX-License-Identifier: Apache-2.0
"""Sentences for what the user can mend."""

import errno
import os
import re

import pytest

from mmadaptor.errors import (
    CheckpointWriteError,
    InputError,
    as_input_error,
    described,
    disk_error_of,
    how_to_install,
    message_of,
    reason_of,
)


@pytest.mark.parametrize('code', [errno.ENOSPC, errno.EFBIG, errno.EROFS])
def test_a_disk_that_cannot_be_written(code):
    error = disk_error_of(OSError(code, os.strerror(code), 'run/log.txt'))
    assert isinstance(error, CheckpointWriteError)
    assert str(error).startswith(f'run/log.txt: {os.strerror(code)}. ')
    assert disk_error_of(OSError(code, 'full')).args[0].startswith('The disk: full')


def test_other_errors_of_the_system_are_left_alone():
    assert disk_error_of(OSError(errno.ENOENT, 'none')) is None


def test_the_traceback_of_a_data_worker_is_left_out():
    error = InputError('Caught in worker 0:\nInputError: the message')
    assert message_of(error) == 'the message'
    assert message_of(InputError('the message')) == 'the message'


def test_reasons_and_types_of_other_errors():
    assert reason_of(KeyError('name')) == reason_of(ValueError(' name\n')) == 'name'
    assert described(KeyError('name')) == "KeyError: 'name'"


def test_an_error_without_a_message_is_its_line():
    with pytest.raises(AssertionError) as raised:
        raise AssertionError
    assert re.fullmatch(
        rf'AssertionError: raise AssertionError \({__file__}:\d+\)',
        described(raised.value),
    )


def test_what_to_install():
    assert how_to_install(None) == how_to_install('numpy') == ''
    assert how_to_install('mmdet') == ''


def test_a_part_of_the_config_is_named():
    with (
        pytest.raises(InputError, match='`model` of the config: no such'),
        as_input_error('model'),
    ):
        raise KeyError('no such')


def test_a_bare_assertion_of_a_toolbox_is_shown():
    FPN = pytest.importorskip('mmdet.models.necks').FPN

    says = r': AssertionError: assert num_outs .*fpn\.py:\d+\)$'
    with pytest.raises(InputError, match=says), as_input_error('model'):
        FPN([8, 8], 8, num_outs=1)
