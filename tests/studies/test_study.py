# SPDX-License-Identifier: Apache-2.0
"""Test that the runs of the studies build, and how records are reported."""

import _thread
import itertools
import json
import re
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.refusals import build
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')
pytest.importorskip('mmpretrain')

from mmadaptor.checkpoints.adaptor_only import count_trainable
from mmadaptor.checkpoints.pretrained import drop_pretrained, find_pretrained
from mmadaptor.datasets import trees
from mmadaptor.errors import InputError
from studies import report, run
from studies.boosters import BOOSTERS
from studies.fashion import BASE_CLASSES, NEW_CLASSES, TUNING_FASHION
from studies.studies import ABLATION, BOOSTER, CORNERS, PARTS, STUDIES, TUNING, VARIANTS
from studies.study import Study, average
from studies.trees import LEFT, RIGHT
from studies.tuning_trees import TUNING_TREES

TRAINS_ALL = ('everything', 'full', 'from scratch')
# Of the studies of rates one run each, because nothing else differs from other studies.
RUNS = {
    f'{name}, {one.name}': one
    for name, study in STUDIES.items()
    for one in (study.runs[:1] if name.endswith('_rates') else study.runs)
}


def config_of(one, tmp_path, checkpoint='x.pth'):
    path = tmp_path / 'config.py'
    one.make_config(tmp_path, 7, checkpoint).dump(path)
    return Config.fromfile(path)


@pytest.mark.parametrize('name', RUNS)
def test_every_run_builds_from_what_it_writes(name, tmp_path):
    one = RUNS[name]
    cfg = config_of(one, tmp_path)
    assert cfg.randomness.seed == 7 and cfg.work_dir == str(tmp_path)
    begins = [cfg.get('load_from'), *dict(find_pretrained(cfg.model)).values()]
    assert ('x.pth' in begins) == (one.after is not None)
    init_default_scope(cfg.default_scope)
    drop_pretrained(cfg.model)  # LoRAModel would load it when built
    model = MODELS.build(cfg.model)
    trainable, total = count_trainable(model)
    assert (trainable < total) == any(
        one in study.runs and not one.name.startswith(TRAINS_ALL)
        for study in STUDIES.values()
        if study.share
    )


@pytest.mark.parametrize('name', ['fashion, scan', 'tuning_fashion_50, linear'])
def test_class_folders_are_read(name, tmp_path):
    """What numbers its classes in an order of its own is not refused."""
    one = RUNS[name]
    cfg = config_of(one, tmp_path)
    drop_pretrained(cfg.model)
    for split in ('train', 'val', 'test'):
        cfg[f'{split}_dataloader'].dataset.data_root = str(tmp_path)
        for number, folder in enumerate((*BASE_CLASSES, *NEW_CLASSES)):
            (tmp_path / split / folder).mkdir(parents=True)
            for i in range(50):
                image = np.full((28, 28), number, np.uint8)
                cv2.imwrite(str(tmp_path / split / folder / f'{i}.png'), image)
    build(cfg)


def test_runs_of_a_study_have_folders_and_links_of_their_own():
    for study in STUDIES.values():
        runs = {*study.runs, *(one.after for one in study.runs if one.after)}
        assert len({one.key for one in runs}) == len(runs)
        assert len({one.link for one in runs}) == len(runs)


def test_studies_share_the_runs_of_the_same_configuration():
    def key(study, name):
        return next(one.key for one in STUDIES[study].runs if one.name == name)

    trees = key('trees', 'scan')
    assert trees == key('tuning_trees', 'from scratch') == key('booster_trees', 'base')
    bases = {one.after.key for one in STUDIES['tuning_fashion_10'].runs}
    assert bases == {one.after.key for one in STUDIES['tuning_fashion_all'].runs}
    assert key('trees', 'scan, T') != trees


