# SPDX-License-Identifier: Apache-2.0
"""Test Adaptor-T's gather against its definition, and that against `grid_sample`."""

import pytest
import torch
import torch.nn.functional as F
from helpers.op_errors import assert_refused

from mmadaptor.ops import memory_select
from mmadaptor.ops.memory_select import reference

# (batch, height, width, directions, channels, states, groups, places)
SIZES = [
    (2, 4, 5, 4, 6, 1, 2, 3),
    (1, 7, 3, 2, 8, 2, 4, 1),
    (1, 1, 6, 1, 4, 1, 1, 4),
    (2, 1, 1, 4, 2, 3, 2, 2),
    (0, 3, 3, 4, 4, 1, 2, 4),
    (1, 13, 9, 4, 5, 1, 1, 2),
    (1, 3, 2, 1, 60, 1, 1, 5),
    (1, 2, 3, 2, 64, 2, 2, 40),
    (1, 1, 2, 1, 3, 1, 1, 300),
    (1, 17, 16, 1, 12, 2, 1, 3),
    (1, 2, 3, 1, 396, 1, 1, 2),
    (1, 3, 3, 1, 267, 1, 1, 3),
]  # the rows of the last ones span several blocks
TOLERANCE = {torch.float64: 1e-13, torch.float32: 1e-5}


def make(
    batch,
    height,
    width,
    directions,
    channels,
    states,
    groups,
    places,
    dtype=torch.float64,
):
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    tokens = (batch, height, width, directions)
    size = torch.tensor([height, width], dtype=dtype)
    places_ = normal(*tokens, groups, places, 2) * 0.4 + 0.5  # some outside the map
    return dict(
        states=normal(*tokens, channels, states).requires_grad_(),
        locations=(places_ * size).requires_grad_(),
        weights=normal(*tokens, groups, places).requires_grad_(),
    )


def gradients(function, inputs):
    """Return the result and the gradients of all arguments, by name."""
    result = function(**inputs)
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(result.shape, generator=generator, dtype=torch.float64).to(
        result
    )
    grads = torch.autograd.grad(result, list(inputs.values()), weight)
    return dict(zip(['memory', *inputs], [result, *grads]))


def assert_equal_bits(actual, expected):
    for name, value in expected.items():
        assert torch.equal(actual[name], value), name


@pytest.mark.parametrize('dtype', TOLERANCE, ids=str)
@pytest.mark.parametrize('size', SIZES, ids=str)
def test_it_equals_its_definition(size, dtype):
    inputs = {k: v.detach().to(dtype).requires_grad_() for k, v in make(*size).items()}
    exact = {k: v.detach().double().requires_grad_() for k, v in inputs.items()}
    actual = gradients(memory_select, inputs)
    for name, value in gradients(reference.memory_select, exact).items():
        assert actual[name].dtype == dtype
        torch.testing.assert_close(
            actual[name].double(),
            value,
            rtol=TOLERANCE[dtype],
            atol=TOLERANCE[dtype],
            msg=lambda m, n=name: f'{n}: {m}',
        )


def test_the_definition_is_grid_sample():
    """One group, one direction: torch's own bilinear sampling at each place."""
    inputs = make(2, 4, 5, 1, 3, 1, 1, 2)
    maps = inputs['states'].flatten(3).permute(0, 3, 1, 2)  # (B, D, H, W)
    size = torch.tensor([4, 5], dtype=torch.float64)
    grid = 2 * inputs['locations'].flatten(3, 5) / (size - 1) - 1  # (B, H, W, P, 2)
    expected = sum(
        weight[:, None]
        * F.grid_sample(maps, at.flip(-1), padding_mode='zeros', align_corners=True)
        for at, weight in zip(
            grid.unbind(3), inputs['weights'].flatten(3).unbind(3), strict=True
        )
    )
    expected = expected.permute(0, 2, 3, 1)
    actual = gradients(reference.memory_select, inputs)
    torch.testing.assert_close(actual['memory'].flatten(3), expected)
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(
        actual['memory'].shape, generator=generator, dtype=torch.float64
    )
    grads = torch.autograd.grad(expected, list(inputs.values()), weight.flatten(3))
    for name, grad in zip(inputs, grads, strict=True):
        torch.testing.assert_close(actual[name], grad)


