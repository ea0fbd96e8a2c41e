# SPDX-License-Identifier: Apache-2.0
"""Test the sum of dilated depthwise convolutions against separate torch calls."""

import pytest
import torch
from helpers.op_errors import assert_refused

from mmadaptor.ops import dilated_depthwise
from mmadaptor.ops.dilated_depthwise import reference

# (batch, height, width, channels), dilations
SIZES = [
    ((2, 5, 7, 6), (1, 2, 3)),
    ((1, 9, 8, 16), (1,)),
    ((2, 3, 4, 24), (2, 4)),  # taps beyond the map
    ((1, 1, 1, 3), (1, 2, 3)),
    ((1, 1, 6, 5), (3, 1)),
    ((1, 33, 130, 17), (1, 2, 3)),  # several patches per map
    ((3, 7, 7, 35), (2, 2)),
    ((3, 43, 5, 35), (1, 2)),  # on a GPU, rows are summed in parts
    ((1, 4, 5, 2), (1000, 2)),
    ((1, 20, 23, 34), (5, 1)),  # on a GPU, loads are shared for dilations up to 3
    ((2, 17, 30, 40), (3, 1, 3, 2)),  # on a GPU, sums of all dilations in one block
    ((1, 30, 41, 3), (20, 1)),  # on a GPU, taps are too far for shared memory
    ((0, 4, 5, 6), (1, 2)),
]
TOLERANCE = {
    torch.float64: 1e-13,
    torch.float32: 1e-5,
    torch.bfloat16: 1e-2,
    torch.float16: 2e-3,
}


def make(size, dilations, dtype=torch.float64):
    """Create y and kernels, leaves that require gradients."""
    generator = torch.Generator().manual_seed(0)
    wide = torch.float64 if dtype == torch.float64 else torch.float32

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    y = normal(*size).to(dtype)
    kernels = normal(len(dilations), size[-1], 3, 3).to(wide)
    return y.requires_grad_(), kernels.requires_grad_()


def results(function, y, kernels, dilations):
    """Return the sum and both gradients, by name."""
    out = function(y, kernels, dilations)
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(out.shape, generator=generator, dtype=torch.float64)
    # bfloat16 values, so that converting them to each dtype loses nothing.
    grads = torch.autograd.grad(out, [y, kernels], weight.bfloat16().to(out))
    return dict(zip(['out', 'y', 'kernels'], [out, *grads]))


def assert_equal_bits(actual, expected):
    for name, value in expected.items():
        assert torch.equal(actual[name], value), name


@pytest.mark.parametrize('dtype', TOLERANCE, ids=str)
@pytest.mark.parametrize('size, dilations', SIZES, ids=str)
def test_it_equals_its_definition(size, dilations, dtype):
    y, kernels = make(size, dilations, dtype)
    exact = [t.detach().double().requires_grad_() for t in (y, kernels)]
    actual = results(dilated_depthwise, y, kernels, dilations)
    assert actual['out'].dtype == actual['y'].dtype == dtype
    assert actual['kernels'].dtype == kernels.dtype
    for name, value in results(reference.dilated_depthwise, *exact, dilations).items():
        scale = max(1.0, value.abs().max().item()) if value.numel() else 1.0
        torch.testing.assert_close(
            actual[name].double(),
            value,
            rtol=0,
            atol=TOLERANCE[dtype] * scale,
            msg=lambda m, n=name: f'{n}: {m}',
        )


