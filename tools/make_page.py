# SPDX-License-Identifier: Apache-2.0
"""Make a web page that runs a segmentor and shows where its Adaptor-T looks.

MODEL comes from `tools/export.py CONFIG CHECKPOINT MODEL --classes --with-memory`.
DST becomes a folder of static files for any web server. The model runs in the browser:
images stay on the device that opens the page.
"""

import argparse
import hashlib
import json
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

import mmadaptor.export
from mmadaptor.arguments import filled, parser_of
from mmadaptor.engine.command_line import run
from mmadaptor.environment import numbers
from mmadaptor.errors import InputError
from mmadaptor.export.onnx import require

PAGE = Path(mmadaptor.export.__file__).parent / 'page'
PACKAGE, VERSION = 'onnxruntime-web', '1.30.0'
SHA512 = (
    'ab4cbe26baedba45d2cec05610c71c55fa97db92d19a8b171c5f8269126683ca'
    '590a5cdc57bb2f35ce2b298de32f4d956fb42644c0ecd528a0a91e025c07ca61'
)
RUNTIME = ('ort.wasm.bundle.min.mjs', 'ort-wasm-simd-threaded.wasm')
"""The smallest build with LinearAttention: CPU kernels alone."""
HOW = '--classes --with-memory'
NEEDED = ('classes', 'memory', 'mean', 'std', 'channel_order')
KNOWN = (*NEEDED, 'palette', 'size', 'resize', 'smallest')
DOMAINS = ('', 'ai.onnx.ml', 'com.microsoft')
OPSET = 26  # the newest of that runtime
FORMATS = dict(PNG='png', JPEG='jpg', MPO='jpg', WEBP='webp', GIF='gif', BMP='bmp')
"""Images that every browser reads, and how their names end. Phones write MPO."""
SECONDS = 600
EXAMPLE = r"""python tools/make_page.py model.onnx page \
      --images trained/scene_11.png"""


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = parser_of(__doc__, EXAMPLE)
    parser.add_argument(
        'model',
        type=filled,
        metavar='MODEL',
        help=f'segmentor exported with {HOW}, an .onnx file',
    )
    parser.add_argument('dst', type=filled, metavar='DST', help='folder to write')
    parser.add_argument(
        '--images',
        type=filled,
        nargs='+',
        default=[],
        metavar='FILE',
        help='example images to choose from on the page (default: none)',
    )
    parser.add_argument(
        '--runtime',
        type=filled,
        metavar='FOLDER',
        help=f'unpacked npm package {PACKAGE} {VERSION} or later (default: fetched '
        'by npm)',
    )
    parser.add_argument(
        '--overwrite', action='store_true', help='replace DST if it is such a page'
    )
    return parser.parse_args()


def describe(path: Path) -> dict[str, Any]:
    """Return what the page has to know of a model: its metadata.

    Raises:
        InputError: The file is no ONNX file, has no classes or memory, or has operators
            that browsers lack.
    """
    require(['onnx'])
    import onnx

    if not path.is_file():
        raise InputError(f'{path}: no such file.')
    try:
        model = onnx.load(path)
    except Exception as error:
        raise InputError(f'{path} is no ONNX file: {error}') from error
    texts = {entry.key: entry.value for entry in model.metadata_props}
    outputs = {output.name for output in model.graph.output}
    missing = [name for name in NEEDED if name not in texts]
    if missing or 'classes' not in outputs:
        what = f'{", ".join(missing)} in its metadata' if missing else 'output classes'
        raise InputError(
            f'{path} has no {what}: expected a segmentor exported by '
            f'tools/export.py with {HOW}.'
        )
    opsets = {opset.domain: opset.version for opset in model.opset_import}
    if {*opsets} - {*DOMAINS} or opsets.get('', 0) > OPSET:
        raise InputError(
            f'{path} has operators that browsers lack: export it without --standard '
            'and without --custom-ops.'
        )
    sides = model.graph.input[0].type.tensor_type.shape.dim[2:]
    if any(side.HasField('dim_value') for side in sides):
        raise InputError(f'{path} takes images of one size: export it without --fixed.')
    try:
        about = {name: json.loads(texts[name]) for name in KNOWN if name in texts}
        channels, layers = len(about['mean']), len(about['memory'])
    except (ValueError, TypeError) as error:
        raise InputError(
            f'{path} has metadata of another tool: expected a segmentor exported by '
            f'tools/export.py with {HOW}.'
        ) from error
    if not layers:
        raise InputError(f'{path} has no layer with an Adaptor-T.')
    if channels != 3:
        raise InputError(f'{path} takes {channels} channels; images of a page have 3.')
    return about


