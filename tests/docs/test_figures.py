# SPDX-License-Identifier: Apache-2.0
"""Figures in the documentation are those of `benchmarks/results` and of the models."""

import ast
import json
import re

import pytest
import torch
from helpers.jobs import ROOT

from benchmarks import model_table, scaling, scan_table
from benchmarks import models as models_benchmark
from mmadaptor import models

RESULTS = ROOT / 'benchmarks' / 'results'


def text_of(name):
    return (ROOT / name).read_text()


def row_of(op, shape, dtype='float32', layout=''):
    (row,) = (
        r
        for r in json.loads((RESULTS / 'ops_cpu.json').read_text())['rows']
        if r['op'] == op
        and r['shape'].startswith(shape)
        and r['dtype'] == dtype
        and r['shape'].endswith(layout)
    )
    return row


def near(told, value):
    """Whether a number is another one, rounded to the digits that it has."""
    digits = len(told.partition('.')[2])
    return f'{value:.{digits}f}' == told


SCAN = '(1, 56, 56, 96) N=1'
READOUT = '(8, 56, 56, 4, 96)'
DILATED = '(8, 56, 56, 96)'
PAIRS = dict(
    cross=(('cross_selective_scan', SCAN), ('composition of it', SCAN)),
    readout=(('memory_readout', READOUT), ('by memory_select', READOUT)),
    dilated=(('dilated_depthwise', DILATED), ('dilated by torch', DILATED)),
)


def exact(op, shape):
    return row_of(op, shape, layout='' if shape != SCAN else 'N=1')


def test_ratios_of_the_ops():
    told = re.search(
        r'map takes (\S+) of the time and (\S+) of the memory.*'
        r'`memory_readout` (\S+) and (\S+) of softmax.*'
        r'`dilated_depthwise`\s(\S+) and (\S+) of torch',
        text_of('docs/speed.md'),
        re.DOTALL,
    ).groups()
    values = [
        exact(*ours)[key] / exact(*other)[key]
        for ours, other in PAIRS.values()
        for key in ('step_ms', 'step_memory_in_inputs')
    ]
    assert all(map(near, told, values)), (told, values)


OPS = {
    '`selective_scan` (1, 384, 3136), N=1': (
        'selective_scan', '(1, 384, 3136) N=1 G=1 (B, D, L)'),
    '`selective_scan` (1, 384, 3136), N=16': (
        'selective_scan', '(1, 384, 3136) N=16 G=1 (B, D, L)'),
    '`cross_selective_scan` (1, 56, 56, 96), N=1': ('cross_selective_scan', SCAN),
    'the same by copies and the 1-D scan': ('composition of it', SCAN),
    '`cross_selective_scan` (1, 56, 56, 96), N=16': ('cross_selective_scan', SCAN + '6'),
    '`memory_readout` (8, 56, 56, 4, 96), S=2, P=4': ('memory_readout', READOUT),
    'the same by softmax, gather and readout': ('by memory_select', READOUT),
    '`dilated_depthwise` (8, 56, 56, 96), three dilations': PAIRS['dilated'][0],
    "the same by torch's convolutions": PAIRS['dilated'][1],
}  # fmt: skip


@pytest.mark.parametrize('name', OPS)
def test_times_of_the_ops(name):
    (line,) = (x for x in text_of('docs/speed.md').splitlines() if f'| {name} |' in x)
    told = [cell.split()[0] for cell in line.split('|')[2:5]]
    row = exact(*OPS[name])
    keys = ('forward_ms', 'step_ms', 'step_memory_in_inputs')
    assert all(near(t, row[key]) for t, key in zip(told, keys)), (told, row)


@pytest.mark.parametrize(
    'file, key, format_table',
    [
        ('models_cpu', 'rows', models_benchmark.table),
        ('models_cpu_1_thread', 'rows', models_benchmark.table),
        ('peers_scans_cpu', 'scans', scan_table.tables),
        ('peers_models_cpu', 'models', model_table.table),
        ('scaling_cpu', 'rows', scaling.table),
    ],
)
def test_tables(file, key, format_table):
    """As the benchmarks print them."""
    rows = json.loads((RESULTS / f'{file}.json').read_text())[key]
    assert format_table(rows) in text_of('docs/speed.md')


