# SPDX-License-Identifier: Apache-2.0
"""The page of tools/make_page.py in Chromium, compared with torch.

`make test-page` runs these tests: they need Playwright and Chromium.
"""

import json
import re
import runpy
import shutil
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from helpers.jobs import ROOT
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from PIL import Image
from playwright.sync_api import expect, sync_playwright

from mmadaptor.checkpoints.openmmlab import build_and_load
from mmadaptor.export.openmmlab import Exported
from mmadaptor.models.record import record_memory
from mmadaptor.visualization import decay_maps

CONFIG = ROOT / 'configs' / 'upernet_mamba_adaptor_b0_shapes.py'
SMALL = {
    'model.backbone.arch': dict(
        _delete_=True, embed_dims=8, depths=(1, 1), d_state=1, ssm_ratio=2.0
    ),
    'model.backbone.out_indices': (0, 1),
    'model.decode_head.in_index': [0, 1],
    'model.decode_head.in_channels': [8, 16],
    'model.decode_head.channels': 8,
    'model.auxiliary_head': None,
}
HEIGHT, WIDTH = 96, 128
PIXEL = (50, 77)
TIMES = '\N{MULTIPLICATION SIGN}'
WAIT = 30_000  # milliseconds for what takes a run of the model


def run_tool(name, *arguments):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, 'argv', [name, *map(str, arguments)])
        runpy.run_path(str(ROOT / 'tools' / f'{name}.py'), run_name='__main__')


def random_model(folder):
    """Config and checkpoint of a small segmentor with random predictors."""
    cfg = Config.fromfile(CONFIG)
    cfg.merge_from_dict(SMALL)
    config, checkpoint = folder / 'config.py', folder / 'model.pth'
    cfg.dump(config)
    torch.manual_seed(0)
    init_default_scope('mmseg')
    model = MODELS.build(cfg.model)
    for path, parameter in model.named_parameters():
        if 'temporal' in path and path.endswith('weight'):
            torch.nn.init.normal_(parameter, std=1.0)
        if path.endswith(('gamma', 'alpha')):
            torch.nn.init.constant_(parameter, 0.3)
    meta = dict(dataset_meta=dict(cfg.metainfo), cfg=cfg.pretty_text)
    torch.save(dict(state_dict=model.state_dict(), meta=meta), checkpoint)
    return config, checkpoint


def picture(path, height, width):
    """Blobs of color, so that there are several classes."""
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3), 'uint8')
    Image.fromarray(pixels).resize((width, height), Image.BICUBIC).save(path)
    return path


@pytest.fixture(scope='session')
def made(tmp_path_factory):
    """The folder of the page, and model and picture that it was made from."""
    folder = tmp_path_factory.mktemp('page')
    config, checkpoint = random_model(folder)
    onnx = folder / 'model.onnx'
    run_tool('export', config, checkpoint, onnx, '--classes', '--with-memory')
    example = picture(folder / 'example.png', HEIGHT, WIDTH)
    site = folder / 'site'
    run_tool('make_page', onnx, site, '--images', example)  # the runtime by npm
    model = build_and_load(Config.fromfile(config), str(checkpoint)).eval()
    return site, model, example


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope='session')
def address(made):
    with ThreadingHTTPServer(
        ('127.0.0.1', 0), partial(Quiet, directory=made[0])
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f'http://127.0.0.1:{server.server_address[1]}/'
        server.shutdown()


@pytest.fixture(scope='session')
def browser():
    with sync_playwright() as playwright:
        path = shutil.which('chromium')
        yield playwright.chromium.launch(executable_path=path, args=['--no-sandbox'])


@pytest.fixture
def opened(browser, address):
    """Opens the page; what it writes to the console is an error, unless expected."""
    written, contexts = [], []

    def open_page(width=1280, height=900, wait=True, setup=None, **options):
        context = browser.new_context(
            viewport=dict(width=width, height=height), **options
        )
        contexts.append(context)
        page = context.new_page()
        page.on('console', lambda message: written.append(message.text))
        page.on('pageerror', lambda error: written.append(str(error)))
        page.on('request', lambda request: requests_of(page).append(request.url))
        if setup:
            setup(page)
        page.goto(address)
        if wait:
            expect(page.locator('#status')).to_contain_text(
                'segmented in', timeout=WAIT
            )
        return page

    open_page.written = written
    yield open_page
    for context in contexts:
        context.close()
    assert not written


def requests_of(page):
    page.seen = getattr(page, 'seen', [])
    return page.seen


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
    assert all(url.startswith(ours) for url in requests_of(page)), requests_of(page)


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


def test_other_files(opened, tmp_path):
    page = opened()
    wrong = tmp_path / 'notes.txt'
    wrong.write_text('no picture')
    page.locator('#file').set_input_files(wrong)
    sentence = 'notes.txt is not an image that this browser can read.'
    expect(page.locator('#status')).to_have_text(sentence)
    expect(page.locator('#status')).to_have_class('error')
    page.locator('#file').set_input_files(picture(tmp_path / 'thin.png', 20, 400))
    expect(page.locator('#status')).to_have_text(
        f'thin.png has 400 {TIMES} 20 pixels, 128 {TIMES} 6 for the model, which needs 33 '
        'or more on both sides.'
    )
    page.locator('#file').set_input_files(picture(tmp_path / 'large.png', 300, 200))
    expect(page.locator('#status')).to_contain_text(
        f'large.png: resized from 200 {TIMES} 300 to 85 {TIMES} 128 pixels',
        timeout=WAIT,
    )
    assert page.evaluate('globalThis.page.classes.length') == 85 * 128
    box = page.locator('#view').bounding_box()  # a tall one, fits the window
    assert box['width'] / box['height'] == pytest.approx(85 / 128, rel=0.01)
    assert box['height'] <= 900


def answer_of(site, change):
    """A page.json that is changed on its way to the browser."""
    about = json.loads((site / 'page.json').read_text())
    change(about)
    return lambda page: page.route(
        '**/page.json', lambda route: route.fulfill(json=about)
    )


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
