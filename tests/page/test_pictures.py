# SPDX-License-Identifier: Apache-2.0
"""The images that a reader of the page gives it."""

import mmcv
import numpy as np
import pytest
from page.example import HEIGHT, TIMES, WAIT, WIDTH, answer_of, picture
from PIL import Image
from playwright.sync_api import expect


def test_other_files(opened, tmp_path):
    page = opened()
    wrong = tmp_path / 'notes.txt'
    wrong.write_text('no image')
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


def choose(page, path):
    """Give the page a file, and wait for its classes."""
    page.locator('#file').set_input_files(path)
    status = page.locator('#status')
    expect(status).to_contain_text(f'{path.name}: ', timeout=WAIT)
    expect(status).to_contain_text('segmented in')


def pixels_of(page):
    """What the model sees, `(H, W, 3)`."""
    height, width, values = page.evaluate("""() => {
      const { canvas } = globalThis.page;
      const { width, height } = canvas;
      const { data } = canvas.getContext('2d').getImageData(0, 0, width, height);
      return [height, width, Array.from(data)];
    }""")
    return np.array(values).reshape(height, width, 4)[..., :3]


def noise(*shape, largest=255):
    return np.random.default_rng(0).integers(0, largest + 1, (HEIGHT, WIDTH, *shape))


def gray(path):
    values = noise()
    Image.fromarray(values.astype('uint8')).save(path)
    return np.stack([values] * 3, -1)


def sixteen_bits(path):
    values = noise(largest=65535)
    Image.fromarray(values.astype('uint16')).save(path)
    return np.stack([values / 257] * 3, -1)


def transparent(path):
    values = noise(4)
    Image.fromarray(values.astype('uint8')).save(path)
    colors, alpha = values[..., :3], values[..., 3:] / 255
    return alpha * colors + (1 - alpha) * 255


def palette(path):
    values = noise(3) // 128 * 255  # eight colors
    Image.fromarray(values.astype('uint8')).quantize(8).save(path)
    return values


def turned(path):
    """A photo of a phone that was held upright: EXIF says how to turn it."""
    values = np.asarray(Image.open(picture(path, HEIGHT, WIDTH)))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(values).save(path, exif=exif)
    return np.rot90(values, -1)


@pytest.mark.parametrize('write', [gray, sixteen_bits, transparent, palette, turned])
def test_the_model_sees_the_pixels(opened, tmp_path, write):
    """Of every kind of picture; white behind what is transparent."""
    page = opened()
    path = tmp_path / f'{write.__name__}.png'
    expected = write(path)
    choose(page, path)
    got = pixels_of(page)
    assert got.shape == expected.shape
    assert abs(got - expected).max() <= 2


@pytest.mark.parametrize(
    'resize, size, seen',
    [
        ('stretch', [70, 90], (90, 70)),
        ('stretch', [200, 150], (150, 200)),
        ('keep_ratio', [60, 200], (80, 60)),
    ],
)
def test_resized_as_in_the_test_of_the_config(
    opened, made, tmp_path, resize, size, seen
):
    setup = answer_of(made[0], lambda about: about.update(resize=resize, size=size))
    page = opened(setup=setup)
    path = tmp_path / 'noise.png'
    values = noise(3).astype('uint8')
    Image.fromarray(values).save(path)
    choose(page, path)
    expected = mmcv.imresize(values, seen).astype(int)
    got = pixels_of(page)
    assert got.shape == expected.shape
    assert abs(got - expected).max() <= 1


def test_the_last_of_several_pictures(opened, tmp_path):
    page = opened()
    paths = [picture(tmp_path / f'{i}.png', 96, 128 - 8 * i) for i in range(4)]
    choose(page, paths[3])
    alone = page.evaluate('Array.from(globalThis.page.classes)')
    for path in (*paths, paths[3]):
        page.locator('#file').set_input_files(path)
    expect(page.locator('#status')).to_contain_text('3.png: 104', timeout=WAIT)
    assert page.evaluate('Array.from(globalThis.page.classes)') == alone
    page.wait_for_timeout(2000)
    expect(page.locator('#status')).to_contain_text('3.png: 104')
    # A browser tells of no change if the same file is chosen again.
    assert page.locator('#file').input_value() == ''


def test_an_example_that_is_slow_does_not_replace_a_later_picture(opened, tmp_path):
    page = opened()
    held = []
    page.route('**/images/1.png', lambda route: held.append(route))
    page.locator('#examples button').click()
    choose(page, picture(tmp_path / 'mine.png', 96, 120))
    assert len(held) == 1
    held[0].continue_()
    page.wait_for_timeout(2000)
    expect(page.locator('#status')).to_contain_text('mine.png: 120')
    assert page.evaluate('globalThis.page.canvas.width') == 120
