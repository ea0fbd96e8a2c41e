# SPDX-License-Identifier: Apache-2.0
"""The custom ops of onnxruntime, compared with torch's ops, bit for bit."""

import itertools
import os
import pathlib
import subprocess
import sys

import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from mmadaptor.export.custom_ops import custom_ops_library

OPS = torch.ops.mmadaptor
BATCH, HEIGHT, WIDTH, CHANNELS, STATES, LENGTH = 2, 5, 9, 40, 3, 70


def rand(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def run(op, inputs, outputs=1, threads=2, **attributes):
    """Call a custom op on tensors; None is an omitted argument."""
    given = {f'x{i}': t for i, t in enumerate(inputs) if t is not None}
    names = [f'x{i}' if f'x{i}' in given else '' for i in range(len(inputs))]
    results = [f'y{i}' for i in range(outputs)]
    node = helper.make_node(op, names, results, domain='mmadaptor', **attributes)
    infos = [
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in part]
        for part in (given, results)
    ]
    graph = helper.make_graph([node], 'g', *infos)
    opsets = [helper.make_opsetid('mmadaptor', 1), helper.make_opsetid('', 20)]
    model = helper.make_model(graph, ir_version=10, opset_imports=opsets)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    options.register_custom_ops_library(str(custom_ops_library()))
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=['CPUExecutionProvider']
    )
    found = session.run(None, {n: t.numpy() for n, t in given.items()})
    return [torch.from_numpy(t) for t in found]


def same(got, expected):
    for ours, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def sequence(B, C, batch=BATCH):
    u, z, delta = (rand(batch, CHANNELS, LENGTH, seed=i) for i in range(3))
    A = -torch.rand(CHANNELS, STATES)
    bias = rand(CHANNELS, seed=5).abs()
    return [u, delta.abs(), A, B, C, rand(CHANNELS), z, bias]


COEFFICIENTS = {
    'fixed': (CHANNELS, STATES),
    'varying': (BATCH, STATES, LENGTH),
    'groups': (BATCH, 4, STATES, LENGTH),
}


PAIRS = [
    pair
    for pair in itertools.product(COEFFICIENTS, repeat=2)
    if set(pair) != {'varying', 'groups'}  # not the same groups
]


@pytest.mark.parametrize('softplus', [False, True])
@pytest.mark.parametrize(('B', 'C'), PAIRS)
def test_selective_scan(B, C, softplus):
    inputs = sequence(rand(*COEFFICIENTS[B], seed=3), rand(*COEFFICIENTS[C], seed=4))
    expected = OPS.selective_scan(*inputs, softplus)[:2]
    got = run('SelectiveScan', inputs, 2, delta_softplus=int(softplus))
    same(got, expected)
    u, delta, A, B, C, *_, bias = inputs
    expected = OPS.selective_scan_states(u, delta, A, B, bias, softplus)[:1]
    states = [u, delta, A, B, bias]
    same(run('SelectiveScanStates', states, delta_softplus=int(softplus)), expected)


def test_selective_scan_of_required_arguments():
    u, delta, A, B, C, *_ = sequence(
        *(rand(BATCH, STATES, LENGTH, seed=i) for i in (3, 4))
    )
    expected = OPS.selective_scan(u, delta, A, B, C, None, None, None, True)
    got = run('SelectiveScan', [u, delta, A, B, C], 1, delta_softplus=1)
    same(got, expected[:1])


def directed(*inner, batch=BATCH, seed=0):
    return rand(batch, HEIGHT, WIDTH, 4, *inner, seed=seed)


def crossing(states=STATES, channels=CHANNELS, batch=BATCH):
    return [
        rand(batch, HEIGHT, WIDTH, channels),
        directed(channels, batch=batch, seed=1),
        -torch.rand(4, channels, states),
        directed(states, batch=batch, seed=2),
        directed(states, batch=batch, seed=3),
        rand(4, channels),
        rand(4, channels, seed=5),
    ]


