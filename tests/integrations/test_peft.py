# SPDX-License-Identifier: Apache-2.0
"""LoRA of peft on the models."""

import pathlib

import pytest
import torch
from integrations.pages import blocks
from peft import LoraConfig, PeftModel, get_peft_model

import mmadaptor  # noqa: F401
from mmadaptor.integrations.transformers import (
    MambaAdaptorConfig,
    MambaAdaptorForImageClassification,
)
from mmadaptor.models import Vim, VMamba, create_backbone, create_classifier
from mmadaptor.models.layers import linear

ROOT = pathlib.Path(__file__).parents[2]
PROJECTIONS = ['in_proj', 'x_proj', 'out_proj']
DOWNSAMPLING = r'.*downsample_layers\.\d\.[03]'
# An Adaptor-T whose gamma is 0 gives its predictors no gradient.
ADAPTORS = dict(temporal=dict(gamma_init=0.1), spatial=dict(alpha_init=0.1))


def b0():
    return create_classifier('mamba_adaptor_b0', num_classes=5, adaptors=ADAPTORS)


def vim():
    return create_classifier('vim_tiny', num_classes=5, img_size=64)


def small_vmamba():
    arch = dict(embed_dims=16, depths=(1, 1), d_state=2, ssm_ratio=2.0)
    return VMamba(arch, out_indices=(0, 1))


def in_transformers():
    return MambaAdaptorForImageClassification(
        MambaAdaptorConfig(
            architecture='mamba_adaptor_b0', num_labels=5, adaptors=ADAPTORS
        )
    )


def output_of(model):
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    output = model(images)
    if isinstance(output, tuple):
        return output[-1]
    return getattr(output, 'logits', output)


def made(build):
    torch.manual_seed(0)
    return build()


@pytest.mark.parametrize(
    'build, options',
    [
        (b0, dict(target_modules=PROJECTIONS)),
        (b0, dict(target_modules=PROJECTIONS, use_dora=True)),
        (b0, dict(target_modules='all-linear')),
        (b0, dict(target_modules=DOWNSAMPLING)),
        (b0, dict(target_modules=PROJECTIONS, modules_to_save=['head.fc'])),
        (b0, dict(target_modules=PROJECTIONS, modules_to_save=['temporal', 'spatial'])),
        (b0, dict(target_modules=[], target_parameters=['mixer.dt_weight'])),
        (small_vmamba, dict(target_modules=PROJECTIONS)),
        (vim, dict(target_modules=['in_proj', 'out_proj'])),
        (vim, dict(target_modules=['in_proj'], use_dora=True)),
        (
            vim,
            dict(
                target_modules=[],
                target_parameters=['mixer.x_weight', 'mixer.dt_weight'],
            ),
        ),
        (in_transformers, dict(target_modules=PROJECTIONS, modules_to_save=['fc'])),
        (in_transformers, dict(target_modules='all-linear')),
    ],
)
def test_lora_trains_saves_and_merges(build, options, tmp_path, monkeypatch):
    # oneDNN computes plain layers, and layers that peft wraps have other bits.
    monkeypatch.setattr(linear, '_ONEDNN', None)
    base = made(build).eval()
    names = set(base.state_dict())
    before = output_of(base).detach()
    model = get_peft_model(base, LoraConfig(r=4, **options))
    torch.testing.assert_close(output_of(model.eval()), before, rtol=0, atol=0)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, 1e-2)
    for _ in range(2):  # in the first step, B is 0 and A has no gradient
        optimizer.zero_grad()
        output_of(model.train()).square().mean().backward()
        optimizer.step()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
        else:
            assert parameter.grad is None, name
    after = output_of(model.eval()).detach()
    assert not torch.equal(after, before)
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(made(build), tmp_path).eval()
    torch.testing.assert_close(output_of(loaded), after, rtol=0, atol=0)
    merged = model.merge_and_unload().eval()
    scale = after.abs().max().item()
    torch.testing.assert_close(output_of(merged), after, rtol=0, atol=3e-5 * scale)
    assert set(merged.state_dict()) == names


def test_layers_in_projections_stay_if_parameters_are_targets_too():
    """When this fails, peft merges both: change docs/transformers.md."""
    options = dict(target_modules=['in_proj'], target_parameters=['mixer.dt_weight'])
    model = get_peft_model(made(b0), LoraConfig(r=4, **options))
    assert any('lora_A' in name for name in model.merge_and_unload().state_dict())


def test_saved_modules_are_not_shared():
    """When this fails, peft keeps modules shared: change docs/transformers.md."""
    adaptors = dict(spatial={}, share=True)
    model = Vim(dict(embed_dims=16, depth=2), img_size=32, adaptors=adaptors)
    assert model.layers[0].mixer.spatial is model.layers[1].mixer.spatial
    get_peft_model(
        model, LoraConfig(target_modules=['in_proj'], modules_to_save=['spatial'])
    )
    first, second = (
        layer.mixer.spatial.modules_to_save['default'] for layer in model.layers
    )
    assert first is not second


def test_depthwise_convolutions_are_refused():
    with pytest.raises(ValueError, match='groups=32 and rank 4'):
        get_peft_model(made(b0), LoraConfig(r=4, target_modules=['conv']))


def test_backbone_keeps_its_frozen_stages():
    backbone = create_backbone('mamba_adaptor_b0', out_indices=(0,))
    model = get_peft_model(backbone, LoraConfig(target_modules=PROJECTIONS)).train()
    output_of(model).square().mean().backward()
    trained = [n for n, p in model.named_parameters() if p.grad is not None]
    assert trained and all('stages.0.' in name for name in trained)


def test_recomputed_blocks_get_gradients():
    model = in_transformers()
    model.gradient_checkpointing_enable()
    model = get_peft_model(model, LoraConfig(r=4, target_modules=PROJECTIONS)).train()
    output_of(model).square().mean().backward()
    missing = [
        n for n, p in model.named_parameters() if 'lora_B' in n and p.grad is None
    ]
    assert not missing


def test_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = dict(create_classifier=create_classifier, images=torch.randn(2, 3, 64, 64))
    exec(blocks(ROOT / 'docs' / 'transformers.md')[-1], names)
    assert set(names['merged'].state_dict()) == set(b0().state_dict())
