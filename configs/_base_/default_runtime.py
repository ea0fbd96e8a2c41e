# SPDX-License-Identifier: Apache-2.0
# mmdet's own and ours.
_base_ = ['mmdet::_base_/default_runtime.py', 'hooks.py']

default_hooks = dict(checkpoint=dict(max_keep_ckpts=3))
randomness = dict(seed=0)
