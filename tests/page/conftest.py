# SPDX-License-Identifier: Apache-2.0
"""The page, a server of it and the browser.

`make test-page` runs the tests: they need Playwright and Chromium.
"""

import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from mmengine.config import Config
from page.example import HEIGHT, WAIT, WIDTH, picture, random_model, run_tool
from playwright.sync_api import expect, sync_playwright

from mmadaptor.checkpoints.openmmlab import build_and_load


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
        page.seen = []
        page.on('request', lambda request: page.seen.append(request.url))
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