@pytest.mark.parametrize('batch', [1, 3])
@pytest.mark.parametrize('states', [1, STATES])
@pytest.mark.parametrize('channels', [7, 200])
def test_cross_selective_scan(states, channels, batch):
    inputs = crossing(states, channels, batch)
    y, all_states, _ = OPS.cross_selective_scan(*inputs, True, True)
    options = dict(delta_softplus=1)
    got = run('CrossSelectiveScan', inputs, 2, return_states=1, **options)
    same(got, [y, all_states])
    same(run('CrossSelectiveScan', inputs, 1, return_states=0, **options), [y])
    x, delta, A, B, C, _, bias = inputs
    same(
        run('CrossSelectiveScanStates', [x, delta, A, B, bias], **options), [all_states]
    )
    same(run('CrossReadout', [all_states, C]), [OPS.cross_readout(all_states, C)])


@pytest.mark.parametrize('threads', [1, 2, 5])
def test_the_number_of_threads_changes_nothing(threads):
    inputs = crossing(batch=1)
    expected = OPS.cross_selective_scan(*inputs, True, False)[:1]
    options = dict(delta_softplus=1, return_states=0)
    same(run('CrossSelectiveScan', inputs, threads=threads, **options), expected)


def test_memory_select():
    states, groups, places = directed(CHANNELS, STATES), 2, 3
    locations = 8 * directed(groups, places, 2, seed=1)
    weights = directed(groups, places, seed=2)
    inputs = [states, locations, weights]
    same(run('MemorySelect', inputs), [OPS.memory_select(*inputs)])


def test_memory_readout():
    granularities = [1.0, 2.5]
    values, predicted = directed(CHANNELS), directed(3 * 2 * 4, seed=1)
    C = directed(seed=2)
    expected = OPS.memory_readout(values, predicted, granularities, C)
    got = run('MemoryReadout', [values, predicted, C], granularities=granularities)
    same(got, [expected])


def test_dilated_depthwise():
    y, kernels, dilations = rand(2, 20, 70, 33), rand(3, 33, 3, 3), [1, 2, 30]
    expected = OPS.dilated_depthwise(y, kernels, dilations)
    taps = kernels.flatten(2).transpose(1, 2).contiguous()
    same(run('DilatedDepthwise', [y, taps], dilations=dilations), [expected])


def test_no_images():
    inputs = crossing(batch=0)
    options = dict(delta_softplus=1, return_states=1)
    y, states = run('CrossSelectiveScan', inputs, 2, **options)
    assert y.shape == inputs[0].shape and states.shape[0] == 0
    y = rand(0, 4, 4, 8)
    assert (
        run('DilatedDepthwise', [y, rand(1, 9, 8)], dilations=[1])[0].shape == y.shape
    )


# A thread needs more.
EXCEEDING = """
import resource
from pathlib import Path

from test_onnxruntime import rand, run

pages = int(Path('/proc/self/statm').read_text().split()[0])
inputs = [rand(1, 2048, 2048, 1), rand(1, 9, 1)]
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 300 * 2**20,) * 2)
run('DilatedDepthwise', inputs, dilations=[2048])
"""


