# SPDX-License-Identifier: Apache-2.0
"""Every weight is accounted for, and the newest whole checkpoint is found."""

import shutil

import pytest
import torch

from mmadaptor.checkpoints.strict import (
    check_resumable,
    find_resumable,
    load_backbone,
    load_strict,
    weights_of,
)
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


def test_backbone_by_prefix(saved):
    state = {f'backbone.{k}': v for k, v in weights().items()}
    cfg = saved({**state, 'head.weight': torch.ones(1)})
    target = module()
    load_backbone(target, dict(**cfg, prefix='backbone.'))
    assert (target['stem'].weight == 2).all()
    with pytest.raises(
        InputError,
        match=r"nothing under prefix 'base\.'; its "
        r'names begin with backbone\., head\.',
    ):
        load_backbone(target, dict(**cfg, prefix='base'))
    with pytest.raises(CheckpointMismatchError, match=r"prefix='backbone\.'"):
        load_backbone(target, cfg)


def test_backbone_of_a_bare_state_dict(tmp_path):
    torch.save(weights(), tmp_path / 'bare.pth')
    target = module()
    load_backbone(target, dict(checkpoint=str(tmp_path / 'bare.pth')))
    assert (target['norm'].running_var == 2).all()


def test_missing_backbone_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r'gone\.pth'):
        load_backbone(module(), dict(checkpoint=str(tmp_path / 'gone.pth')))


def save_run(folder, numbers, stem='epoch_', last=None):
    for number in numbers:
        torch.save(
            dict(meta=dict(epoch=number), message_hub={}, state_dict={}),
            folder / f'{stem}{number}.pth',
        )
    (folder / 'last_checkpoint').write_text(
        str(folder / f'{stem}{last or numbers[-1]}.pth')
    )


def cut(path):
    path.write_bytes(path.read_bytes()[:-40])


@pytest.mark.parametrize('stem', ['epoch_', 'iter_', 'mine_'])
def test_truncated_newest_is_named_and_skipped(stem, tmp_path, monkeypatch):
    save_run(tmp_path, [8, 9, 10], stem)
    said = []
    monkeypatch.setattr(
        'mmadaptor.checkpoints.strict.print_log',
        lambda message, *_: said.append(message),
    )
    assert find_resumable(str(tmp_path)) == str(tmp_path / f'{stem}10.pth')
    assert not said
    cut(tmp_path / f'{stem}10.pth')
    assert find_resumable(str(tmp_path)) == str(tmp_path / f'{stem}9.pth')
    assert len(said) == 1
    assert f'{stem}10.pth is truncated' in said[0]


def test_checkpoints_of_an_older_run_are_not_taken(tmp_path):
    """A new run in the same folder had come to its second epoch."""
    save_run(tmp_path, [1, 2, 12], last=2)
    cut(tmp_path / 'epoch_2.pth')
    assert find_resumable(str(tmp_path)) == str(tmp_path / 'epoch_1.pth')


def test_an_empty_record_is_no_obstacle(tmp_path):
    save_run(tmp_path, [1, 2])
    (tmp_path / 'last_checkpoint').write_text('')
    assert find_resumable(str(tmp_path)) == str(tmp_path / 'epoch_2.pth')


def test_a_copied_folder_is_resumed_from_its_own_files(tmp_path):
    old = tmp_path / 'old'
    old.mkdir()
    save_run(old, [1, 2])
    shutil.copytree(old, tmp_path / 'new')
    assert find_resumable(str(tmp_path / 'new')) == str(
        tmp_path / 'new' / 'epoch_2.pth'
    )


def test_a_moved_folder_is_resumed_in_its_new_place(tmp_path):
    old = tmp_path / 'old'
    old.mkdir()
    save_run(old, [1, 2])
    old.rename(tmp_path / 'new')
    assert find_resumable(str(tmp_path / 'new')) == str(
        tmp_path / 'new' / 'epoch_2.pth'
    )


def test_all_damaged_is_an_error_that_names_all(tmp_path):
    save_run(tmp_path, [1, 2])
    cut(tmp_path / 'epoch_1.pth')
    cut(tmp_path / 'epoch_2.pth')
    with pytest.raises(InputError, match=r'(?s)epoch_2\.pth.*epoch_1\.pth'):
        find_resumable(str(tmp_path))


def test_weights_alone_are_not_resumed_from(tmp_path):
    path = tmp_path / 'epoch_1.pth'
    torch.save(dict(meta={}, state_dict={}), path)
    with pytest.raises(DamagedFileError, match='epoch_1.pth.*no message_hub'):
        check_resumable(str(path))
    with pytest.raises(InputError, match='epoch_1.pth.*no message_hub'):
        find_resumable(str(tmp_path))


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


def test_what_is_no_tensor_is_named():
    with pytest.raises(InputError, match=r'weight: expected \(2, 3\), got int'):
        load_strict(torch.nn.Linear(3, 2), dict(weight=3, bias=torch.ones(2)), 'x')


def test_nothing_there_yet(tmp_path):
    assert find_resumable(str(tmp_path)) is None
    assert find_resumable(str(tmp_path / 'none')) is None