def check_images(paths: list[str]) -> dict[str, Path]:
    """Check the example images.

    Returns:
        The images by their names on the page.

    Raises:
        InputError: A file is missing, or is no image that browsers read.
    """
    found = {}
    for i, path in enumerate(paths, start=1):
        try:
            with Image.open(path) as image:
                kind = image.format
                image.load()  # all of it; a file may be cut off
        except FileNotFoundError as error:
            raise InputError(f'{path}: no such file.') from error
        except Exception as error:  # each decoder has its own
            raise InputError(f'{path} is no image: {error}') from error
        if kind not in FORMATS:
            raise InputError(
                f'{path}: expected an image that browsers read, one of '
                f'{", ".join(FORMATS)}; got {kind}.'
            )
        found[f'images/{i}.{FORMATS[kind]}'] = Path(path)
    return found


def check_runtime(folder: Path) -> list[Path]:
    """Return the files of an unpacked package that the page needs.

    Raises:
        InputError: It is another package, too old, or incomplete.
    """
    try:
        package = json.loads((folder / 'package.json').read_text())
        name, version = package['name'], package['version']
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f'--runtime {folder}: expected the unpacked npm package {PACKAGE}, found '
            'no package.json of one.'
        ) from error
    if name != PACKAGE or numbers(version) < numbers(VERSION):
        raise InputError(
            f'--runtime {folder}: expected {PACKAGE} {VERSION} or later, '
            f'got {name} {version}.'
        )
    files = [folder / 'dist' / file for file in RUNTIME]
    for file in files:
        if not file.is_file():
            raise InputError(f'--runtime {folder}: there is no dist/{file.name}.')
    return files


def fetch_runtime(folder: Path) -> Path:
    """Fetch the package by npm.

    Args:
        folder: Where it is unpacked.

    Returns:
        The folder of the package.

    Raises:
        InputError: npm is missing or fails, or the package is not the known one.
    """
    command = ['npm', 'pack', f'{PACKAGE}@{VERSION}', '--loglevel=error']
    otherwise = f'Or unpack {PACKAGE} {VERSION} yourself and name it by --runtime.'
    try:
        subprocess.run(
            command,
            cwd=folder,
            check=True,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
    except FileNotFoundError as error:
        text = f'npm is needed to fetch {PACKAGE}: install Node.js. {otherwise}'
        raise InputError(text) from error
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        said = (error.stderr or '').strip() or str(error)
        raise InputError(
            f'{" ".join(command)} failed: {said[:300]}\n{otherwise}'
        ) from error
    archive = folder / f'{PACKAGE}-{VERSION}.tgz'
    if hashlib.sha512(archive.read_bytes()).hexdigest() != SHA512:
        raise InputError(f'npm fetched another {PACKAGE} {VERSION} than is known.')
    shutil.unpack_archive(archive, folder)
    return folder / 'package'


def write(
    folder: Path,
    model: Path,
    about: dict[str, Any],
    runtime: list[Path],
    images: dict[str, Path],
) -> None:
    """Write the files of the page.

    Args:
        folder: An empty folder.
        model: The ONNX file.
        about: Its metadata.
        runtime: Files of the runtime.
        images: Example images by their names in the folder.
    """
    for file in (*PAGE.iterdir(), *runtime):
        shutil.copyfile(file, folder / file.name)
    shutil.copyfile(model, folder / 'model.onnx')
    (folder / 'images').mkdir()
    for name, image in images.items():
        shutil.copyfile(image, folder / name)
    about |= dict(model='model.onnx', runtime=list(RUNTIME), images=list(images))
    (folder / 'page.json').write_text(json.dumps(about))


def main() -> None:
    """Check everything, then write the folder."""
    args = parse_args()
    dst = Path(args.dst).resolve()  # '.' has no name
    if dst.exists() and not (args.overwrite and (dst / 'page.json').is_file()):
        raise InputError(
            f'{dst} exists: give another name, or --overwrite if it is such a page.'
        )
    model = Path(args.model)
    about, images = describe(model), check_images(args.images)
    dst.parent.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as fetched,
        tempfile.TemporaryDirectory(dir=dst.parent, prefix=f'{dst.name}.') as part,
    ):
        found = Path(args.runtime) if args.runtime else fetch_runtime(Path(fetched))
        page = Path(part, 'page')
        page.mkdir()
        write(page, model, about, check_runtime(found), images)
        if dst.exists():
            dst.rename(Path(part, 'old'))
        page.rename(dst)
    size = sum(file.stat().st_size for file in dst.rglob('*') if file.is_file())
    print(f'{args.dst}: {size / 1e6:.0f} MB. To see it:')
    folder = shlex.quote(args.dst)
    print(f'python -m http.server --directory {folder} --bind 127.0.0.1 8000')
    print('and open http://localhost:8000')


if __name__ == '__main__':
    run(main)
