# SPDX-License-Identifier: Apache-2.0
"""Photograph the page of the trained segmentor in Chromium.

After `make docs test-docs`: `PYTHONPATH=build/page python docs/gallery/page.py`.
"""

import io
import shutil
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

from PIL import Image
from playwright.sync_api import expect, sync_playwright
from style import ROOT

FOLDER = ROOT / 'build' / 'memory' / 'memory'
SIZE = dict(width=1200, height=1230)
PIXEL = (0.365, 0.63)  # the lit disc: its column and row, as a fraction of the image
WAIT = 60_000  # milliseconds


class Quiet(SimpleHTTPRequestHandler):
    """A server that writes no log."""

    def log_message(self, *_: object) -> None:
        """Write nothing."""


def main() -> None:
    """Write `docs/page.webp` and, with the heat map, `docs/page_heat.webp`."""
    with (
        ThreadingHTTPServer(
            ('127.0.0.1', 0), partial(Quiet, directory=FOLDER)
        ) as server,
        sync_playwright() as playwright,
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser = playwright.chromium.launch(
            executable_path=shutil.which('chromium'), args=['--no-sandbox']
        )
        page = browser.new_page(viewport=SIZE)
        page.goto(f'http://127.0.0.1:{server.server_address[1]}/')
        expect(page.locator('#status')).to_contain_text('segmented in', timeout=WAIT)
        page.locator('#layer').select_option(index=1)
        box = page.locator('#view').bounding_box()
        across, down = PIXEL
        page.mouse.click(
            box['x'] + across * box['width'], box['y'] + down * box['height']
        )
        for name in ('page', 'page_heat'):
            path = ROOT / 'docs' / f'{name}.webp'
            picture = Image.open(io.BytesIO(page.screenshot()))
            picture.convert('RGB').save(path, quality=90, method=6)
            sys.stdout.write(f'{path.relative_to(ROOT)}\n')
            page.locator('#heat').check()
        browser.close()
        server.shutdown()


if __name__ == '__main__':
    main()