def test_variants_differ_by_what_they_are_called(tmp_path):
    named = {
        one.name: one
        for study in (CORNERS, ABLATION, VARIANTS, BOOSTER, TUNING['tuning_discs'])
        for one in study.runs
    }

    def model_of(name):
        return config_of(named[name], tmp_path).model

    assert model_of('scan').backbone.get('adaptors') is None
    places = model_of('8 places').backbone.adaptors
    assert places == dict(temporal=dict(places=8))
    assert model_of('scan, S, one scale').backbone.adaptors == dict(
        spatial=dict(dilations=(1,))
    )
    assert model_of('no scan').backbone.type == 'mmadaptor.ConvolutionalVMamba'
    assert model_of("scan, VMamba's start").backbone.scan_init == 'vmamba'
    raised = config_of(named['base, trained on with adaptors'], tmp_path)
    assert set(raised.model.backbone.adaptors) == {'temporal', 'spatial'}
    assert raised.train_cfg.max_epochs == raised.param_scheduler[1].T_max == 5
    assert model_of('head').decode_head.num_classes == 3


@pytest.mark.parametrize('name', BOOSTERS)
def test_a_booster_has_the_budget_of_its_baseline(name, tmp_path):
    """Equal configs but for the adaptors, and for what the base starts from."""
    base, plain, *raised = STUDIES[name].runs
    configs = [config_of(one, tmp_path).to_dict() for one in (base, plain, *raised)]
    adaptors = [cfg['model']['backbone'].pop('adaptors', None) for cfg in configs]
    assert adaptors[:2] == [None, None]
    assert adaptors[2:] == [
        dict(temporal={}),
        dict(spatial={}),
        dict(temporal={}, spatial={}),
    ]
    assert all(cfg == configs[1] for cfg in configs[2:])
    configs[1].update(load_from=configs[0]['load_from'])
    configs[1]['default_hooks']['strict_load'].pop('optional')
    assert configs[0] == configs[1]


def test_a_tuned_detector_trains_what_its_base_lacks(tmp_path):
    for one in TUNING_TREES['tuning_trees'].runs[2:]:
        cfg = config_of(one, tmp_path)
        init_default_scope(cfg.default_scope)
        drop_pretrained(cfg.model)
        model = MODELS.build(cfg.model)
        for name, parameter in model.named_parameters():
            if name.startswith(('backbone.norm', 'neck', 'bbox_head')):
                assert parameter.requires_grad, (one.name, name)


def test_what_chooses_a_recipe_is_not_trained_on():
    """Of the training image, 2299 pixels wide and 2472 high."""
    tiles = list(itertools.product(trees.overlapping(2472), trees.overlapping(2299)))
    pixels = [[tiles[i][1] for i in part] for part in (LEFT, RIGHT)]
    assert max(right for _, right in pixels[0]) == min(left for left, _ in pixels[1])
    assert {tiles[i][0] for i in LEFT} == set(trees.overlapping(2472))
    rows = sorted({tiles[i][0] for i in RIGHT})
    assert rows == [(top, top + 256) for top in range(0, 2472 - 255, 256)]


def test_a_draw_of_images_has_the_seed_of_its_run(tmp_path):
    study = TUNING_FASHION['tuning_fashion_50']
    cfg = config_of(study.runs[0], tmp_path)
    assert cfg.train_dataloader.dataset.per_class == 50
    assert cfg.train_dataloader.dataset.seed == cfg.randomness.seed == 7


@pytest.fixture
def trained(monkeypatch):
    """Replace training by an immediate record; return the runs in order of launch."""
    names = []

    def launch(one, folder, seed, threads, before):
        names.append((one.name, seed))
        start = before.result()['checkpoint'] if before else ''
        return dict(checkpoint=f'{start}{one.name}.{seed} ', metrics={})

    monkeypatch.setattr(run, 'launch', launch)
    return names