@pytest.mark.skipif(
    'libasan' in os.environ.get('LD_PRELOAD', ''), reason='AddressSanitizer ends first'
)
def test_running_out_of_memory_in_a_thread_is_an_error():
    """It neither ends the process nor returns while other threads run."""
    path = pathlib.Path(__file__).parent
    done = subprocess.run(
        [sys.executable, '-c', EXCEEDING],
        env={**os.environ, 'PYTHONPATH': f'{path}:{os.environ.get("PYTHONPATH", "")}'},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stderr
    assert 'DilatedDepthwise' in done.stderr and 'bad_alloc' in done.stderr


def wrong(inputs, index, value):
    return [value if i == index else t for i, t in enumerate(inputs)]


SCAN = sequence(*(rand(BATCH, STATES, LENGTH, seed=i) for i in (3, 4)))
CROSS = crossing()
READOUT = [directed(CHANNELS), directed(3 * 2 * 4), directed()]
SELECT = [directed(CHANNELS, STATES), directed(2, 3, 2), directed(2, 3)]
GROUPS = rand(2, 3, 3, 70)  # which do not divide the channels
WRONG = [
    ('SelectiveScan', wrong(SCAN, 0, rand(2, 3)), r'`u` must have 3 dimensions'),
    ('SelectiveScan', wrong(SCAN, 1, rand(2, 40, 69)), r'`delta` .* \[2, 40, 69\]'),
    ('SelectiveScan', wrong(SCAN, 2, rand(39, 3)), r'`A` must have shape \[40, 3\]'),
    ('SelectiveScan', wrong(SCAN, 3, rand(2, 3, 69)), r'`B` must have shape'),
    (
        'SelectiveScan',
        wrong(wrong(SCAN, 3, GROUPS), 4, GROUPS),
        r'groups of `B` and `C`',
    ),
    (
        'SelectiveScan',
        wrong(SCAN, 3, rand(2, 4, 3, 70)),
        r'the same groups, got 4 and 1',
    ),
    ('SelectiveScan', wrong(SCAN, 4, rand(2, 3, 3)), r'`C` must have shape'),
    ('SelectiveScan', wrong(SCAN, 5, rand(39)), r'`D` must have shape \[40\]'),
    ('SelectiveScan', wrong(SCAN, 6, rand(2, 40, 1)), r'`z` must have shape'),
    ('SelectiveScan', wrong(SCAN, 7, rand(1)), r'`delta_bias` must have shape'),
    ('SelectiveScan', wrong(SCAN, 0, rand(2, 40, 0)), r'`u` must not be empty'),
    ('CrossSelectiveScan', wrong(CROSS, 1, rand(2, 5, 9, 3, 40)), r'`delta` must have'),
    ('CrossSelectiveScan', wrong(CROSS, 2, rand(4, 40, 0)), r'`A` must not be empty'),
    ('CrossSelectiveScan', wrong(CROSS, 3, rand(2, 5, 8, 4, 3)), r'`B` must have'),
    ('CrossSelectiveScan', wrong(CROSS, 4, rand(2, 5, 9, 4, 2)), r'`C` must have'),
    ('CrossSelectiveScan', wrong(CROSS, 5, rand(40)), r'`D` must have shape \[4, 40\]'),
    ('CrossReadout', [directed(40, 3), directed(2)], r'`C` must have shape'),
    ('MemoryReadout', wrong(READOUT, 1, directed(23)), r'2 groups must divide'),
    ('MemoryReadout', wrong(READOUT, 2, directed(1)), r'`coefficients` must have'),
    (
        'MemoryReadout',
        wrong(READOUT, 1, rand(2, 5, 8, 4, 24)),
        r'`predicted` must have',
    ),
    ('MemorySelect', wrong(SELECT, 1, directed(2, 3, 3)), r'`locations` must have'),
    ('MemorySelect', wrong(SELECT, 2, directed(3, 3)), r'groups of `weights` must'),
    ('DilatedDepthwise', [rand(2, 5, 9, 8), rand(1, 9, 7)], r'`kernels` must have'),
]
ATTRIBUTES = {
    'SelectiveScan': dict(delta_softplus=1),
    'CrossSelectiveScan': dict(delta_softplus=1, return_states=0),
    'MemoryReadout': dict(granularities=[1.0, 2.0]),
    'DilatedDepthwise': dict(dilations=[1]),
}


@pytest.mark.parametrize(('op', 'inputs', 'message'), WRONG)
def test_wrong_arguments_are_named(op, inputs, message):
    with pytest.raises(Exception, match=f'{op}: .*{message}'):
        run(op, inputs, **ATTRIBUTES.get(op, {}))


@pytest.mark.parametrize('dilations', [[0], [1] * 17])
def test_wrong_dilations_are_named(dilations):
    with pytest.raises(Exception, match='`dilations` must be positive, and 1 to 16'):
        run('DilatedDepthwise', [rand(1, 4, 4, 8), rand(1, 9, 8)], dilations=dilations)


def test_without_torch():
    code = (
        'import sys, onnxruntime; options = onnxruntime.SessionOptions(); '
        'options.register_custom_ops_library(sys.argv[1]); '
        'options.register_custom_ops_library(sys.argv[1]); print("torch" in sys.modules)'
    )
    command = [sys.executable, '-c', code, str(custom_ops_library())]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) in [(0, 'False')], done.stderr
