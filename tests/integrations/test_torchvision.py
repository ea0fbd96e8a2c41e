# SPDX-License-Identifier: Apache-2.0
"""torchvision's detectors train with our backbones and predict."""

import pytest
import torch
from integrations.pages import run
from torchvision.models.detection import FCOS, FasterRCNN, MaskRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from mmadaptor.integrations.torchvision import BackboneWithFPN
from mmadaptor.models import Vim, create_backbone

SIZES = dict(min_size=64, max_size=96)


def backbone(**arguments):
    torch.manual_seed(0)
    return create_backbone('mamba_adaptor_b0', **arguments)


def targets(masks):
    boxes = torch.tensor([[4.0, 6.0, 40.0, 50.0], [20.0, 10.0, 60.0, 44.0]])
    target = dict(boxes=boxes, labels=torch.tensor([1, 2]))
    if masks:
        target['masks'] = torch.zeros(2, 64, 80, dtype=torch.uint8)
        for mask, (x, y, right, bottom) in zip(target['masks'], boxes.int()):
            mask[y:bottom, x:right] = 1
    return [target, target]


def train(model, masks=False):
    """Every parameter of the backbone gets a gradient, and a step lowers the loss."""
    images = [torch.rand(3, 64, 80), torch.rand(3, 64, 80)]
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(4):
        torch.manual_seed(1)  # the sampled anchors
        loss = sum(model(images, targets(masks)).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    lacking = [n for n, p in model.backbone.body.named_parameters() if p.grad is None]
    assert lacking == []
    assert losses[-1] < losses[0]


def predict(model):
    model.eval()
    with torch.inference_mode():
        return model([torch.rand(3, 50, 70), torch.rand(3, 64, 64)])


def test_mask_rcnn_trains_and_predicts():
    model = MaskRCNN(BackboneWithFPN(backbone(), 32), num_classes=3, **SIZES)
    train(model, masks=True)
    first, second = predict(model)
    assert first['masks'].shape[1:] == (1, 50, 70)
    assert second['masks'].shape[1:] == (1, 64, 64)
    assert len(first['boxes']) == len(first['scores']) == len(first['masks'])


def test_retinanet_trains_and_predicts():
    body = BackboneWithFPN(
        backbone(out_indices=(1, 2, 3)), 32, extra_blocks=LastLevelP6P7(32, 32)
    )
    assert list(body(torch.rand(1, 3, 64, 64))) == ['0', '1', '2', 'p6', 'p7']
    model = RetinaNet(body, num_classes=3, score_thresh=0.0, **SIZES)
    train(model)
    assert all(len(found['boxes']) > 0 for found in predict(model))


def test_fcos_trains_on_a_single_map_of_vim():
    sizes = ((16,), (32,))  # and of torchvision's pooled map
    anchors = AnchorGenerator(sizes, aspect_ratios=((1.0,), (1.0,)))
    vim = Vim(
        dict(embed_dims=16, depth=2), img_size=64, patch_size=8, out_type='featmap'
    )
    model = FCOS(BackboneWithFPN(vim, 32), 3, anchor_generator=anchors, **SIZES)
    train(model)
    predict(model)


def test_the_pyramid_has_the_strides_of_the_backbone():
    body = backbone()
    pyramid = BackboneWithFPN(body, 16)
    maps = pyramid(torch.rand(2, 3, 128, 96))
    sizes = [(2, 16, 128 // s, 96 // s) for s in body.strides]
    assert [tuple(m.shape) for m in maps.values()] == [*sizes, (2, 16, 2, 2)]
    assert pyramid.out_channels == 16


def test_weights_of_the_backbone_keep_their_names():
    body = backbone()
    names = BackboneWithFPN(body).body.state_dict()
    assert list(names) == list(body.state_dict())


def test_class_tokens_are_refused():
    vim = Vim(dict(embed_dims=16, depth=1), img_size=32)
    with pytest.raises(
        ValueError, match="out_type='featmap', got out_type='cls_token'"
    ):
        BackboneWithFPN(vim)


def test_the_page(tmp_path, monkeypatch):
    names = run('torchvision.md', tmp_path, monkeypatch)
    assert isinstance(names['detector'], FasterRCNN)
