# SPDX-License-Identifier: Apache-2.0
# The recipe is VMamba's, not the one that Vim was published with.
_base_ = ['_base_/models/classifier_vim_ti.py', '_base_/recipes/imagenet_300e.py']
