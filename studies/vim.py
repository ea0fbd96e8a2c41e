# SPDX-License-Identifier: Apache-2.0
"""Tuning of a Vim: Fashion-MNIST, five classes after five."""

from .fashion import BASE_CLASSES, Method, classify, of_ours, rates, tuning
from .parts import S, T

BASE = classify('base', BASE_CLASSES, 4, config='vim_fashion')


def of_others(method: str, **settings: object) -> dict:
    """Return the arguments of a backbone with the layers of another paper."""
    return dict(type='mmadaptor.TunedVim', method=method, **settings)


METHODS = {
    'full': Method(1e-3),
    'linear': Method(1.6e-2, dict(trainable=[])),
    'BitFit': Method(4e-3, dict(trainable=['biases'])),
    'norms': Method(4e-3, dict(trainable=['norms'])),
    'conv1d': Method(4e-3, dict(trainable=[r'mixer\.conv\.'])),
    'A and D': Method(4e-3, dict(trainable=[r'mixer\.(A_log|D)$'])),
    'state offset': Method(4e-3, of_others('state_offset')),
    'LoRA, in_proj': Method(4e-3, of_others('lora')),
    'LoRAp(X)': Method(4e-3, of_others('lora_x')),
    'ParallelAdapter': Method(4e-3, of_others('parallel')),
    'Mona-like': Method(4e-3, of_others('mona')),
    'T': Method(4e-3, of_ours(T)),
    'S': Method(4e-3, of_ours(S)),
    'T and S': Method(4e-3, of_ours(T | S)),
    'T and S, shared': Method(4e-3, of_ours(dict(T | S, share=True))),
    'T and S, norms': Method(4e-3, of_ours(T | S, 'norms')),
    'T and S, shared, norms': Method(4e-3, of_ours(dict(T | S, share=True), 'norms')),
}
TUNING_VIM = {
    f'tuning_vim_{per_class or "all"}': tuning(per_class, METHODS, BASE)
    for per_class in (50, None)
}
# Not run yet: the rates of `METHODS` are guesses.
TUNING_VIM['tuning_vim_50_rates'] = rates(50, METHODS, BASE)
