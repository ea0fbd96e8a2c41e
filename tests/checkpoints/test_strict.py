# SPDX-License-Identifier: Apache-2.0
"""Every weight is accounted for."""

import pytest
import torch

from mmadaptor.checkpoints.loading import weights_of
from mmadaptor.checkpoints.strict import load_backbone, load_strict, prepare
from mmadaptor.errors import CheckpointMismatchError, DamagedFileError, InputError


def module():
    return torch.nn.ModuleDict(
        dict(
            stem=torch.nn.Conv2d(3, 4, 1),
            adaptor=torch.nn.Linear(4, 2),
            norm=torch.nn.BatchNorm2d(4),
        )
    )


def weights(**changes):
    state = {k: torch.full_like(v, 2) for k, v in module().state_dict().items()}
    state.update(changes)
    return {k: v for k, v in state.items() if v is not None}


@pytest.fixture
def saved(tmp_path):

    def save(state_dict, name='base.pth'):
        torch.save(dict(state_dict=state_dict), tmp_path / name)
        return dict(type='Pretrained', checkpoint=str(tmp_path / name))

    return save


def test_all_three_kinds_are_listed_with_expected_and_got():
    state = weights(
        **{'stem.bias': None, 'stem.weight': torch.ones(4, 5, 1, 1)},
        extra=torch.ones(1),
    )
    with pytest.raises(CheckpointMismatchError) as error:
        load_strict(module(), state, 'a.pth')
    text = str(error.value)
    assert 'a.pth does not fit ModuleDict' in text
    assert '1 missing:\n    stem.bias' in text
    assert '1 unexpected:\n    extra' in text
    assert 'stem.weight: expected (4, 3, 1, 1), got (4, 5, 1, 1)' in text


def test_long_lists_are_cut_and_counted():
    extra = {f'extra{i}': torch.ones(1) for i in range(9)}
    with pytest.raises(CheckpointMismatchError) as error:
        load_strict(module(), weights(**extra), 'a.pth')
    assert '9 unexpected' in str(error.value)
    assert '... and 4 more' in str(error.value)
    assert 'extra5' not in str(error.value)


def test_names_of_a_shared_parameter_must_agree():
    model = torch.nn.ModuleDict(dict(a=torch.nn.Linear(2, 1)))
    model['b'] = model['a']
    state = {k: torch.ones_like(v) for k, v in model.state_dict().items()}
    load_strict(model, state, 'a.pth')
    state['b.weight'] = torch.zeros(1, 2)
    with pytest.raises(
        CheckpointMismatchError,
        match=('a.pth: b.weight and a.weight are one shared parameter'),
    ):
        load_strict(model, state, 'a.pth')
    del state['b.weight']
    assert load_strict(model, state, 'a.pth', optional=['^b']) == ['b.weight']


class Refusing(torch.nn.Linear):
    """A module that takes only its own extra state."""

    def get_extra_state(self):
        return None

    def set_extra_state(self, state):
        if state is not None:
            raise RuntimeError('an odd state')


def test_what_a_module_refuses_is_said():
    state = Refusing(2, 1).state_dict()
    load_strict(Refusing(2, 1), state, 'a.pth')
    wide = dict(state, weight=torch.ones(1, 3))
    with pytest.raises(CheckpointMismatchError, match='got') as error:
        load_strict(Refusing(2, 1), wide, 'a.pth')
    assert '1 of another shape' in str(error.value)
    with pytest.raises(
        CheckpointMismatchError, match='a.pth does not fit Refusing: an odd state'
    ):
        load_strict(Refusing(2, 1), dict(state, _extra_state={}), 'a.pth')


def test_names_are_prepared_at_their_start_only():
    """A wrapper inside, as of LoRA, keeps its name; averages may lack what is skipped."""
    state = {'module.backbone.module.weight': torch.ones(1), 'head.bias': torch.ones(1)}
    checkpoint = dict(state_dict=state, ema_state_dict={'steps': torch.tensor(1)})
    prepare(torch.nn.Linear(1, 1), checkpoint, 'a.pth', skip=['^head'])
    assert list(checkpoint['state_dict']) == ['backbone.module.weight']
    assert list(checkpoint['ema_state_dict']) == ['steps']


def test_optional_may_be_missing_but_not_misshapen():
    absent = {'adaptor.weight': None, 'adaptor.bias': None}
    target = module()
    before = target['adaptor'].weight.clone()
    load_strict(target, weights(**absent), 'a.pth', optional=[r'^adaptor\.'])
    assert (target['stem'].weight == 2).all()
    torch.testing.assert_close(target['adaptor'].weight, before)
    with pytest.raises(CheckpointMismatchError, match=r'expected \(2,\), got'):
        load_strict(
            module(),
            weights(**{'adaptor.bias': torch.ones(3)}),
            'a.pth',
            optional=[r'^adaptor\.'],
        )