@pytest.mark.parametrize(
    'size', [(1, 3, 4, 2, 4, 1, 2, 2), (2, 2, 2, 1, 6, 2, 3, 1)], ids=str
)
def test_gradcheck(size):
    assert torch.autograd.gradcheck(memory_select, tuple(make(*size).values()))


@pytest.mark.parametrize('size', [SIZES[0], SIZES[4], SIZES[-1]], ids=str)
def test_opcheck(size):
    torch.library.opcheck(
        torch.ops.mmadaptor.memory_select.default, tuple(make(*size).values())
    )
    inputs = [t.detach() for t in make(*size).values()]
    torch.library.opcheck(
        torch.ops.mmadaptor.memory_select_backward.default,
        (torch.ones_like(inputs[0]), *inputs),
    )


def test_compile_with_sizes_that_change():
    compiled = torch.compile(
        memory_select, fullgraph=True, dynamic=True, backend='aot_eager'
    )
    for size in ((2, 4, 5, 4, 6, 1, 2, 3), (3, 6, 7, 4, 6, 1, 2, 3)):
        inputs = make(*size)
        assert_equal_bits(gradients(compiled, inputs), gradients(memory_select, inputs))


def test_export_with_sizes_that_change():
    class Gather(torch.nn.Module):
        def forward(self, states, locations, weights):
            return memory_select(states, locations, weights)

    dynamic = {1: torch.export.Dim('height'), 2: torch.export.Dim('width')}
    inputs = {k: v.detach() for k, v in make(2, 4, 5, 4, 6, 1, 2, 3).items()}
    program = torch.export.export(
        Gather(), tuple(inputs.values()), dynamic_shapes=[dynamic] * 3
    )
    other = {k: v.detach() for k, v in make(2, 9, 7, 4, 6, 1, 2, 3).items()}
    assert torch.equal(program.module()(*other.values()), memory_select(**other))


def test_repeats_are_equal_bit_for_bit():
    inputs = make(2, 9, 7, 4, 150, 1, 1, 4, dtype=torch.float32)
    assert_equal_bits(
        gradients(memory_select, inputs), gradients(memory_select, inputs)
    )


def test_threads_do_not_change_a_bit():
    inputs = make(2, 9, 7, 3, 150, 1, 1, 4, dtype=torch.float32)
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            results.append(gradients(memory_select, inputs))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert_equal_bits(other, results[0])


def test_strides_do_not_matter():
    inputs = make(2, 4, 5, 4, 12, 2, 2, 3, dtype=torch.float32)
    strided = {}
    for name, t in inputs.items():
        wide = t.detach().transpose(1, 2).repeat_interleave(2, dim=-1)
        strided[name] = wide[..., ::2].transpose(1, 2).requires_grad_()
        assert not strided[name].is_contiguous()
    assert_equal_bits(
        gradients(memory_select, strided), gradients(memory_select, inputs)
    )
    strided['states'] = inputs['states'].detach()[:1].expand(2, -1, -1, -1, -1, -1)
    memory = memory_select(**strided)
    strided['states'] = strided['states'].contiguous().requires_grad_()
    assert torch.equal(memory, memory_select(**strided))
    # An incoming gradient that is one expanded number.
    memory = memory_select(**strided)
    ones = torch.autograd.grad(memory, list(strided.values()), torch.ones_like(memory))
    memory = memory_select(**strided)
    for a, b in zip(torch.autograd.grad(memory.sum(), list(strided.values())), ones):
        assert torch.equal(a, b)


def test_autocast_casts_to_the_states_dtype():
    inputs = make(1, 4, 5, 2, 8, 1, 2, 3, dtype=torch.float32)
    low = {
        k: v.detach().bfloat16().requires_grad_()
        for k, v in inputs.items()
        if k != 'states'
    }
    low['states'] = inputs['states']
    with torch.autocast('cpu', dtype=torch.bfloat16):
        memory = memory_select(**low)
    assert memory.dtype == torch.float32
    wide = {k: v.detach().float() for k, v in low.items()}
    assert torch.equal(memory, memory_select(**wide))
    memory.sum().backward()
    assert low['locations'].grad.dtype == torch.bfloat16
    assert low['states'].grad.dtype == torch.float32
    with (
        torch.autocast('cpu', dtype=torch.bfloat16),
        pytest.raises(ValueError, match='`states` must be float32 or float64'),
    ):
        memory_select(low['states'].bfloat16(), low['locations'], low['weights'])


