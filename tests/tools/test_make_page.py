# SPDX-License-Identifier: Apache-2.0
"""What tools/make_page.py writes and refuses; the page itself is in tests/page."""

import hashlib
import json
import os
import re
import runpy
import sys
import tarfile

import onnx
import pytest
from helpers.jobs import ROOT, refusal
from PIL import Image

METADATA = dict(
    task='segmentation',
    classes=json.dumps(['ground', 'box']),
    memory='[{}]',
    mean='[1.0, 2.0, 3.0]',
    std='[1.0, 1.0, 1.0]',
    channel_order='"rgb"',
)
FILES = {'ort.wasm.bundle.min.mjs', 'ort-wasm-simd-threaded.wasm'}


def model(path, outputs=('classes',), opset=20, domain='', shape=None, **metadata):
    """An ONNX file of identities."""
    types = onnx.TensorProto.FLOAT
    infos = [onnx.helper.make_tensor_value_info(n, types, None) for n in outputs]
    images = onnx.helper.make_tensor_value_info('images', types, shape)
    nodes = [onnx.helper.make_node('Identity', ['images'], [n]) for n in outputs]
    graph = onnx.helper.make_graph(nodes, 'g', [images], infos)
    opsets = [onnx.helper.make_opsetid('', opset)]
    if domain:
        opsets.append(onnx.helper.make_opsetid(domain, 1))
    content = onnx.helper.make_model(graph, opset_imports=opsets)
    for key, value in (METADATA | metadata).items():
        if value is not None:
            content.metadata_props.add(key=key, value=value)
    onnx.save(content, path)
    return path


def runtime(folder, name='onnxruntime-web', version='1.30.0', files=FILES):
    """An unpacked package, without its content."""
    (folder / 'dist').mkdir(parents=True)
    (folder / 'package.json').write_text(json.dumps(dict(name=name, version=version)))
    for file in files:
        (folder / 'dist' / file).write_text(file)
    return folder


@pytest.fixture
def make(monkeypatch):
    def run(*arguments):
        monkeypatch.setattr(sys, 'argv', ['make_page.py', *map(str, arguments)])
        runpy.run_path(str(ROOT / 'tools' / 'make_page.py'), run_name='__main__')

    return run


def test_the_folder(tmp_path, make, capsys):
    shape = ['batch', 3, 'height', 'width']
    known = dict(size='[4, 8]', resize='"keep_ratio"', smallest='65')
    src = model(tmp_path / 'a.onnx', shape=shape, **known)
    Image.new('RGB', (4, 4)).save(tmp_path / 'A b.PNG')
    phone = Image.new('RGB', (4, 4))  # two images in a JPEG
    phone.save(tmp_path / 'a#?', 'MPO', save_all=True, append_images=[phone])
    package = runtime(tmp_path / 'package', version='1.31.0')
    dst = tmp_path / 'new' / 'page'
    images = tmp_path / 'A b.PNG', tmp_path / 'a#?'
    arguments = src, dst, '--runtime', package, '--images', *images
    make(*arguments)
    assert f'python -m http.server --directory {dst}' in capsys.readouterr().out
    written = {str(p.relative_to(dst)) for p in dst.rglob('*') if p.is_file()}
    sources = {'index.html', 'page.css', 'page.js', 'model.js', 'draw.js'}
    others = {'page.json', 'model.onnx', 'images/1.png', 'images/2.jpg'}
    assert written == sources | FILES | others
    assert (dst / 'model.onnx').read_bytes() == src.read_bytes()
    about = json.loads((dst / 'page.json').read_text())
    assert about['size'] == [4, 8] and about['resize'] == 'keep_ratio'
    assert about['smallest'] == 65
    assert about['classes'] == ['ground', 'box'] and about['mean'] == [1, 2, 3]
    assert about['images'] == ['images/1.png', 'images/2.jpg']
    (dst / 'old').touch()
    make(*arguments, '--overwrite')
    assert not (dst / 'old').exists() and (dst / 'page.json').exists()
    assert [*dst.parent.iterdir()] == [dst]


@pytest.mark.parametrize('name', ['.', '../link', 'page/'])
def test_other_names_of_the_folder(tmp_path, make, monkeypatch, name):
    """The page is made again, and what is around it stays."""
    src, package = model(tmp_path / 'a.onnx'), runtime(tmp_path / 'package')
    dst = tmp_path / 'page'
    make(src, dst, '--runtime', package)
    (dst / 'old').touch()
    (tmp_path / 'link').symlink_to('page')
    before = {*tmp_path.iterdir()}
    monkeypatch.chdir(dst if name != 'page/' else tmp_path)
    make(src, name, '--runtime', package, '--overwrite')
    assert not (dst / 'old').exists() and (dst / 'page.json').exists()
    assert {*tmp_path.iterdir()} == before