def test_old_batch_norm_is_upgraded_by_its_module():
    load_strict(module(), weights(**{'norm.num_batches_tracked': None}), 'a.pth')
    # Of a version that has the counters, so that torch does not add them.
    state = module().state_dict()
    del state['norm.num_batches_tracked']
    load_strict(module(), state, 'a.pth')


def test_backbone_by_prefix(saved):
    state = {f'backbone.{k}': v for k, v in weights().items()}
    cfg = saved({**state, 'head.weight': torch.ones(1)})
    target = module()
    load_backbone(target, dict(**cfg, prefix='backbone.'))
    assert (target['stem'].weight == 2).all()
    with pytest.raises(
        InputError,
        match=r"no name with the prefix 'base\.'; its "
        r'names start with backbone\., head\.',
    ):
        load_backbone(target, dict(**cfg, prefix='base'))
    target = module()
    load_backbone(target, cfg)
    assert (target['stem'].weight == 2).all()
    cfg = saved({f'student.{k}': v for k, v in state.items()})
    with pytest.raises(CheckpointMismatchError, match=r"prefix='student\.backbone\.'"):
        load_backbone(target, cfg)
    with pytest.raises(CheckpointMismatchError, match=r"prefix='student\.backbone\.'"):
        load_backbone(target, dict(cfg, prefix='student'))


def test_backbone_of_a_bare_state_dict(tmp_path):
    torch.save(weights(), tmp_path / 'bare.pth')
    target, places = module(), []
    init_cfg = dict(checkpoint=str(tmp_path / 'bare.pth'))
    load_backbone(target, init_cfg)
    assert (target['norm'].running_var == 2).all()

    def place(storage, location):
        places.append(location)
        return storage

    load_backbone(target, dict(init_cfg, map_location=place))
    assert set(places) == {'cpu'}


def test_names_of_others_are_translated_and_what_is_surplus_is_left_out(saved):
    cfg = saved({f'x_{k}': v for k, v in weights(extra=torch.ones(1)).items()})

    def translate(state, source):
        assert source == cfg['checkpoint']
        return {k.removeprefix('x_'): v for k, v in state.items()}

    target = module()
    load_backbone(target, cfg, surplus=['^extra$'], translate=translate)
    assert (target['stem'].weight == 2).all()
    with pytest.raises(CheckpointMismatchError, match='1 unexpected:\n    extra'):
        load_backbone(module(), cfg, translate=translate)


def test_a_whole_model_takes_all_of_a_whole_model(saved):
    model = torch.nn.ModuleDict(dict(backbone=module(), head=torch.nn.Linear(1, 1)))
    state = {k: torch.full_like(v, 2) for k, v in model.state_dict().items()}
    load_backbone(model, saved(state))
    assert (model['head'].weight == 2).all()


def test_missing_backbone_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r'gone\.pth'):
        load_backbone(module(), dict(checkpoint=str(tmp_path / 'gone.pth')))


@pytest.mark.parametrize(
    'content, got',
    [
        ([1], 'list'),
        (dict(state_dict=None), 'NoneType'),
        (dict(state_dict=[1]), 'list'),
    ],
)
def test_what_is_no_state_dict_is_named(content, got):
    with pytest.raises(DamagedFileError, match=f'x.pth: expected a dict .* {got}'):
        weights_of(content, 'x.pth')


@pytest.mark.parametrize(
    'state, got', [(dict(a=[1]), "list by 'a'"), ({3: torch.ones(1)}, 'Tensor by 3')]
)
def test_what_is_no_weight_is_named(state, got):
    with pytest.raises(DamagedFileError, match=f'x.pth: expected tensors .* {got}'):
        weights_of(dict(state_dict=state), 'x.pth')


def test_extra_states_and_weights_with_the_names_of_keys_are_weights():
    state = {'fc._extra_state': dict(scale=2), 'model': torch.ones(1)}
    assert weights_of(state, 'x.pth') is state
    assert weights_of(dict(model=state, epoch=3), 'x.pth') is state


class Hinting(torch.nn.Linear):
    def shape_hint(self, name, shape):
        return f' A hint on {name} of {len(shape)} dimensions.'


def test_a_module_explains_its_shapes():
    state = dict(weight=3, bias=torch.ones(2))
    with pytest.raises(CheckpointMismatchError, match='A hint') as error:
        load_strict(
            torch.nn.ModuleList([Hinting(3, 1)]),
            {f'0.{k}': v for k, v in state.items()},
            'x',
        )
    assert str(error.value).endswith('this config. A hint on bias of 1 dimensions.')


def test_what_is_no_tensor_is_named():
    with pytest.raises(InputError, match=r'weight: expected \(2, 3\), got int'):
        load_strict(torch.nn.Linear(3, 2), dict(weight=3, bias=torch.ones(2)), 'x')