def test_a_base_is_trained_once_a_seed_and_first_then_each_seed_of_all(
    trained, tmp_path
):
    records = run.run_all(BOOSTER.runs, tmp_path / 'booster', seeds=2, jobs=1)
    base, *raised = BOOSTER.runs
    assert trained == [(base.name, seed) for seed in (0, 1)] + [
        (one.name, seed) for seed in (0, 1) for one in raised
    ]
    assert records[BOOSTER.runs[1]][1]['checkpoint'] == ('scan.1 base, trained on.1 ')


def test_an_interrupted_study_begins_no_further_run(monkeypatch, tmp_path):
    begun = []

    def launch(one, *_):
        begun.append(one.name)
        _thread.interrupt_main()
        time.sleep(0.1)
        return {}

    monkeypatch.setattr(run, 'launch', launch)
    # A shell's background jobs ignore it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            run.run_all(PARTS.runs, tmp_path / 'parts', seeds=2, jobs=1)
    finally:
        signal.signal(signal.SIGINT, before)
    time.sleep(0.5)  # a pool that goes on would begin others
    assert len(begun) == 1


def test_a_failed_run_names_its_log_and_its_error(tmp_path):
    missing = str(tmp_path / 'missing')
    broken = run.Run(
        'broken',
        'mamba_adaptor_b0_shapes',
        {
            'embedded_dataset': None,  # skips generating the dataset
            'train_dataloader.dataset.data_root': missing,
        },
    )
    with pytest.raises(InputError, match=r'broken, seed 0.*output\.txt\n') as error:
        run.run_all((broken,), tmp_path / 'study', seeds=1, jobs=1)
    assert missing in str(error.value)
    assert missing in (tmp_path / 'study/broken/0/output.txt').read_text()


def test_a_run_that_ends_without_a_sentence_names_its_log(tmp_path, monkeypatch):
    monkeypatch.setattr(run.sys, 'executable', 'false')
    killed = run.Run('killed', 'mamba_adaptor_b0_shapes')
    with pytest.raises(InputError, match=r'killed, seed 0.*output\.txt$'):
        run.run_all((killed,), tmp_path / 'study', seeds=1, jobs=1)


@pytest.fixture
def started(monkeypatch):
    """Replace the process of a training by its record; return the folders."""
    folders = []

    def train(command, **_):
        folder = Path(command[-1])
        folders.append(folder)
        (folder / run.RECORD).write_text(
            json.dumps(dict(metrics={}, checkpoint='epoch_1.pth'))
        )
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(run.subprocess, 'run', train)
    return folders


def classifier(name, epochs=1, after=None):
    return run.Run(
        name, 'mamba_adaptor_b0_shapes', {'train_cfg.max_epochs': epochs}, after=after
    )


def test_a_run_is_trained_once_for_all_studies_and_names(started, tmp_path):
    for study, name, epochs in (
        ('one', 'plain', 1),
        ('other', 'base', 1),
        ('other', 'longer', 2),
    ):
        run.run_all((classifier(name, epochs),), tmp_path / study, seeds=1, jobs=1)
    assert len(started) == 2 and started[0] != started[1]
    assert 'max_epochs=2' in (tmp_path / 'other/longer/0.py').read_text()
    plain, base = (tmp_path / link for link in ('one/plain', 'other/base'))
    assert plain.resolve() == base.resolve() == started[0].parent


def test_runs_that_were_moved_are_bases_where_they_are_now(started, tmp_path):
    base = classifier('base')
    after = run.Run(
        'after', base.config, {**base.options, 'load_from': run.CHECKPOINT}, base
    )
    run.run_all((base,), tmp_path / 'old/study', seeds=1, jobs=1)
    (tmp_path / 'old').rename(tmp_path / 'new')
    # As records were written once.
    record = tmp_path / 'new/runs' / base.key / '0' / run.RECORD
    record.write_text(record.read_text().replace('epoch_1', f'{started[0]}/epoch_1'))
    run.run_all((after,), tmp_path / 'new/study', seeds=1, jobs=1)
    config = Path(f'{started[1]}.py').read_text()
    assert f"load_from='{record.parent}/epoch_1.pth'" in config.replace(' ', '')


