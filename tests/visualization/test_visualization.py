# SPDX-License-Identifier: Apache-2.0
"""The numbers behind the figures."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from matplotlib.text import Text
from test_mamba_adaptor import perturbed

from mmadaptor.models import Vim, VMamba
from mmadaptor.ops.cross_selective_scan.reference import pixel_orders
from mmadaptor.visualization import (
    Scene,
    decay_maps,
    draw_fields,
    draw_memory,
    lattice_of,
    receptive_field,
    record_memory,
    without_adaptors,
)
from mmadaptor.visualization.receptive_field import radius_of

ARCH = dict(embed_dims=16, depths=(1, 1, 2, 1), d_state=2, ssm_ratio=1.0)
BOTH = dict(temporal={}, spatial={}, share=True)


@pytest.fixture(scope='module')
def vmamba():
    return perturbed(VMamba(ARCH, adaptors=BOTH))


@pytest.fixture(scope='module')
def vim():
    return perturbed(Vim(dict(embed_dims=16, depth=2), img_size=64, adaptors=BOTH))


@pytest.fixture(scope='module')
def images():
    torch.manual_seed(0)
    return torch.randn(1, 3, 40, 64)


def test_every_block_has_its_record(vmamba, images):
    """Including blocks that share an adaptor."""
    before = hooked(vmamba)
    records = record_memory(vmamba, images)
    assert list(records) == [
        'stages.0.0.mixer',
        'stages.1.0.mixer',
        'stages.2.0.mixer',
        'stages.2.1.mixer',
        'stages.3.0.mixer',
    ]
    first, second = records['stages.2.0.mixer'], records['stages.2.1.mixer']
    assert first.mixer.temporal is second.mixer.temporal
    assert first.locations.shape == (1, 3, 4, 4, 2, 4, 2)
    assert not torch.equal(first.locations, second.locations)
    torch.testing.assert_close(first.weights.sum(-1), torch.ones(1, 3, 4, 4, 2))
    assert hooked(vmamba) == before


def hooked(model):
    return [
        (m, *m._forward_hooks, *m._forward_pre_hooks)
        for m in model.modules()
        if m._forward_hooks or m._forward_pre_hooks
    ]


def test_decay_of_a_map_by_loops(vmamba, images):
    record = record_memory(vmamba, images)['stages.1.0.mixer']
    maps, token = decay_maps(record, (2, 3)), (2, 3)
    a = {k: v.detach() for k, v in record.arguments.items() if torch.is_tensor(v)}
    steps = torch.nn.functional.softplus(a['delta'] + a['delta_bias'])[0]
    for k, order in enumerate(pixel_orders(5, 8)):
        left, after = 1.0, True
        for pixel in reversed(order):
            if pixel == token:
                after = False
            value = 0.0 if after else float(torch.as_tensor(left).mean())
            assert maps[k][pixel] == pytest.approx(value, rel=1e-4)
            if not after:
                left = left * (steps[pixel][k, :, None] * a['A'][k]).exp()


def test_decay_of_a_sequence_by_its_states(vim, images):
    """The map at a patch is the product of the decays from the patch to the token."""
    record = record_memory(vim, images)['layers.1.mixer']
    maps = decay_maps(record, (1, 2))
    assert maps.shape == (2, 3, 4)
    order = pixel_orders(3, 4)[0]
    order.insert(6, None)
    a = {k: v.detach() for k, v in record.arguments.items() if torch.is_tensor(v)}
    steps = torch.nn.functional.softplus(a['delta'] + a['delta_bias'][:, None])[
        0
    ].double()
    for k, walk in enumerate((order, order[::-1])):
        own = slice(k * 32, k * 32 + 32)
        source, end = walk.index((1, 2)) - 3, walk.index((1, 2))
        product = (
            (steps[own, source + 1 : end + 1].sum(1)[:, None] * a['A'][own].double())
            .exp()
            .mean()
        )
        assert maps[k][walk[source]] == pytest.approx(float(product), rel=1e-4)
        assert maps[k][1, 2] == 1
        for pixel in walk[end + 1 :]:
            assert pixel is None or maps[k][pixel] == 0


class Local(torch.nn.Module):
    """A 3x3 convolution, channels last."""

    def __init__(self):
        super().__init__()
        self.block = torch.nn.Conv2d(3, 4, 3, padding=1)
        self.block.register_forward_hook(lambda m, i, o: o.permute(0, 2, 3, 1))

    def forward(self, x):
        return self.block(x)


def test_receptive_field_of_a_convolution():
    field = receptive_field(Local(), torch.randn(2, 3, 8, 9), 'block', (4, 2), (8, 9))
    expected = torch.zeros(8, 9, dtype=torch.bool)
    expected[3:6, 1:4] = True
    assert torch.equal(field > 0, expected)
    assert field.sum() == pytest.approx(1)


def test_receptive_field_of_a_patch(vim, images):
    """In the input of the first block, a patch depends on its own pixels only."""
    with torch.no_grad():
        vim.layers[0].mixer.out_proj.weight, kept = (
            torch.nn.Parameter(torch.zeros(16, 32)),
            vim.layers[0].mixer.out_proj.weight,
        )
    for token in ((0, 1), (2, 0)):
        field = receptive_field(vim, images, 'layers.0', token, (3, 4))
        rows, columns = field.nonzero().T
        assert rows.min() // 16 == min(rows.max() // 16, 2) == token[0]
        assert columns.min() // 16 == columns.max() // 16 == token[1]
    vim.layers[0].mixer.out_proj.weight = kept


def test_without_adaptors(vmamba, images):
    before = vmamba(images)
    plain = VMamba(ARCH).eval()
    plain.load_state_dict(
        {
            k: v
            for k, v in vmamba.state_dict().items()
            if 'temporal' not in k and 'spatial' not in k
        }
    )
    with without_adaptors(vmamba):
        for a, b in zip(vmamba(images), plain(images)):
            assert torch.equal(a, b)
    for a, b in zip(vmamba(images), before):
        assert torch.equal(a, b)


def test_without_adaptors_after_switch_to_deploy(vmamba, images):
    deployed = copy.deepcopy(vmamba)
    deployed.switch_to_deploy()
    before = deployed(images)
    with without_adaptors(vmamba), without_adaptors(deployed):
        for a, b in zip(vmamba(images), deployed(images)):
            assert torch.equal(a, b)
    for a, b in zip(deployed(images), before):
        assert torch.equal(a, b)


def test_radius():
    field = torch.zeros(20, 20)
    field[:2, :5] = 0.1
    assert radius_of(field, 0.95) == pytest.approx(math.sqrt(10 / math.pi))
    assert radius_of(field, 0.45) == pytest.approx(math.sqrt(5 / math.pi))


def test_places_on_the_image(vim, images):
    record = record_memory(vim, images)['layers.0.mixer']
    lattice = lattice_of(vim, 'layers.0')
    scene = Scene(record, np.zeros((40, 64, 3), np.uint8), lattice, (1, 2))
    assert scene.here.tolist() == [23.5, 39.5]
    record.locations[:] = torch.tensor([1.0, 3.0])
    assert scene.places[1, 0, 2].tolist() == [23.5, 55.5]
    assert scene.reach == 48  # three patches, because the places are nearer
    record.locations[0, 1, 2, 0, 0, :2] = torch.tensor([[1.0, 9.0], [1.0, 99.0]])
    record.weights[0, 1, 2, 0, 0] = torch.tensor([0.06, 0.04, 0.9, 0.0])
    assert scene.reach == pytest.approx(1.3 * 7 * 16)  # not the one at 99


@pytest.mark.parametrize(
    'name, block',
    [('vmamba', 'stages.0.0'), ('vmamba', 'stages.3.0'), ('vim', 'layers.0')],
)
def test_a_token_is_drawn_where_it_looks(name, block, request):
    """A field without mixing of tokens is centered at the token."""
    backbone = copy.deepcopy(request.getfixturevalue(name))
    for module in backbone.modules():
        if hasattr(module, 'out_proj'):
            torch.nn.init.zeros_(module.out_proj.weight)
    images = torch.randn(1, 3, 104, 136)
    lattice = lattice_of(backbone, block)
    around = torch.nn.ModuleDict(dict(module=backbone))  # as LoRAModel is
    assert lattice_of(around, f'module.{block}') == lattice
    token, size = (1, 2), (-(-104 // lattice.stride), -(-136 // lattice.stride))
    rows, columns = receptive_field(backbone, images, block, token, size).nonzero().T
    middle = [(float(x.min()) + float(x.max())) / 2 for x in (rows, columns)]
    scene = Scene(None, None, lattice, token)
    assert scene.here.tolist() == pytest.approx(middle, abs=0.5)


@pytest.mark.parametrize('name', ['vmamba', 'vim'])
def test_figures(name, images, request, tmp_path):
    backbone = request.getfixturevalue(name)
    records = record_memory(backbone, images)
    path, record = next(iter(records.items()))
    size = tuple(record.locations.shape[1:3])
    image = np.full((40, 64, 3), 128, np.uint8)
    lattice = lattice_of(backbone, path.removesuffix('.mixer'))
    scene = Scene(record, image, lattice, (0, 2))
    figure = draw_memory(scene, 'memory')
    directions = record.locations.shape[3]
    assert len(figure.axes) == 3 * directions + 1
    assert 'places outside' in figure.axes[0].get_xlabel()
    weight = record.weights[0, 0, 2, 0, 0].max()
    assert f'largest weight {weight:.2f}' in figure.axes[0].get_xlabel()
    fields = dict(
        plain=receptive_field(
            backbone, images, path.removesuffix('.mixer'), (0, 2), size
        )
    )
    for drawn in (figure, draw_fields(fields, scene, 'field')):
        (legend,) = drawn.legends
        assert 'token' in {text.get_text() for text in legend.get_texts()}
        drawn.savefig(tmp_path / 'picture.png')
        assert (tmp_path / 'picture.png').stat().st_size > 5000
        assert not overlapping(drawn)


def overlapping(figure):
    """Pairs of texts of a drawn figure that cover each other."""
    texts = [t for t in figure.findobj(Text) if t.get_text() and t.get_visible()]
    boxes = [(t.get_text(), t.get_window_extent()) for t in texts]
    return [
        (a, b)
        for (a, first), (b, second) in itertools.combinations(boxes, 2)
        if first.overlaps(second)
    ]