def test_what_is_refused(tmp_path, monkeypatch):
    """With nothing written."""
    package = runtime(tmp_path / 'package')
    good = model(tmp_path / 'good.onnx')

    def refused(src, *arguments, dst='page', folder=package):
        arguments = src, tmp_path / dst, '--runtime', folder, *arguments
        said = refusal(monkeypatch, 'make_page', *arguments)
        assert not [*tmp_path.glob('page*')]
        return said

    there = tmp_path / 'there'
    there.mkdir()
    assert 'there exists: give another name' in refused(good, dst='there')
    assert 'there exists' in refused(good, '--overwrite', dst='there')
    assert 'missing.onnx: no such file' in refused(tmp_path / 'missing.onnx')
    text = tmp_path / 'text.onnx'
    text.write_text('text')
    assert 'text.onnx is no ONNX file' in refused(text)
    for changes, message in (
        (dict(memory=None), 'has no memory in its metadata: .* --with-memory'),
        (dict(outputs=('logits',)), 'has no output classes: .* --classes'),
        (dict(opset=27), 'operators that browsers lack: .* without --standard'),
        (dict(domain='mmadaptor'), 'operators that browsers lack: .* --custom-ops'),
        (dict(mean='[1.0]'), 'takes 1 channels; images of a page have 3'),
        (dict(shape=['batch', 3, 64, 64]), 'images of one size: .* without --fixed'),
        (dict(memory='[]'), 'has no layer with an Adaptor-T'),
        (dict(classes='ground, box'), 'metadata of another tool: .* --with-memory'),
        (dict(mean='1.0'), 'metadata of another tool: '),
    ):
        said = refused(model(tmp_path / 'bad.onnx', **changes))
        assert re.search(message, said), said
    assert 'a.png: no such file' in refused(good, '--images', tmp_path / 'a.png')
    assert 'text.onnx is no image' in refused(good, '--images', text)
    cut = tmp_path / 'cut.jpg'
    Image.effect_noise((64, 64), 50).save(cut)
    cut.write_bytes(cut.read_bytes()[:-999])
    assert 'cut.jpg is no image: image file is truncated' in refused(
        good, '--images', cut
    )
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 7)
    Image.new('RGB', (4, 4)).save(tmp_path / 'large.png')
    assert 'large.png is no image: Image size (16 pixels) exceeds limit' in refused(
        good, '--images', tmp_path / 'large.png'
    )
    monkeypatch.undo()
    Image.new('RGB', (4, 4)).save(tmp_path / 'a.tif')
    assert 'one of PNG, JPEG, MPO, WEBP, GIF, BMP; got TIFF' in refused(
        good, '--images', tmp_path / 'a.tif'
    )
    assert 'found no package.json of one' in refused(good, folder=there)
    old = runtime(tmp_path / 'old', version='1.22.0')
    assert 'expected onnxruntime-web 1.30.0 or later, got onnxruntime-web 1.22' in (
        refused(good, folder=old)
    )
    other = runtime(tmp_path / 'other', name='onnxruntime-node')
    assert 'got onnxruntime-node 1.30.0' in refused(good, folder=other)
    part = runtime(tmp_path / 'part', files=sorted(FILES)[:1])
    assert 'there is no dist/ort.wasm.bundle.min.mjs' in refused(good, folder=part)


NPM = """#!/bin/sh
{}
"""


@pytest.mark.parametrize(
    'script, message',
    [
        (None, 'npm is needed to fetch onnxruntime-web: install Node.js. Or unpack'),
        (
            'echo "no network" >&2; exit 1',
            '--loglevel=error failed: no network\nOr unp',
        ),
        (
            'echo > onnxruntime-web-1.30.0.tgz',
            'another onnxruntime-web 1.30.0 than is known',
        ),
    ],
)
def test_npm_fails(tmp_path, monkeypatch, script, message):
    folder = tmp_path / 'bin'
    folder.mkdir()
    if script:
        (folder / 'npm').write_text(NPM.format(script))
        os.chmod(folder / 'npm', 0o755)
    monkeypatch.setenv('PATH', str(folder))
    src = model(tmp_path / 'a.onnx')
    assert message in refusal(monkeypatch, 'make_page', src, tmp_path / 'page')
    assert not [*tmp_path.glob('page*')]


def test_the_package_that_npm_fetches_is_unpacked(tmp_path, monkeypatch):
    """By any Python 3.10 or 3.11: before 3.11.4, archives know no filter."""
    with tarfile.open(tmp_path / 'known.tgz', 'w:gz') as archive:
        archive.add(runtime(tmp_path / 'known'), 'package')
    npm = tmp_path / 'npm'
    npm.write_text(NPM.format('cp ../known.tgz onnxruntime-web-1.30.0.tgz'))
    npm.chmod(0o755)
    monkeypatch.setenv('PATH', f'{tmp_path}:{os.environ["PATH"]}')
    extract = tarfile.TarFile.extractall

    def extractall(self, path, filter=None):
        assert filter is None
        extract(self, path)

    monkeypatch.setattr(tarfile.TarFile, 'extractall', extractall)
    page = runpy.run_path(str(ROOT / 'tools' / 'make_page.py'))
    digest = hashlib.sha512((tmp_path / 'known.tgz').read_bytes()).hexdigest()
    monkeypatch.setitem(page['fetch_runtime'].__globals__, 'SHA512', digest)
    fetched = tmp_path / 'fetched'
    fetched.mkdir()
    found = page['check_runtime'](page['fetch_runtime'](fetched))
    assert {file.name for file in found} == FILES
