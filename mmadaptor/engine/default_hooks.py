# SPDX-License-Identifier: Apache-2.0
"""The hooks that every runner of mmadaptor has, by their names in `default_hooks`."""

OURS = dict(
    exact_resume=dict(type='mmadaptor.ExactResumeHook'),
    missing_validation=dict(type='mmadaptor.MissingValidationHook'),
    non_finite=dict(type='mmadaptor.NonFiniteHook'),
    strict_load=dict(type='mmadaptor.StrictLoadHook'),
)

MMENGINES = {
    'runtime_info',
    'timer',
    'sampler_seed',
    'logger',
    'param_scheduler',
    'checkpoint',
}


def with_ours(hooks: dict | None) -> dict:
    """Add our hooks to those of a config, in which None removes any by its name."""
    hooks = {**OURS, **(hooks or {})}
    # mmengine removes its own; it would refuse None for others.
    return {
        name: hook
        for name, hook in hooks.items()
        if hook is not None or name in MMENGINES
    }
