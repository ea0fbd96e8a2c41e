# SPDX-License-Identifier: Apache-2.0
"""Wrong constructor arguments are named, with what was expected and what came."""

import numpy as np
import pytest
import torch

from mmadaptor.models import MambaAdaptor, SimpleFeaturePyramid, Vim, VMamba
from mmadaptor.models.arguments import scaled_channels

STAGES = dict(embed_dims=8, depths=(1, 1), d_state=1, ssm_ratio=1.0)
SMALL = {
    VMamba: dict(arch=STAGES, out_indices=(1,)),
    MambaAdaptor: dict(arch=STAGES, out_indices=(1,)),
    Vim: dict(arch=dict(embed_dims=8, depth=2), img_size=32),
    SimpleFeaturePyramid: dict(in_channels=8, out_channels=8),
}
BACKBONES = {
    'in_channels': [0, -1, 3.0, '3', True, None],
    'drop_path_rate': [-0.1, 1.0, '0.1', float('nan'), True, None],
    'with_cp': ['no', 0, 1, None],
    'init_cfg': [3, 'vmamba.pth', [3], [dict(type='Pretrained'), None]],
    'frozen_stages': [-2, 9, 1.0, True, '1', None],
    'out_indices': [(), (2,), 2, (-3,), 'all', (1.0,), (True,), None, [[0]]],
    'adaptors': [3, 'both', [dict(temporal={})]],
    'trainable': [3, 'norms', ['heads']],
}
TEMPORAL = {
    'sequences': [0, 3, 2.0, True, '2'],
    'places': [0, 4.0, True, None],
    'static': ['no', 1, None],
    'gamma_init': ['0', float('inf'), None, True],
    'granularities': [2, (1.0,), (1.0, '2'), (1.0, float('nan')), 'ab'],
}
SPATIAL = {
    'dilations': [(), 3, (0,), (1.0,), 'ab', (True,), range(1, 18)],
    'alpha_init': ['0', float('nan'), None],
}
OF_CLASS = {
    VMamba: {
        'mlp_ratio': [0, -1, 0.01, '4', float('nan'), None],
        'norm_cfg': [3, 'LN', 0, dict(type='BN')],
        'scan_init': ['even', None],
    },
    Vim: {
        'img_size': [0, (32,), (32, 0), (32, 32, 32), 32.0, '32', None],
        'patch_size': [0, 16.0, (16, 16), None],
        'out_type': ['map', None],
    },
    SimpleFeaturePyramid: {
        'in_channels': [0, 6, 8.0, -4, None],
        'out_channels': [0, 2.5, None],
        'num_outs': [3, 5.0, None],
        'init_cfg': [3],
    },
}
ARCH = {
    VMamba: {
        'embed_dims': [0, 1, 8.0, '8', None],
        'depths': [(), (1, 0), 2, (1.0, 1), 'ab', None],
        'd_state': [0, 1.0, None],
        'ssm_ratio': [0, -1.0, 0.1, '1', None],
    },
    Vim: {'embed_dims': [0, 8.0, None], 'depth': [0, 2.0, None]},
}


def cases():
    for backbone in (VMamba, Vim):
        for name, values in {**BACKBONES, **OF_CLASS[backbone]}.items():
            for value in values:
                if not (value is None and name in ('init_cfg', 'adaptors', 'norm_cfg')):
                    yield backbone, name, {name: value}
        for name, values in ARCH[backbone].items():
            for value in values:
                arch = {**SMALL[backbone]['arch'], name: value}
                yield backbone, name, dict(arch=arch)
    for adaptor, settings in (('temporal', TEMPORAL), ('spatial', SPATIAL)):
        for name, values in settings.items():
            for value in values:
                yield MambaAdaptor, name, dict(adaptors={adaptor: {name: value}})
    for name, values in OF_CLASS[SimpleFeaturePyramid].items():
        for value in values:
            yield SimpleFeaturePyramid, name, {name: value}


@pytest.mark.parametrize(
    'kind, name, arguments', cases(), ids=lambda v: getattr(v, '__name__', str(v))
)
def test_what_came_is_named(kind, name, arguments):
    with pytest.raises(ValueError, match=rf'`{name}`.* must .*got ') as error:
        kind(**{**SMALL[kind], **arguments})
    got = str(error.value).rpartition('got ')[2]
    assert got.strip('\'"') in str(arguments)


@pytest.mark.parametrize('shape', [(3, 32, 32), (1, 3, 0, 32), (1, 3, 32, 0), (32, 32)])
@pytest.mark.parametrize('kind', [VMamba, Vim], ids=['VMamba', 'Vim'])
def test_what_is_no_batch_of_images_is_named(kind, shape):
    model = kind(**SMALL[kind])
    message = rf'`images` of {kind.__name__} must be .*got shape \{list(shape)}'
    with pytest.raises(ValueError, match=message):
        model(torch.zeros(shape))


def test_what_configs_and_numpy_write_is_taken():
    """ConfigDict holds lists; computed settings are numbers of numpy."""
    model = VMamba(
        dict(
            embed_dims=np.int64(8),
            depths=[1, np.int32(1)],
            d_state=1,
            ssm_ratio=np.float32(1),
        ),
        out_indices=[np.int64(1)],
        drop_path_rate=np.float64(0.1),
        mlp_ratio=2,
        init_cfg=[],
    )
    assert model(torch.zeros(1, 3, 32, 32))[0].shape == (1, 16, 4, 4)
    Vim(dict(embed_dims=8, depth=1), img_size=[32, 48])


@pytest.mark.parametrize(
    'ratio, channels, expected',
    [
        (2.3, 100, 230),  # 229.99999999999997
        (0.29, 100, 29),  # 28.999999999999996
        (1 / 49, 49, 1),  # 0.9999999999999999
        (1.1, 10, 11),
        (0.999, 100, 99),
        (1.0, 96, 96),
        (2.5, 3, 7),
    ],
)
def test_scaled_channels_are_rounded_down_but_for_errors(ratio, channels, expected):
    assert scaled_channels('ssm_ratio', ratio, channels) == expected