def test_a_hand_computed_sum():
    """The places are halfway between four pixels, on a pixel and half outside."""
    states = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).view(1, 2, 2, 1, 1, 1)
    locations = torch.zeros(1, 2, 2, 1, 1, 3, 2)
    locations[0, 0, 0, 0, 0] = torch.tensor([[0.5, 0.5], [1.0, 0.0], [-0.5, 1.0]])
    weights = torch.zeros(1, 2, 2, 1, 1, 3)
    weights[0, 0, 0, 0, 0] = torch.tensor([1.0, 10.0, 100.0])
    memory = memory_select(states, locations, weights)
    # 2.5 + 10 * 3 + 100 * (2 / 2)
    torch.testing.assert_close(memory.flatten(), torch.tensor([132.5, 0.0, 0.0, 0.0]))


def test_identity_places_return_the_states():
    inputs = make(2, 5, 4, 4, 6, 2, 3, 1)
    row, column = torch.meshgrid(torch.arange(5.0), torch.arange(4.0), indexing='ij')
    here = torch.stack([row, column], -1).double()
    locations = here[None, :, :, None, None, None].expand_as(inputs['locations'])
    memory = memory_select(
        inputs['states'], locations, torch.ones_like(inputs['weights'])
    )
    torch.testing.assert_close(memory, inputs['states'], rtol=0, atol=0)


@pytest.mark.parametrize('axis', [0, 1])
@pytest.mark.parametrize('value', [float('nan'), float('inf'), -float('inf')])
def test_a_location_that_is_not_finite_gives_nan_there(value, axis):
    inputs = {k: v.detach() for k, v in make(1, 3, 3, 1, 4, 1, 2, 2).items()}
    clean = gradients(
        memory_select, {k: v.clone().requires_grad_() for k, v in inputs.items()}
    )
    inputs['locations'][0, 1, 2, 0, 1, 0, axis] = value
    results = gradients(
        memory_select, {k: v.requires_grad_() for k, v in inputs.items()}
    )

    def nan(name):
        return results[name].isnan().nonzero().tolist()

    assert nan('memory') == [[0, 1, 2, 0, 2, 0], [0, 1, 2, 0, 3, 0]]
    assert nan('locations') == [[0, 1, 2, 0, 1, 0, 0], [0, 1, 2, 0, 1, 0, 1]]
    assert nan('weights') == [[0, 1, 2, 0, 1, 0]]
    assert not nan('states')  # a NaN place has no pixels
    for name in ('locations', 'weights'):
        kept = ~results[name].isnan()
        assert torch.equal(results[name][kept], clean[name][kept])


@pytest.mark.parametrize(
    'value', [1e30, -1e30, 3.0, -1.0, 2.0**31, -(2.0**31) - 1, 2.0**63]
)
def test_places_outside_count_as_zero(value):
    for dtype in (torch.float32, torch.float64):
        inputs = make(1, 3, 3, 1, 4, 1, 2, 2, dtype=dtype)
        inputs['locations'] = torch.full_like(
            inputs['locations'], value
        ).requires_grad_()
        results = gradients(memory_select, inputs)
        assert (results['memory'] == 0).all()
        assert (results['states'] == 0).all()
        assert (results['weights'] == 0).all()


def test_what_lies_outside_is_not_read():
    """A NaN map does not affect places outside it."""
    inputs = make(1, 3, 3, 1, 4, 1, 2, 2)
    inputs['states'] = torch.full_like(inputs['states'], float('nan'))
    outside = torch.full_like(inputs['locations'], 5.0)
    memory = memory_select(inputs['states'], outside, inputs['weights'])
    assert (memory == 0).all()