CROSS = {
    'this op, N = 1': ('cross_selective_scan', SCAN, 'N=1'),
    '1-D op at as many': ('selective_scan', '(1, 384, 3136) N=1 G=4', 'channels last'),
    'copies, 1-D op, merge (': ('composition of it', SCAN, 'N=1'),
    'this op, N = 16': ('cross_selective_scan', SCAN, 'N=16'),
    '1-D op |': ('selective_scan', '(1, 384, 3136) N=16 G=4', 'channels last'),
    'copies, 1-D op, merge |': ('composition of it', SCAN, 'N=16'),
}


@pytest.mark.parametrize('name', CROSS)
def test_figures_of_the_scan_of_a_map(name):
    op, shape, layout = CROSS[name]
    row = row_of(op, shape, layout=layout)
    lines = text_of('mmadaptor/ops/cross_selective_scan/README.md').splitlines()
    line = next(line for line in lines if line.startswith(f'| {name}'))
    told = [
        text for cell in line.split('|')[2:5] for text in re.findall(r'[\d.]+', cell)
    ]
    keys = ('forward_ms', 'step_ms', 'step_memory_in_inputs')
    assert all(near(t, row[key]) for t, key in zip(told, keys, strict=True)), told


@pytest.mark.parametrize('size, width', [(56, 96), (28, 192), (14, 384), (7, 768)])
def test_figures_of_dilated_depthwise(size, width):
    lines = text_of('mmadaptor/ops/dilated_depthwise/README.md').splitlines()
    line = next(x for x in lines if x.startswith(f'| {size}x{size}, D {width} |'))
    shape = f'(8, {size}, {size}, {width})'
    values = [
        row_of('dilated by torch', shape, dtype)[key]
        / row_of('dilated_depthwise', shape, dtype)[key]
        for dtype in ('float32', 'bfloat16')
        for key in ('forward_ms', 'step_ms')
    ]
    told = [cell.strip() for cell in line.split('|')[2:6]]
    assert all(map(near, told, values)), (told, values)


def test_no_row_of_figures_stands_twice():
    """Two tables of other quantities do not have the same figures."""
    for path in sorted(ROOT.glob('mmadaptor/ops/*/README.md')):
        rows = [
            line
            for line in path.read_text().splitlines()
            if line.startswith('|') and len(re.findall(r'\d+\.\d+', line)) > 2
        ]
        assert len(set(rows)) == len(rows), path


@pytest.mark.parametrize('name', ['memory_readout', 'softmax, memory_select'])
def test_figures_of_memory_readout(name):
    lines = text_of('mmadaptor/ops/memory_readout/README.md').splitlines()
    line = next(x for x in lines if x.startswith(f'| {name}'))
    row = exact('memory_readout' if '_readout' in name else 'by memory_select', READOUT)
    told = [cell.strip() for cell in line.split('|')[2:5]]
    keys = ('forward_ms', 'step_ms', 'step_memory_in_inputs')
    assert all(near(t, row[key]) for t, key in zip(told, keys)), told


def published_files():
    for line in text_of('docs/weights.md').splitlines():
        if found := re.match(
            r'\| `(\S+\.pth)` \| ([\d,]+) \| `(\w+)\((.*)\)` \|', line
        ):
            yield found.groups()


@pytest.mark.parametrize('file, count, kind, arguments', published_files())
def test_sizes_of_published_files(file, count, kind, arguments):
    """Of the backbone and a head for 1000 classes."""
    call = ast.parse(f'f({arguments})', mode='eval').body
    kwargs = {k.arg: eval(ast.unparse(k.value)) for k in call.keywords}
    if kind == 'VMamba':
        kwargs['out_indices'] = (3,)
    with torch.device('meta'):
        backbone = getattr(models, kind)(**kwargs)
    *_, norm = backbone.parameters()
    parameters = sum(p.numel() for p in backbone.parameters())
    assert parameters + 1000 * len(norm) + 1000 == int(count.replace(',', ''))
