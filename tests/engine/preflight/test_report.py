# SPDX-License-Identifier: Apache-2.0
"""One error for all that is missing or does not fit."""

from mmadaptor.engine.preflight.report import Report
from mmadaptor.errors import DamagedFileError


def test_nothing_reported_gives_no_text(tmp_path):
    report = Report()
    (tmp_path / 'file').touch()
    assert report.require('key', str(tmp_path / 'file'))
    report.hint('')
    report.note('worth a warning')
    assert not report and report.text('Training') == '' and report.hints == []


def test_all_is_listed_once_with_who_names_it(tmp_path):
    report = Report()
    gone = str(tmp_path / 'gone')
    assert not report.require('train.ann_file', gone)
    assert not report.require('val.ann_file', gone)
    for key in ('data_root', 'data_root', 'data_prefix'):
        report.problem(f'{tmp_path} is not a folder with files', key)
    for _ in range(2):
        report.problem('It does not fit.')
        report.hint('Get it.')
    assert report.text('Training').splitlines() == [
        'Training not started: 3 problems found',
        f'  1. missing: {gone}',
        '     named by train.ann_file, val.ann_file',
        f'  2. {tmp_path} is not a folder with files',
        '     named by data_root, data_prefix',
        '  3. It does not fit.',
        'How to continue:',
        '  - Get it.',
        '  - If a file is elsewhere, link it to the path above, or set its path: '
        '--cfg-options train.ann_file=PATH',
    ]


def test_exceptions_are_collected(tmp_path):
    report = Report()
    with report.collect('a', 'The list'):
        (tmp_path / 'none.txt').read_text()
    with report.collect('b', 'The file'):
        raise DamagedFileError('x.png cannot be read')
    with report.collect('c', 'list.txt'):
        int('x')
    assert report.missing == {str(tmp_path / 'none.txt'): ['a']}
    (image, keys), (text, _) = report.problems.items()
    assert (image, keys) == ('x.png cannot be read', ['b'])
    assert text.startswith('list.txt cannot be read: ValueError: invalid')
