# SPDX-License-Identifier: Apache-2.0
"""The documentation in Chromium, without a network: `make test-docs` runs these tests.

They leave a screenshot of each page in build/screenshots.
"""

import importlib
import re
import shutil
import threading
import zlib
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from helpers.jobs import ROOT
from playwright.sync_api import expect, sync_playwright

SITE = ROOT / 'build' / 'site'
PAGES = sorted(
    str(path.relative_to(SITE))
    for path in SITE.rglob('*.html')
    if '_modules' not in path.parts
)
TRY, MEMORY = 'try.html', 'memory/index.html'  # the second is within the first
WIDTHS = dict(desktop=1280, phone=390)
# Elements that stick out of the window, and are not inside one that scrolls.
TOO_WIDE = """() => [...document.querySelectorAll('article *')].filter(element => {
  if (element.getBoundingClientRect().right <= innerWidth + 1) return false;
  for (let e = element; e; e = e.parentElement)
    if (['auto', 'scroll', 'hidden'].includes(getComputedStyle(e).overflowX)) return false;
  return element.checkVisibility();
}).map(element => element.outerHTML.slice(0, 200))"""
WAIT = 60_000  # milliseconds
PACKAGES = (
    'mmadaptor.ops',
    'mmadaptor.models',
    'mmadaptor.models.layers',
    'mmadaptor.engine',
    'mmadaptor.datasets',
    'mmadaptor.visualization',
)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope='module')
def address():
    with ThreadingHTTPServer(
        ('127.0.0.1', 0), partial(Quiet, directory=SITE)
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f'http://127.0.0.1:{server.server_address[1]}'
        server.shutdown()


@pytest.fixture(scope='module', params=WIDTHS)
def context(request):
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which('chromium'), args=['--no-sandbox']
        )
        size = dict(width=WIDTHS[request.param], height=900)
        yield browser.new_context(viewport=size)
        browser.close()


def wait_for_the_segmentor(page):
    expect(page.locator('#status')).to_contain_text('segmented in', timeout=WAIT)
    expect(page.locator('#legend')).to_contain_text('disc_on')


@pytest.mark.parametrize('name', PAGES)
def test_page(name, context, address):
    """No errors, no request to another host, nothing sticks out."""
    page, problems = context.new_page(), []
    page.on(
        'console', lambda m: m.type in ('error', 'warning') and problems.append(m.text)
    )
    page.on('pageerror', lambda error: problems.append(str(error)))
    # Chromium counts what follows the headers of a HEAD request as aborted.
    page.on('requestfailed', lambda r: r.method != 'HEAD' and problems.append(r.url))
    ours = (address, 'blob:', 'data:')
    page.on('request', lambda r: r.url.startswith(ours) or problems.append(r.url))
    answer = page.goto(f'{address}/{name}', wait_until='load')
    assert answer.status == 200
    if name == TRY:
        wait_for_the_segmentor(page.frame_locator('iframe'))
    elif name == MEMORY:
        wait_for_the_segmentor(page)
    problems += page.evaluate(TOO_WIDE)
    width = page.evaluate('document.documentElement.scrollWidth')
    across = page.viewport_size['width']
    shot = SITE.parent / 'screenshots' / str(across) / f'{name}.png'
    page.screenshot(path=shot, full_page=True)
    assert width <= across, f'{width} px wide'
    page.close()
    assert not problems


def test_an_argument_is_found_by_search(context, address):
    page = context.new_page()
    page.goto(f'{address}/search.html?q=drop_path_rate')
    page.locator('#search-results li').first.wait_for()
    texts = page.locator('#search-results').inner_text()
    page.close()
    assert 'Backbones' in texts and 'mmadaptor.models' in texts


def documented():
    """Names in the inventory of the API reference."""
    content = (SITE / 'objects.inv').read_bytes()
    head = content.index(b'zlib.\n') + len(b'zlib.\n')
    return {
        line.split(' ')[0]
        for line in zlib.decompress(content[head:]).decode().split('\n')
    }


@pytest.mark.parametrize('package', PACKAGES)
def test_every_public_name_is_in_the_reference(package):
    names = {f'{package}.{name}' for name in importlib.import_module(package).__all__}
    assert names <= documented()


def test_every_page_is_in_the_contents():
    index = (SITE / 'index.html').read_text()
    pages = {
        name
        for name in PAGES
        if name not in ('genindex.html', 'search.html', 'py-modindex.html', MEMORY)
    }
    assert pages <= set(re.findall(r'href="([^"#]+)"', index)) | {'index.html'}