def test_half_types_are_summed_in_float32():
    """Results are rounded once, at the end; the kernels' gradients are not rounded."""
    for dtype in (torch.bfloat16, torch.float16):
        y, kernels = make((2, 9, 7, 20), (1, 2, 3), dtype)
        wide = [t.detach().float().requires_grad_() for t in (y, kernels)]
        actual = results(dilated_depthwise, y, kernels, (1, 2, 3))
        expected = results(dilated_depthwise, *wide, (1, 2, 3))
        assert torch.equal(actual['out'], expected['out'].to(dtype))
        assert torch.equal(actual['y'], expected['y'].to(dtype))
        torch.testing.assert_close(
            actual['kernels'], expected['kernels'], rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize('size, dilations', SIZES[:4], ids=str)
def test_gradcheck(size, dilations):
    assert torch.autograd.gradcheck(
        lambda *tensors: dilated_depthwise(*tensors, dilations), make(size, dilations)
    )


@pytest.mark.parametrize('size, dilations', [SIZES[0], SIZES[5], SIZES[-1]], ids=str)
def test_opcheck(size, dilations):
    y, kernels = make(size, dilations)
    ops = torch.ops.mmadaptor
    torch.library.opcheck(ops.dilated_depthwise.default, (y, kernels, list(dilations)))
    inputs = (torch.ones_like(y), y.detach(), kernels.detach(), list(dilations))
    torch.library.opcheck(ops.dilated_depthwise_backward.default, inputs)


def test_compile_with_sizes_that_change():
    compiled = torch.compile(
        dilated_depthwise, fullgraph=True, dynamic=True, backend='aot_eager'
    )
    for size in ((2, 4, 5, 6), (3, 9, 7, 6)):
        y, kernels = make(size, (1, 2))
        assert_equal_bits(
            results(compiled, y, kernels, (1, 2)),
            results(dilated_depthwise, y, kernels, (1, 2)),
        )


def test_export_with_sizes_that_change():
    class Convolutions(torch.nn.Module):
        def forward(self, y, kernels):
            return dilated_depthwise(y, kernels, (1, 3))

    sides = {1: torch.export.Dim('height'), 2: torch.export.Dim('width')}
    inputs = [t.detach() for t in make((2, 4, 5, 6), (1, 3))]
    program = torch.export.export(
        Convolutions(), tuple(inputs), dynamic_shapes=[sides, None]
    )
    y, kernels = (t.detach() for t in make((2, 11, 3, 6), (1, 3)))
    assert torch.equal(
        program.module()(y, kernels), dilated_depthwise(y, kernels, (1, 3))
    )


def test_repeats_are_equal_bit_for_bit():
    arguments = *make((3, 20, 70, 40), (1, 2, 3), torch.float32), (1, 2, 3)
    assert_equal_bits(
        results(dilated_depthwise, *arguments), results(dilated_depthwise, *arguments)
    )


def test_threads_do_not_change_a_bit():
    arguments = *make((3, 20, 70, 40), (1, 2, 3), torch.float32), (1, 2, 3)
    threads = torch.get_num_threads()
    try:
        runs = []
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            runs.append(results(dilated_depthwise, *arguments))
    finally:
        torch.set_num_threads(threads)
    for other in runs[1:]:
        assert_equal_bits(other, runs[0])


def test_strides_do_not_matter():
    y, kernels = make((2, 4, 5, 12), (1, 2), torch.float32)
    expected = results(dilated_depthwise, y, kernels, (1, 2))
    maps = y.detach().permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    wide = kernels.detach().repeat_interleave(2, dim=-1)[..., ::2]
    assert not maps.is_contiguous() and not wide.is_contiguous()
    assert_equal_bits(
        results(
            dilated_depthwise, maps.requires_grad_(), wide.requires_grad_(), (1, 2)
        ),
        expected,
    )
    # An incoming gradient that is one expanded number.
    out = dilated_depthwise(y, kernels, (1, 2))
    ones = torch.autograd.grad(out, [y, kernels], torch.ones_like(out))
    out = dilated_depthwise(y, kernels, (1, 2))
    for a, b in zip(torch.autograd.grad(out.sum(), [y, kernels]), ones):
        assert torch.equal(a, b)


def test_a_hand_computed_map():
    """A map with a single one yields the flipped kernels around it."""
    y = torch.zeros(1, 5, 5, 1)
    y[0, 2, 2] = 1.0
    kernels = torch.stack([torch.arange(9.0), 10 * torch.arange(9.0)]).view(2, 1, 3, 3)
    expected = torch.tensor(
        [
            [80.0, 0.0, 70.0, 0.0, 60.0],
            [0.0, 8.0, 7.0, 6.0, 0.0],
            [50.0, 5.0, 45.0, 3.0, 30.0],
            [0.0, 2.0, 1.0, 0.0, 0.0],
            [20.0, 0.0, 10.0, 0.0, 0.0],
        ]
    )
    torch.testing.assert_close(
        dilated_depthwise(y, kernels, (1, 2))[0, ..., 0], expected
    )


def test_kernels_of_0_leave_the_map():
    """The map is unchanged, except that -0.0 becomes 0.0, as in any sum."""
    y = torch.randn(2, 5, 7, 19)
    y[0, 1] = -0.0
    out = dilated_depthwise(y, torch.zeros(3, 19, 3, 3), (1, 2, 3))
    assert torch.equal(out, y)
    assert not out[0, 1].signbit().any()


def test_what_is_outside_counts_as_zero():
    """Only pixels outside the map count as zero, not those outside a patch."""
    y = torch.ones(1, 40, 150, 1)
    kernels = torch.ones(1, 1, 3, 3)
    rows = 1 + (torch.arange(40) >= 2).int() + (torch.arange(40) < 38).int()
    columns = 1 + (torch.arange(150) >= 2).int() + (torch.arange(150) < 148).int()
    expected = 1 + (rows[:, None] * columns).float()
    assert torch.equal(dilated_depthwise(y, kernels, (2,))[0, ..., 0], expected)


def test_autocast_takes_y_as_it_is():
    for dtype in (torch.float32, torch.bfloat16):
        arguments = *make((1, 4, 5, 8), (1, 2), dtype), (1, 2)
        expected = results(dilated_depthwise, *arguments)
        with torch.autocast('cpu', dtype=torch.bfloat16):
            actual = results(dilated_depthwise, *arguments)
        assert_equal_bits(actual, expected)
        assert actual['out'].dtype == dtype


# For a map `(1, 3, 4, 6)` and dilations 1 and 2: argument to change, wrong value, and
# expected message.
WRONG = {
    'rank of y': (
        'y',
        torch.ones(3, 4, 6),
        r'`y` must have 4 dimensions \(batch, height, width, channels\), got shape \[3, 4, 6\]',
    ),
    'no rows': (
        'y',
        torch.ones(1, 0, 4, 6),
        r'`y` has no rows, got shape \[1, 0, 4, 6\]',
    ),
    'no columns': ('y', torch.ones(1, 3, 0, 6), '`y` has no columns'),
    'no channels': ('y', torch.ones(1, 3, 4, 0), '`y` has no channels'),
    'integer y': (
        'y',
        torch.ones(1, 3, 4, 6).long(),
        '`y` must be float32, float64, float16 or bfloat16, got int64',
    ),
    'channels of kernels': (
        'kernels',
        torch.ones(2, 5, 3, 3),
        r'`kernels` must have shape \[2, 6, 3, 3\].*got \[2, 5, 3, 3\]',
    ),
    'rank of kernels': (
        'kernels',
        torch.ones(2, 6, 1, 3, 3),
        r'`kernels` must have shape \[2, 6, 3, 3\].*got \[2, 6, 1, 3, 3\]',
    ),
    'fewer dilations': (
        'dilations',
        (1,),
        r'`kernels` must have shape \[1, 6, 3, 3\].*got \[2, 6, 3, 3\]',
    ),
    'no dilation': (
        'dilations',
        (),
        r'`dilations` must be positive, and 1 to 16 of them, got \[\]',
    ),
    'dilation 0': (
        'dilations',
        (1, 0),
        r'`dilations` must be positive, and 1 to 16 of them, got \[1, 0\]',
    ),
    'too many dilations': ('dilations', (1,) * 17, '1 to 16 of them, got'),
    'dtype of kernels': (
        'kernels',
        torch.ones(2, 6, 3, 3).double(),
        r'`kernels` must be float32 \(as wide as the sums over `y`\), got float64',
    ),
    'half kernels': (
        'kernels',
        torch.ones(2, 6, 3, 3).bfloat16(),
        r'`kernels` must be float32 .*got bfloat16',
    ),
    'device of kernels': (
        'kernels',
        torch.ones(2, 6, 3, 3, device='meta'),
        '`kernels` must be on cpu like the first argument, got meta',
    ),
}


def arguments_with(name, value):
    y, kernels = make((1, 3, 4, 6), (1, 2), torch.float32)
    arguments = dict(y=y.detach(), kernels=kernels.detach(), dilations=(1, 2))
    return {**arguments, name: value}


@pytest.mark.parametrize('name, value, message', WRONG.values(), ids=WRONG)
def test_wrong_input_is_named(name, value, message):
    with pytest.raises(ValueError, match='dilated_depthwise: .*' + message):
        dilated_depthwise(**arguments_with(name, value))


@pytest.mark.parametrize('key', [k for k in WRONG if 'device' not in k])
def test_the_fake_kernel_says_the_same(key):
    name, value, message = WRONG[key]
    arguments = arguments_with(name, value)
    for tensor in ('y', 'kernels'):
        arguments[tensor] = arguments[tensor].to('meta')
    with pytest.raises(ValueError, match='dilated_depthwise: .*' + message):
        dilated_depthwise(**arguments)


def test_a_wrong_gradient_is_named():
    y, kernels = (t.detach() for t in make((1, 3, 4, 6), (1, 2)))
    backward = torch.ops.mmadaptor.dilated_depthwise_backward
    assert_refused(
        backward,
        torch.ones(1, dtype=torch.float64),
        y,
        kernels,
        (1, 2),
        message=r'`grad` must have shape \[1, 3, 4, 6\] \(that of `y`\), got \[1\]',
    )
    assert_refused(
        backward, y.float(), y, kernels, (1, 2), message='`grad` must be float64'
    )
