# SPDX-License-Identifier: Apache-2.0
"""One error for all that is missing or broken."""

import pytest

from mmadaptor.engine.checks.report import Report
from mmadaptor.errors import InputError


def test_nothing_noted_raises_nothing(tmp_path):
    report = Report()
    (tmp_path / 'file').touch()
    assert report.require('key', str(tmp_path / 'file'))
    report.require_folder('root', str(tmp_path))
    report.hint('')
    report.note('worth a warning')
    report.raise_problems()
    assert report.hints == []


def test_all_is_listed_once_with_who_names_it(tmp_path):
    report = Report()
    gone = str(tmp_path / 'gone')
    assert not report.require('train.ann_file', gone)
    assert not report.require('val.ann_file', gone)
    report.require_folder('data_root', str(tmp_path))  # empty
    for _ in range(2):
        report.problem('It does not fit.')
        report.hint('Get it.')
    with pytest.raises(InputError) as error:
        report.raise_problems()
    assert str(error.value).splitlines() == [
        'Nothing was started. 3 to mend:',
        f'  1. missing: {gone}',
        '     named by train.ann_file, val.ann_file',
        f'  2. {tmp_path} is no folder with files',
        '     named by data_root',
        '  3. It does not fit.',
        'How to go on:',
        '  - Get it.',
        '  - Where a file lies elsewhere, link it to the place above or name it '
        'in the config, as by --cfg-options train.ann_file=PATH',
    ]
