# SPDX-License-Identifier: Apache-2.0
"""Tables of the studies, in their pages and in the README, are those of their values."""

import json
import re
from statistics import mean

import pytest
from helpers.jobs import ROOT

pytest.importorskip('mmdet')
pytest.importorskip('mmpretrain')
pytest.importorskip('mmseg')

from studies import rates, report
from studies.studies import STUDIES

FOLDER = ROOT / 'docs' / 'studies'
PAGES = {page.stem: page.read_text() for page in FOLDER.glob('*.md')}
SAVED = {
    path.stem: json.loads(path.read_text())['runs']
    for path in sorted(FOLDER.glob('*.json'))
}


@pytest.mark.parametrize('name', SAVED)
def test_a_table_is_that_of_its_values(name):
    """Those with which only rates were chosen need no table."""
    study, results = STUDIES[name], SAVED[name]
    assert list(results) == [run.name for run in study.runs]
    if not name.endswith('_rates'):
        rows = report.table(study, results).partition('\n\n')[0]
        assert sum(rows in text for text in PAGES.values()) == 1
        assert report.seeds_of(study, results) >= report.ENOUGH


@pytest.mark.parametrize('name', [n for n in SAVED if not n.endswith('_rates')])
def test_a_plot_is_that_of_its_values(name):
    assert report.digest(SAVED[name]) in (FOLDER / f'{name}.svg').read_text()


@pytest.mark.parametrize('name', [name for name in SAVED if name.endswith('_rates')])
def test_each_method_has_its_best_rate(name):
    methods = {run.name: run for run in STUDIES[name.removesuffix('_rates')].runs}
    for method, tried in rates.scores(SAVED[name]).items():
        rate = methods[method].options['optim_wrapper.optimizer.lr']
        assert rate == max(tried, key=tried.get), method


@pytest.mark.parametrize('name', STUDIES)
def test_a_study_is_on_a_page(name):
    assert any(re.search(rf'`{name}`|studies.* {name}\b', t) for t in PAGES.values())


ROWS = {
    'everything': 'full',
    'Adaptors T and S, norms, depthwise convolutions': 'T and S, norms, conv',
    'Adaptors T and S': 'T and S',
    'LoRA of the scan': 'LoRA, all of the scan',
    'norms, depthwise convolutions': 'norms, conv',
}


@pytest.mark.parametrize('told, name', ROWS.items())
def test_a_row_of_the_readme_is_that_of_the_studies(told, name):
    text = (ROOT / 'README.md').read_text()
    (line,) = (line for line in text.splitlines() if line.startswith(f'| {told} |'))
    share, *values = (cell.strip() for cell in line.strip('|').split('|')[1:])
    heads = re.search(r'^\| what is tuned \|.*', text, re.MULTILINE)[0]
    numbers = re.findall(r'N = (\w+)', heads)
    rows = [SAVED[f'tuning_fashion_{number}'][name] for number in numbers]
    assert values == [report.spread(row['top-1']) for row in rows]
    assert float(share.split()[0]) == pytest.approx(report.share(rows[0]), abs=0.05)


KEPT = re.findall(
    r'^\| (\w.*?) \| ([\d.]+) % \| (.*) \|$', PAGES['index'], re.MULTILINE
)


def test_rows_of_what_is_kept_are_found():
    assert len(KEPT) == 6


@pytest.mark.parametrize('name, share, cells', KEPT)
def test_what_is_kept_of_full_fine_tuning(name, share, cells):
    assert share == f'{report.share(SAVED["tuning_fashion_all"][name]):.1f}'
    for number, cell in zip(['10', '50', '200', 'all'], cells.split('|'), strict=True):
        runs = SAVED[f'tuning_fashion_{number}']
        if name not in runs:
            assert not cell.strip()
            continue
        pairs = zip(runs[name]['top-1'], runs['full']['top-1'], strict=True)
        kept = [100 * ours / full for ours, full in pairs]
        text = f'{mean(kept):.2f} ± {report.width(kept):.2f}'
        above = mean(kept) - report.width(kept) > 99
        assert cell.strip() == (f'**{text}**' if above else text)
