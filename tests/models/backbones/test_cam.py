# SPDX-License-Identifier: Apache-2.0
"""Grad-CAM, with the layers that the toolboxes' tools choose or that docs name."""

import copy

import pytest
import torch
from mmengine.utils.dl_utils import is_norm
from test_vmamba import SMALL

from mmadaptor.models import MambaAdaptor, Vim, VMamba
from mmadaptor.models.layers.class_token import split_class_token

VIM = dict(arch=dict(embed_dims=16, depth=3), img_size=32, patch_size=8)


def default_layer(backbone):
    """Return the target layer that mmpretrain's vis_cam.py takes by default."""
    return [layer for layer in backbone.modules() if is_norm(layer)][-1]


def grad_cam(layer, score, images):
    """Compute the map of Grad-CAM `(B, H, W)`, as pytorch-grad-cam does.

    It hooks the layer, and takes its output and the gradient of it as `(B, C, H, W)`.
    """
    taken = {}

    def take(module, inputs, output):
        taken['map'] = output
        output.register_hook(lambda gradient: taken.update(gradient=gradient))

    handle = layer.register_forward_hook(take)
    score(images).sum().backward()
    handle.remove()
    weights = taken['gradient'].mean(dim=(2, 3), keepdim=True)
    return (weights * taken['map']).sum(dim=1).relu()


@pytest.mark.parametrize('kind', [VMamba, MambaAdaptor])
@pytest.mark.parametrize('norm_cfg', [None, dict(type='LN', eps=1e-3)], ids=str)
def test_the_default_layer_gives_the_map_of_the_class(kind, norm_cfg):
    """Behind pooling and a linear layer, Grad-CAM is the weighted sum of the maps."""
    torch.manual_seed(0)
    backbone = kind(SMALL, out_indices=(1, 3), norm_cfg=norm_cfg)
    images = torch.rand(2, 3, 64, 96)
    weights = backbone(images)[-1][0, :, 0, 0].detach()  # positive at one place

    def score(images):
        return backbone(images)[-1].mean(dim=(2, 3)) @ weights

    assert default_layer(backbone) is backbone.norm3
    cam = grad_cam(default_layer(backbone), score, images)
    features = backbone(images)[-1]
    assert (
        features.shape[2:] == cam.shape[1:] == (2, 3)
    )  # not square: no axis is mixed up
    expected = torch.einsum('bchw,c->bhw', features, weights).relu() / 6
    torch.testing.assert_close(cam, expected)
    assert cam.max() > 0


@pytest.mark.parametrize('adaptors', [None, dict(temporal=dict(), spatial=dict())])
def test_the_map_of_vim_is_the_input_of_its_last_block(adaptors):
    torch.manual_seed(0)
    backbone = Vim(**VIM, adaptors=adaptors)
    images, weights = torch.rand(2, 3, 16, 32), torch.randn(16)
    cam = grad_cam(backbone.patch_map, lambda x: backbone(x)[0] @ weights, images)

    x, size = backbone.embed(images)
    for layer in backbone.layers[:-1]:
        x = layer(x, *size)
    x = x.detach().requires_grad_()
    out = backbone.norm(backbone.layers[-1](x, *size))
    (split_class_token(out)[1].squeeze(1) @ weights).sum().backward()
    gradients, features = (split_class_token(t)[0] for t in (x.grad, x.detach()))
    expected = (gradients.mean(dim=1, keepdim=True) * features).sum(dim=2).relu()
    torch.testing.assert_close(cam, expected.unflatten(1, size))
    assert cam.shape == (2, 2, 4) and cam.max() > 0


def test_the_map_of_vim_for_dense_tasks_is_its_output():
    torch.manual_seed(0)
    backbone = Vim(**VIM, out_type='featmap', out_indices=(0, -1, -1))
    seen = []
    backbone.patch_map.register_forward_hook(lambda *taken: seen.append(taken[-1]))
    outputs = backbone(torch.rand(1, 3, 16, 32))
    assert len(seen) == 1 and seen[0] is outputs[1] is outputs[2]
    assert seen[0].shape == (1, 16, 2, 4)


@pytest.mark.parametrize('build', [lambda: VMamba(SMALL), lambda: Vim(**VIM)])
def test_names_and_copies_are_what_they_were(build):
    backbone = build().eval()
    names = list(backbone.state_dict())
    assert not any('map' in name for name in names)
    images = torch.rand(1, 3, 32, 32)
    for expected, got in zip(backbone(images), copy.deepcopy(backbone)(images)):
        assert torch.equal(expected, got) and got.is_contiguous()
