# SPDX-License-Identifier: Apache-2.0
# The recipe is that of VMamba, not the published one of Vim.
_base_ = ['_base_/models/classifier_vim_ti.py', '_base_/recipes/imagenet_300e.py']