def test_a_run_is_repeated_if_its_base_was(started, tmp_path):
    base = classifier('base')
    after = classifier('after', after=base)
    for _ in range(2):
        run.run_all((after,), tmp_path / 'study', seeds=1, jobs=1)
    assert [folder.parent.name for folder in started] == [base.key, after.key]
    (started[0] / run.RECORD).unlink()
    run.run_all((after,), tmp_path / 'study', seeds=1, jobs=1)
    assert [folder.parent.name for folder in started[2:]] == [base.key, after.key]


def test_a_folder_in_the_place_of_a_link_is_named(started, tmp_path):
    (tmp_path / 'study/plain/0').mkdir(parents=True)
    with pytest.raises(InputError, match='study/plain should be a link'):
        run.run_all((classifier('plain'),), tmp_path / 'study', seeds=1, jobs=1)
    assert not started


SIZES = dict(backbone=1e6, trainable=1, total=4, multiply_adds=5, commit='abc1234')
RECORDS = {
    PARTS.runs[2]: [
        dict(SIZES, metrics={'a': 0.5, 'b': 0.7}),
        dict(SIZES, metrics={'a': 0.6, 'b': 0.8}),
    ],
    PARTS.runs[3]: [dict(SIZES, metrics={'c': 9.0}, backbone=2e6, trainable=4)],
}
STUDY = Study(
    'A title',
    tuple(RECORDS),
    dict(both=average('a', 'b', points=100), other=average('c')),
    share=True,
)
RESULTS = report.collect(STUDY, RECORDS)


def test_table():
    assert report.table(STUDY, RESULTS).splitlines() == [
        '| run | backbone | trains | both | other |',
        '| --- | --- | --- | --- | --- |',
        '| scan | 1.000 M | 25.0 % | 65.0 ± 7.1 |  |',
        '| scan, T and S | 2.000 M | 100.0 % |  | 9.0 |',
        '',
        'Mean ± standard deviation, seeds: 1. Too few for a claim: 5 or more are needed.',
    ]


def test_table_with_intervals():
    """By hand: of 1 to 5 the deviation is sqrt(2.5), of the mean sqrt(0.5)."""
    points = [[1.0, 2.0, 3.0, 4.0, 5.0], [11.0, 13.0, 15.0, 17.0, 19.0]]
    runs = PARTS.runs[2:4]
    records = {
        one: [dict(SIZES, metrics=dict(a=value)) for value in values]
        for one, values in zip(runs, points)
    }
    study = Study('A title', runs, dict(a=average('a')), baseline=runs[0])
    results = report.collect(study, records)
    assert report.table(study, results).splitlines() == [
        '| run | backbone | a | a, against scan |',
        '| --- | --- | --- | --- |',
        # t of 4 degrees of freedom is 2.776. The differences are 10 to 14.
        '| scan | 1.000 M | 3.0 ± 2.0 |  |',
        '| scan, T and S | 1.000 M | 15.0 ± 3.9 | +12.0 ± 2.0 |',
        '',
        'Mean ± half of the 95 % confidence interval (Student t), seeds: 5. '
        'Differences are taken seed by seed.',
    ]
    lines = report.table(study.against('scan, T and S'), results).splitlines()
    assert lines[2:4] == [
        '| scan | 1.000 M | 3.0 ± 2.0 | -12.0 ± 2.0 |',
        '| scan, T and S | 1.000 M | 15.0 ± 3.9 |  |',
    ]
    message = r"a row of the table \(scan; scan, T and S\), got 'T and S'"
    with pytest.raises(InputError, match=message):
        study.against('T and S')


