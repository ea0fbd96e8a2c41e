# SPDX-License-Identifier: Apache-2.0
"""The page of tools/make_page.py in Chromium, compared with torch."""

import json
import re

import numpy as np
import pytest
import torch
from page.example import HEIGHT, TIMES, WAIT, WIDTH, answer_of
from PIL import Image
from playwright.sync_api import expect

from mmadaptor.export.openmmlab import Exported
from mmadaptor.models.record import record_memory
from mmadaptor.visualization import decay_maps

PIXEL = (50, 77)


def expected(made):
    """What torch computes for the example: classes, and the record of each layer."""
    _, model, example = made
    pixels = np.asarray(Image.open(example))[..., ::-1].copy()
    inputs = torch.from_numpy(pixels).permute(2, 0, 1)
    images = model.data_preprocessor(dict(inputs=[inputs]))['inputs']
    with torch.no_grad():
        classes, *_ = Exported(model, 'segmentation', classes=True)(images)
    return classes[0].numpy(), [*record_memory(model.backbone, images).values()]


def middle_of(page, row, column):
    """The middle of a pixel of the picture, in the window."""
    box = page.locator('#view').bounding_box()
    scale = box['width'] / WIDTH
    return box['x'] + (column + 0.5) * scale, box['y'] + (row + 0.5) * scale


@pytest.mark.parametrize('width, scheme', [(1280, 'light'), (360, 'dark')])
def test_it_loads(opened, address, width, scheme):
    page = opened(width, color_scheme=scheme)
    overflow = (
        'document.documentElement.scrollWidth - document.documentElement.clientWidth'
    )
    assert page.evaluate(overflow) == 0
    box = page.locator('#view').bounding_box()
    assert 300 < box['width'] <= width
    assert box['width'] / box['height'] == pytest.approx(WIDTH / HEIGHT, rel=0.01)
    status = page.locator('#status').inner_text()
    assert re.fullmatch(
        rf'1\.png: 128 {TIMES} 96 pixels, normalized, and segmented in \d+\.\d\d s\.',
        status,
    )
    ours = (address, 'blob:', 'data:')
    assert all(url.startswith(ours) for url in page.seen), page.seen


def test_classes_are_those_of_torch(opened, made):
    page = opened()
    found = np.array(page.evaluate('Array.from(globalThis.page.classes)'))
    classes, _ = expected(made)
    assert len(np.unique(classes)) > 1
    assert (found.reshape(HEIGHT, WIDTH) == classes).mean() >= 0.999
    names = json.loads((made[0] / 'page.json').read_text())['classes']
    shares = {names[i]: (classes == i).mean() for i in np.unique(classes)}
    for entry in page.locator('#legend button').all():
        name, share = (
            entry.locator('span').inner_text(),
            entry.locator('b').inner_text(),
        )
        assert float(share.strip(' %<')) == pytest.approx(
            100 * shares.pop(name), abs=0.2
        )
    assert not shares


def test_the_memory_of_a_pixel_is_that_of_torch(opened, made):
    page = opened()
    page.mouse.click(*middle_of(page, *PIXEL))
    assert tuple(page.evaluate('globalThis.page.pixel')) == PIXEL
    _, records = expected(made)
    strides = [
        layer['stride']
        for layer in json.loads((made[0] / 'page.json').read_text())['memory']
    ]
    assert len(records) == len(strides) == 2
    for i, (record, stride) in enumerate(zip(records, strides)):
        page.locator('#layer').select_option(str(i))
        token = tuple(page.evaluate('globalThis.page.token'))
        size = record.locations.shape[1:3]
        assert token == tuple(
            min(round(x / stride + 1e-9), n - 1) for x, n in zip(PIXEL, size)
        )
        weights = record.weights[(0, *token)]  # (K, S, P)
        assert weights.std() > 0.05
        places = record.locations[(0, *token)] * stride
        order = weights.flatten().argsort(descending=True)
        rows = page.locator('#places tr').all()
        assert len(rows) == weights.numel() == 32
        told = [[cell.inner_text() for cell in row.locator('td').all()] for row in rows]
        numbers = torch.tensor([[float(text) for text in line[1:4]] for line in told])
        torch.testing.assert_close(
            numbers[:, 2], weights.flatten()[order], rtol=0, atol=1e-3
        )
        torch.testing.assert_close(
            numbers[:, :2], places.flatten(0, 2)[order], rtol=0, atol=0.1
        )
        assert told[0][0] == f'{"→↓←↑"[order[0] // 8]} {order[0] // 4 % 2 + 1}'
        kept = torch.tensor(
            page.evaluate('globalThis.page.kept.map((map) => Array.from(map))')
        )
        maps = decay_maps(record, token)
        torch.testing.assert_close(kept.reshape(maps.shape), maps, rtol=1e-3, atol=1e-4)


