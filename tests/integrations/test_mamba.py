# SPDX-License-Identifier: Apache-2.0
"""The scan of transformers' Mamba language models."""

import contextlib
import pathlib
import sys

import pytest
import torch
from integrations.pages import blocks
from torch.testing import assert_close
from transformers import (
    FalconMambaConfig,
    FalconMambaForCausalLM,
    JambaConfig,
    JambaForCausalLM,
    Mamba2Config,
    Mamba2Model,
    MambaConfig,
    MambaForCausalLM,
    ZambaConfig,
    ZambaForCausalLM,
)
from transformers.models.mamba import modeling_mamba

from benchmarks import mamba_language_model
from mmadaptor.integrations import mamba
from mmadaptor.integrations.mamba import use_scan

PAGE = pathlib.Path(__file__).parents[2] / 'docs/mamba.md'
SMALL = dict(vocab_size=50, hidden_size=32)
ATTENTION = dict(
    mamba_d_state=8,
    mamba_dt_rank=4,
    intermediate_size=32,
    num_attention_heads=4,
    attn_layer_offset=1,
)


def of_mamba():
    return MambaForCausalLM(MambaConfig(**SMALL, num_hidden_layers=2, state_size=8))


def of_falcon():
    config = FalconMambaConfig(**SMALL, num_hidden_layers=2, state_size=8)
    return FalconMambaForCausalLM(config)


def of_jamba():
    options = dict(num_key_value_heads=2, num_experts=2, attn_layer_period=2)
    config = JambaConfig(**SMALL, **ATTENTION, **options, num_hidden_layers=3)
    return JambaForCausalLM(config)


def of_zamba():
    options = dict(num_key_value_heads=4, n_mamba_heads=2, attn_layer_period=3)
    config = ZambaConfig(**SMALL, **ATTENTION, **options, num_hidden_layers=8)
    return ZambaForCausalLM(config)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture
def calls(monkeypatch):
    """Count the calls of the op."""
    counted = []

    def scan(*arguments, **options):
        counted.append(1)
        return original(*arguments, **options)

    original = mamba.selective_scan
    monkeypatch.setattr(mamba, 'selective_scan', scan)
    return counted


def padded():
    tokens = torch.randint(1, 50, (2, 20))
    mask = torch.ones_like(tokens)
    mask[0, :5] = 0
    return dict(input_ids=tokens, attention_mask=mask)


def results(model, inputs):
    """Return logits, gradients, and the tokens of a greedy generation."""
    model.zero_grad()
    output = model.train()(**inputs, labels=inputs['input_ids'], use_cache=False)
    output.loss.backward()
    gradients = {
        n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None
    }
    options = dict(max_new_tokens=8, do_sample=False, pad_token_id=0)
    return output.logits.detach(), gradients, model.eval().generate(**inputs, **options)


@pytest.mark.parametrize('build', [of_mamba, of_falcon, of_jamba, of_zamba])
def test_equals_the_scan_of_transformers(build, calls):
    model, inputs = build(), padded()
    logits, gradients, tokens = results(model, inputs)
    assert not calls
    with use_scan(model):
        ours = results(model, inputs)
    assert calls
    count = len(calls)
    assert_close(ours[0], logits)
    assert ours[1].keys() == gradients.keys()
    for name, gradient in gradients.items():
        scale = gradient.abs().max().item()
        assert_close(ours[1][name], gradient, rtol=0, atol=1e-5 * scale)
    assert torch.equal(ours[2], tokens)
    assert torch.equal(results(model, inputs)[0], logits)
    assert len(calls) == count


def test_prefill_leaves_the_same_state(calls):
    model, inputs = of_mamba().eval(), padded()
    states = []
    for scan in (contextlib.nullcontext, lambda: use_scan(model)):
        with scan():
            cache = model(**inputs, use_cache=True).cache_params
        states.append([layer.recurrent_states[0].clone() for layer in cache.layers])
    assert len(calls) == 2
    for theirs, ours in zip(*states):
        assert theirs.abs().max() > 0
        assert_close(ours, theirs)


def test_double_and_half_precision():
    inputs = padded()
    for dtype, tolerance in ((torch.float64, 1e-6), (torch.bfloat16, 0.02)):
        model = of_mamba().to(dtype)
        logits, _, tokens = results(model, inputs)
        with use_scan(model):
            ours = results(model, inputs)
        scale = logits.abs().max().item()
        assert_close(ours[0], logits, rtol=0, atol=tolerance * scale)
        if dtype == torch.float64:
            assert torch.equal(ours[2], tokens)


def test_compiled(calls):
    model, tokens = of_mamba().eval(), padded()['input_ids']
    logits = model(tokens, use_cache=False).logits
    with use_scan(model):
        compiled = torch.compile(model, backend='eager')
        assert_close(compiled(tokens, use_cache=False).logits, logits)
    assert calls


def test_second_use_changes_nothing():
    model, own = of_mamba(), modeling_mamba.mamba_selective_scan
    first, second = use_scan(model), use_scan(model)
    second.close()
    assert modeling_mamba.mamba_selective_scan is not own
    first.close()
    assert modeling_mamba.mamba_selective_scan is own


def test_other_models_are_refused():
    config = Mamba2Config(
        **SMALL, num_hidden_layers=1, num_heads=4, head_dim=16, state_size=8
    )
    for model in (Mamba2Model(config), torch.nn.Linear(2, 2)):
        with pytest.raises(ValueError, match=f'got {type(model).__name__} without'):
            use_scan(model)


def test_other_arguments_are_refused(monkeypatch):
    monkeypatch.setattr(modeling_mamba, 'mamba_selective_scan', lambda u, step: u)
    with pytest.raises(RuntimeError, match='hidden_states, dt.*got u, step'):
        use_scan(of_mamba())


def test_page_runs(calls):
    names = {}
    code = blocks(PAGE)
    assert len(code) == 2
    for block in code:
        exec(block, names)
    assert names['y'].shape == (2, 8, 100) and names['last_state'].shape == (2, 8, 4)
    assert len(calls) == 4  # two layers: a training step and a prompt


def test_both_scans_are_timed(monkeypatch, capsys):
    sizes = '--threads 1 --rounds 1 --layers 1 --hidden 16 --length 8'
    monkeypatch.setattr(sys, 'argv', ['mamba_language_model', *sizes.split()])
    mamba_language_model.main()
    assert len(capsys.readouterr().out.splitlines()) == 4