def test_table_with_multiply_adds(tmp_path):
    one = PARTS.runs[2]
    record = dict(metrics=dict(a=1.0), backbone=1e6, trainable=1, total=1, commit='a')
    records = {one: [dict(record, multiply_adds=12_340_000)]}
    study = Study('A title', (one,), dict(a=average('a')), cost=True)
    results = report.collect(study, records)
    assert report.table(study, results).splitlines()[:3] == [
        '| run | backbone | multiply-adds | a |',
        '| --- | --- | --- | --- |',
        '| scan | 1.000 M | 12.3 M | 1.0 |',
    ]
    report.save(study, results, tmp_path / 'results.json')
    saved = json.loads((tmp_path / 'results.json').read_text())
    assert saved['runs']['scan']['multiply_adds'] == 12_340_000


def test_equal_points_have_an_interval_of_zero():
    assert report.difference([2.0] * 5, [1.5] * 5) == '+0.5 ± 0.0'


def test_values_of_all_seeds_are_saved(tmp_path):
    report.save(STUDY, RESULTS, tmp_path / 'results.json')
    saved = json.loads((tmp_path / 'results.json').read_text())
    assert saved['title'] == 'A title'
    assert saved['runs']['scan'] == dict(
        both=[pytest.approx(60), pytest.approx(70)],
        other=[],
        backbone=1e6,
        trainable=1,
        total=4,
        multiply_adds=5,
        commits=['abc1234'],
    )


@pytest.fixture
def dots(monkeypatch):
    """The dots of seeds, as they are plotted."""
    dots, plot = [], Axes.plot

    def noted(self, x, y, *args, **kwargs):
        if 'o' in args and len(x):
            dots.append(
                ([round(float(v), 6) for v in x], [round(float(v), 6) for v in y])
            )
        return plot(self, x, y, *args, **kwargs)

    monkeypatch.setattr(Axes, 'plot', noted)
    return dots


def test_a_seed_is_a_dot_at_its_metric(dots, tmp_path):
    report.draw(replace(STUDY, share=False), RESULTS, tmp_path / 'plot.svg')
    assert report.digest(RESULTS) in (tmp_path / 'plot.svg').read_text()
    assert dots == [([60.0, 70.0], [0.0, 0.0]), ([9.0], [1.0])]


@pytest.mark.parametrize('count', [1, 2, 3, 4])
def test_each_column_has_a_panel_and_no_other_is_drawn(count, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        Figure, 'savefig', lambda figure, *_, **__: drawn.append(figure)
    )
    columns = {str(i): average('a', 'b') for i in range(count)}
    study = replace(STUDY, columns=columns, baseline=STUDY.runs[1])
    report.draw(study, report.collect(study, RECORDS), tmp_path / 'plot.svg')
    (figure,) = drawn
    labels = [panel.get_xlabel() for panel in figure.axes]
    assert labels == [*columns]  # the baseline lacks the metrics


def test_rows_are_sorted_by_the_share_that_trains(tmp_path):
    results = dict(reversed(RESULTS.items()))
    report.draw(replace(STUDY, share=True), results, tmp_path / 'plot.svg')
    labels = re.findall(
        r'<!-- (\w.*)  \((.*) %\) -->', (tmp_path / 'plot.svg').read_text()
    )
    assert labels == [('scan', '25.0'), ('scan, T and S', '100.0')]


def test_with_a_baseline_a_seed_is_a_dot_at_its_difference(dots, tmp_path):
    base, other = PARTS.runs[2:4]
    records = {
        base: [dict(SIZES, metrics=dict(a=value)) for value in (1.0, 3.0)],
        other: [dict(SIZES, metrics=dict(a=value)) for value in (2.0, 7.0)],
    }
    study = Study(
        'A title', (base, other), dict(a=average('a')), share=True, baseline=base
    )
    report.draw(study, report.collect(study, records), tmp_path / 'plot.svg')
    assert dots == [([1.0, 4.0], [0.0, 0.0])]
