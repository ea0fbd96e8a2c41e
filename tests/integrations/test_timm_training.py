# SPDX-License-Identifier: Apache-2.0
"""A classifier of real pictures, trained with torch and timm alone."""

import importlib.util
import pathlib
import sys

import numpy as np
import timm
import torch
from PIL import Image
from timm.data import Mixup
from timm.loss import SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import ModelEmaV3, accuracy

import mmadaptor  # noqa: F401

CLASSES = ('brick', 'grass', 'gravel', 'coins')  # photographs, all of them gray
SIDE = 64


def pictures():
    """Return the photographs of the scikit-image package, read without importing it."""
    spec = importlib.util.find_spec('skimage')
    assert spec, 'pip install --no-deps scikit-image, for its photographs'
    folder = pathlib.Path(spec.origin).parent / 'data'
    for name in CLASSES:
        pixels = np.asarray(Image.open(folder / f'{name}.png').convert('L'), 'float32')
        yield torch.from_numpy((pixels - pixels.mean()) / pixels.std())


def crops(count, held_out, generator):
    """Return crops of the left half of each picture, or of the held-out right one."""
    images, labels = [], []
    for label, picture in enumerate(pictures()):
        height, width = picture.shape
        half = width // 2
        picture = picture[:, half:] if held_out else picture[:, :half]
        rows = torch.randint(height - SIDE, (count,), generator=generator)
        columns = torch.randint(half - SIDE, (count,), generator=generator)
        images += [picture[i : i + SIDE, j : j + SIDE] for i, j in zip(rows, columns)]
        labels += [label] * count
    order = torch.randperm(len(labels), generator=generator)
    return torch.stack(images)[order, None], torch.tensor(labels)[order]


def score(model, images, labels):
    model.eval()
    with torch.no_grad():
        return accuracy(model(images), labels)[0].item()


def test_an_epoch_on_real_pictures():
    assert not {'mmengine', 'mmcv', 'skimage'} & set(sys.modules)
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    images, labels = crops(300, False, generator)
    held_out = crops(50, True, generator)
    model = timm.create_model(
        'mamba_adaptor_b0',
        num_classes=len(CLASSES),
        in_chans=1,
        drop_path_rate=0.05,
        scan_init='balanced',
    )
    optimizer = create_optimizer_v2(model, opt='adamw', lr=1e-3, weight_decay=0.05)
    scheduler, _ = create_scheduler_v2(
        optimizer, 'cosine', num_epochs=1, updates_per_epoch=100, step_on_epochs=False
    )
    losses = []
    model.train()
    for step, (x, y) in enumerate(zip(images.split(12), labels.split(12))):
        loss = torch.nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step_update(step + 1)
        losses.append(loss.item())
    first, last = np.mean(losses[:10]), np.mean(losses[-10:])
    assert last < first / 2
    assert score(model, *held_out) > 60  # chance: 25


def test_options_of_timms_training_script():
    torch.manual_seed(0)
    images, labels = crops(4, False, torch.Generator().manual_seed(0))
    model = timm.create_model(
        'mamba_adaptor_b0',
        num_classes=len(CLASSES),
        in_chans=1,
        global_pool='avgmax',
        drop_rate=0.1,
        drop_path_rate=0.1,
        scriptable=False,
    )
    model.set_grad_checkpointing(enable=True)
    average = ModelEmaV3(model, decay=0.5)
    before = average.module.head.fc.weight.clone()
    optimizer = create_optimizer_v2(
        model, opt='adamw', lr=1e-3, weight_decay=0.05, layer_decay=0.7
    )
    mixup = Mixup(0.8, 1.0, num_classes=len(CLASSES), label_smoothing=0.1)
    mixed, targets = mixup(images, labels)
    with torch.autocast('cpu', torch.bfloat16):
        loss = SoftTargetCrossEntropy()(model(mixed), targets)
    loss.backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None]
    optimizer.step()
    average.update(model)
    after = average.module.head.fc.weight
    torch.testing.assert_close(after, (before + model.head.fc.weight) / 2)