def pressed(page, key, until, times=40):
    for _ in range(times):
        page.keyboard.press(key)
        if (
            page.evaluate('document.activeElement.id || document.activeElement.name')
            == until
        ):
            return
    raise AssertionError(f'{until} is not reached')


def test_it_works_by_keyboard_alone(opened):
    page = opened()
    row, column = page.evaluate('globalThis.page.pixel')
    pressed(page, 'Tab', 'view')
    assert (
        page.locator('#view').evaluate('e => getComputedStyle(e).outlineStyle')
        == 'solid'
    )
    page.keyboard.press('ArrowRight')
    page.keyboard.press('Shift+ArrowUp')
    page.keyboard.press('Shift+ArrowUp')
    moved = [max(row - 8, 0), min(column + 1, WIDTH - 1)]
    assert page.evaluate('globalThis.page.pixel') == moved
    page.keyboard.press('Control+ArrowLeft')  # not ours, as Alt is the browser's
    assert page.evaluate('globalThis.page.pixel') == moved
    expect(page.locator('#spoken')).to_contain_text(
        f'Row {moved[0]}, column {moved[1]}: '
    )
    assert page.locator('#spoken').get_attribute('aria-live') == 'polite'
    pressed(page, 'Tab', 'layer')
    page.keyboard.press('ArrowDown')
    expect(page.locator('#spoken')).to_contain_text('In stages.1.0, it looks most ')
    pressed(page, 'Tab', 'directions')
    page.keyboard.press('ArrowRight')
    expect(page.locator('#places tr')).to_have_count(8)
    pressed(page, 'Tab', 'groups')
    page.keyboard.press('ArrowRight')
    expect(page.locator('#places tr')).to_have_count(4)
    assert {*page.locator('#places td:first-child').all_inner_texts()} == {'→ 1'}
    before = page.locator('#view').screenshot()
    pressed(page, 'Tab', 'heat')
    page.keyboard.press('Space')
    expect(page.locator('#scale')).to_be_visible()
    assert page.locator('#view').screenshot() != before


def test_pointing_and_a_kept_pixel(opened):
    page = opened()

    def after(act, row, column):
        act(*middle_of(page, row, column))
        return page.evaluate('globalThis.page.pixel')

    assert after(page.mouse.move, 24, 32) == [24, 32]
    assert after(page.mouse.click, 48, 96) == [48, 96]
    assert after(page.mouse.move, 10, 20) == [48, 96]
    page.locator('#view').press('Escape')
    assert after(page.mouse.move, 24, 32) == [24, 32]


def test_one_class_alone_and_opacity(opened):
    page = opened()
    before = page.locator('#view').screenshot()
    entry = page.locator('#legend button').first
    entry.click()
    assert entry.get_attribute('aria-pressed') == 'true'
    alone = page.locator('#view').screenshot()
    page.locator('#opacity').fill('0')
    bare = page.locator('#view').screenshot()
    assert len({before, alone, bare}) == 3


def test_a_model_that_lacks_an_output(opened, made):
    setup = answer_of(made[0], lambda about: about['memory'][0].update(places='other'))
    page = opened(wait=False, setup=setup)
    sentence = 'model.onnx has no output other: export it with --classes --with-memory.'
    expect(page.locator('#status')).to_have_text(sentence, timeout=WAIT)


@pytest.mark.parametrize(
    'name', ['ort-wasm-simd-threaded.wasm', 'model.onnx', 'page.json']
)
def test_a_missing_file(opened, name):
    page = opened(
        wait=False,
        setup=lambda page: page.route(f'**/{name}', lambda r: r.fulfill(status=404)),
    )
    sentence = f'{name} is missing beside this page: make it again.'
    expect(page.locator('#status')).to_have_text(sentence, timeout=WAIT)
    assert all('404' in text for text in opened.written)  # by the browser itself
    opened.written.clear()


def test_without_a_server(browser, made):
    page = browser.new_page()
    page.goto(f'file://{made[0]}/index.html')
    expect(page.locator('#status')).to_contain_text('python -m http.server')
    page.close()