# For size `(1, 3, 3, 1, 4, 1, 2, 2)`: argument to change, wrong value, expected message.
WRONG = {
    'rank of states': (
        'states',
        torch.ones(1, 3, 3, 4, 1),
        r'`states` must have 6 dimensions \(batch, height, width, '
        r'directions, channels, states\), got shape \[1, 3, 3, 4, 1\]',
    ),
    'no rows': (
        'states',
        torch.ones(1, 0, 3, 1, 4, 1),
        r'`states` has no rows, got shape \[1, 0, 3, 1, 4, 1\]',
    ),
    'no columns': ('states', torch.ones(1, 3, 0, 1, 4, 1), '`states` has no columns'),
    'no directions': (
        'states',
        torch.ones(1, 3, 3, 0, 4, 1),
        '`states` has no directions',
    ),
    'no channels': ('states', torch.ones(1, 3, 3, 1, 0, 1), '`states` has no channels'),
    'no states': ('states', torch.ones(1, 3, 3, 1, 4, 0), '`states` has no states'),
    'half states': (
        'states',
        torch.ones(1, 3, 3, 1, 4, 1).half(),
        '`states` must be float32 or float64, got float16',
    ),
    'integer states': (
        'states',
        torch.ones(1, 3, 3, 1, 4, 1).long(),
        '`states` must be float32 or float64, got int64',
    ),
    'rank of weights': (
        'weights',
        torch.ones(1, 3, 3, 1, 2),
        r'`weights` must have 6 dimensions .*got shape \[1, 3, 3, 1, 2\]',
    ),
    'width of weights': (
        'weights',
        torch.ones(1, 3, 4, 1, 2, 2),
        r'`weights` must have shape \[1, 3, 3, 1, 2, 2\].*got \[1, 3, 4, 1, 2, 2\]',
    ),
    'no groups': ('weights', torch.ones(1, 3, 3, 1, 0, 2), '`weights` has no groups'),
    'no places': ('weights', torch.ones(1, 3, 3, 1, 2, 0), '`weights` has no places'),
    'dtype of weights': (
        'weights',
        torch.ones(1, 3, 3, 1, 2, 2).double(),
        r'`weights` must be float32 \(the dtype of `states`\), got float64',
    ),
    'groups': (
        'weights',
        torch.ones(1, 3, 3, 1, 3, 2),
        'groups of `weights` must divide the 4 channels of `states`, got 3 groups',
    ),
    'rank of locations': (
        'locations',
        torch.ones(1, 3, 3, 1, 2, 2),
        r'`locations` must have shape \[1, 3, 3, 1, 2, 2, 2\].*got \[1, 3, 3, 1, 2, 2\]',
    ),
    'three coordinates': (
        'locations',
        torch.ones(1, 3, 3, 1, 2, 2, 3),
        r'`locations` must have shape \[1, 3, 3, 1, 2, 2, 2\].*got \[1, 3, 3, 1, 2, 2, 3\]',
    ),
    'dtype of locations': (
        'locations',
        torch.ones(1, 3, 3, 1, 2, 2, 2).long(),
        r'`locations` must be float32 \(the dtype of `states`\), got int64',
    ),
    'device of locations': (
        'locations',
        torch.ones(1, 3, 3, 1, 2, 2, 2, device='meta'),
        '`locations` must be on cpu like the first argument, got meta',
    ),
}


@pytest.mark.parametrize('name, value, message', WRONG.values(), ids=WRONG)
def test_wrong_input_is_named(name, value, message):
    inputs = make(1, 3, 3, 1, 4, 1, 2, 2, dtype=torch.float32)
    with pytest.raises(ValueError, match='memory_select: .*' + message):
        memory_select(**{**inputs, name: value})


@pytest.mark.parametrize('key', [k for k in WRONG if 'device' not in k])
def test_the_fake_kernel_says_the_same(key):
    name, value, message = WRONG[key]
    inputs = make(1, 3, 3, 1, 4, 1, 2, 2, dtype=torch.float32)
    inputs = {**{k: v.detach() for k, v in inputs.items()}, name: value}
    with pytest.raises(ValueError, match='memory_select: .*' + message):
        memory_select(**{k: v.to('meta') for k, v in inputs.items()})


def test_a_wrong_gradient_is_named():
    inputs = [t.detach() for t in make(1, 3, 3, 1, 4, 1, 2, 2).values()]
    backward = torch.ops.mmadaptor.memory_select_backward
    assert_refused(
        backward,
        torch.ones(1, dtype=torch.float64),
        *inputs,
        message=r'`grad_memory` must have shape '
        r'\[1, 3, 3, 1, 4, 1\] \(that of `states`\), got \[1\]',
    )
    assert_refused(
        backward, inputs[0].float(), *inputs, message='`grad_memory` must be float64'
    )


def test_what_torch_compile_raises_says_the_same():
    inputs = make(1, 3, 3, 1, 4, 1, 2, 2)
    inputs['weights'] = inputs['weights'][..., :1]
    with pytest.raises(
        Exception,
        match=r'`locations` must have shape '
        r'\[1, 3, 3, 1, 2, 1, 2\].*got \[1, 3, 3, 1, 2, 2, 2\]',
    ):
        torch.compile(memory_select, backend='eager', dynamic=False)(**inputs)
