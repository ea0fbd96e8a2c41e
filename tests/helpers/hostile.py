# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that plant code, lie about sizes, or are no checkpoints."""

import argparse
import functools
import io
import os
import pathlib
import pickle
import struct
import tarfile
import zipfile
from collections import OrderedDict
from types import SimpleNamespace

import numpy as np
import torch
from mmengine.logging.history_buffer import HistoryBuffer


class Call:
    """Calls a function when it is unpickled, and then builds on the result."""

    def __init__(self, function, *arguments, state=None):
        self.parts = (function, arguments, *([state] if state is not None else []))

    def __reduce__(self):
        return self.parts


BASE = dict(
    meta=dict(epoch=1, iter=2, seed=3),
    state_dict=OrderedDict(weight=torch.ones(2)),
    message_hub=dict(log_scalars={}, runtime_info={}, resumed_keys={}),
    optimizer=dict(state={}, param_groups=[]),
    param_schedulers=[],
)


def whole(x=None, **changes):
    """Returns the content of a checkpoint of a training, with something planted."""
    return {**BASE, **changes, **({} if x is None else dict(x=x))}


# Opcodes of pickle's protocol 2, for what Python's own pickler does not write.
def name(module, attribute):
    return f'c{module}\n{attribute}\n'.encode()


def text(value):
    data = value.encode()
    return b'X' + struct.pack('<I', len(data)) + data


def number(value):
    size = (value.bit_length() + 8) // 8
    return b'\x8a' + bytes([size]) + value.to_bytes(size, 'little', signed=True)


def items(*parts):
    return b'(' + b''.join(parts) + b't'


def mapping(**values):
    return b'}' + b''.join(text(k) + v + b's' for k, v in values.items())


def call(function, *arguments):
    return function + items(*arguments) + b'R'


def code(*parts):
    """A pickle of a checkpoint that has these opcodes' object as `x`."""
    start = pickle.dumps(whole(state_dict={}), 2)[:-1]
    return start + text('x') + b''.join(parts) + b's.'


def storage(key='0', kind='FloatStorage', size=4):
    return (
        items(
            text('storage'), name('torch', kind), text(key), text('cpu'), number(size)
        )
        + b'Q'
    )


def tensor(saved, size=4, stride=1, offset=0, hooks=b'}'):
    return call(
        name('torch._utils', '_rebuild_tensor_v2'),
        saved,
        number(offset),
        items(number(size)),
        items(number(stride)),
        b'\x89',
        hooks,
    )


def archive(pickled, data=bytes(16), method=zipfile.ZIP_STORED, repeated=False):
    """A zip file such as torch's, around any pickle."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w', method) as file:
        file.writestr('archive/data.pkl', pickled)
        file.writestr('archive/byteorder', 'little')
        file.writestr('archive/data/0', data)
        file.writestr('archive/version', '3\n')
        if repeated:
            file.writestr('archive/data.pkl', pickled)
    return buffer.getvalue()


def saved(content, **settings):
    buffer = io.BytesIO()
    torch.save(content, buffer, **settings)
    return buffer.getvalue()


def tar(content):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode='w') as file:
        for member in ('storages', 'tensors', 'pickle', 'sys_info'):
            info = tarfile.TarInfo(member)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def doubling(index):
    """A pair that holds the value before twice, by the memo."""
    slot = bytes([0x70 + index])
    return b'q' + slot + b'h' + slot + b'\x86'


DOUBLED = b'N' + b''.join(doubling(i) for i in range(60))
MKDIR = name('os', 'mkdir')
NODE = name('yacs.config', 'CfgNode')
HISTORY = name('mmengine.logging.history_buffer', 'HistoryBuffer')
GETATTR = name('builtins', 'getattr')
NAMESPACE = name('argparse', 'Namespace') + b')\x81'
DTYPE_OF_OBJECTS = call(name('numpy', 'dtype'), text('O8'), b'\x89', b'\x88')
DTYPE_OF_BYTES = call(name('numpy', 'dtype'), text('u1'), b'\x89', b'\x88')
RECONSTRUCT = call(
    name('numpy.core.multiarray', '_reconstruct'),
    name('numpy', 'ndarray'),
    items(number(0)),
    text('b'),
)
EIGHT = call(name('_codecs', 'encode'), text('AAAAAAAA'), text('latin1'))
ATTRIBUTE = call(GETATTR, HISTORY, text('__init__'))
EVAL = call(GETATTR, call(GETATTR, GETATTR, text('__self__')), text('eval'))
GLOBALS = call(GETATTR, ATTRIBUTE, text('__globals__'))


def planted(mark):
    """Returns files that make the folder `mark` if their code runs, by name."""
    path = str(mark)
    run = Call(os.mkdir, path)
    python = f"__import__('os').mkdir({path!r})"
    history = HistoryBuffer([1.0], [1])
    twice = mapping(
        __setstate__=call(GETATTR, name('builtins', 'eval'), text('__call__'))
    )
    objects = np.empty(1, object)
    objects[0] = run
    return dict(
        reduce=saved(whole(run)),
        in_weights=saved(whole(state_dict=dict(weight=run))),
        in_meta=saved(whole(meta=dict(epoch=1, iter=2, x=run))),
        in_optimizer=saved(whole(optimizer=run)),
        evaluated=saved(whole(Call(eval, python))),
        executed=saved(whole(Call(exec, python))),
        partial=saved(whole(Call(functools.partial(os.mkdir, path)))),
        attribute_getter=archive(
            code(call(call(name('operator', 'attrgetter'), text('mkdir')), MKDIR))
        ),
        method_caller=archive(
            code(call(call(name('operator', 'methodcaller'), text(path)), MKDIR))
        ),
        object_array=saved(whole(objects)),
        nested_load=saved(
            whole(Call(torch.storage._load_from_bytes, pickle.dumps(run)))
        ),
        torch_load=archive(code(call(name('torch.serialization', 'load'), text(path)))),
        config_text=archive(
            code(call(name('mmengine.config', 'Config.fromstring'), text(python)))
        ),
        node_holds_code=archive(
            code(NODE, b')\x81', text('a'), call(MKDIR, text(path)), b's')
        ),
        node_of_code=archive(code(call(NODE, call(MKDIR, text(path))))),
        node_of_items=archive(code(call(NODE, mapping(a=text('b'))))),
        node_is_built=archive(
            code(NODE, b')\x81', mapping(__setstate__=MKDIR), b'b', text(path), b'b')
        ),
        node_reads_code=archive(
            code(call(name('yacs.config', 'CfgNode.load_cfg'), text(python)))
        ),
        executed_config=saved(
            whole(meta=dict(epoch=1, iter=2, seed=3, config=python, cfg=python))
        ),
        statistics=saved(
            whole(
                message_hub=dict(
                    log_scalars=dict(loss=history),
                    x=Call(
                        HistoryBuffer, state=dict(statistics_methods=dict(mean=run))
                    ),
                )
            )
        ),
        set_state_twice=archive(
            code(NAMESPACE, mapping(__setstate__=MKDIR), b'b', text(path), b'b')
        ),
        set_state_by_getattr=archive(code(NAMESPACE, twice, b'b', text(python), b'b')),
        # Runs with mmengine's list of allowed objects.
        eval_of_getattrs_module=archive(
            code(NAMESPACE, mapping(__setstate__=EVAL), b'b', text(python), b'b')
        ),
        getattr_globals=archive(code(GLOBALS)),
        getattr_called=archive(
            code(call(call(GETATTR, GLOBALS, text('get')), text('__builtins__')))
        ),
        set_state_of_history=archive(
            code(HISTORY + b')\x81', mapping(__setstate__=GETATTR), b'b', EIGHT, b'b')
        ),
        tensor_hooks=archive(code(tensor(storage(), hooks=mapping(x=MKDIR)))),
        parameter_hooks=archive(
            code(
                call(
                    name('torch._utils', '_rebuild_parameter'),
                    tensor(storage()),
                    b'\x88',
                    mapping(x=MKDIR),
                )
            )
        ),
        from_type=archive(
            code(
                call(
                    name('torch._tensor', '_rebuild_from_type_v2'),
                    MKDIR,
                    name('torch', 'Tensor'),
                    items(text(path)),
                    b'}',
                )
            )
        ),
        set_state_of_tensor=archive(
            code(
                call(
                    name('torch._tensor', '_rebuild_from_type_v2'),
                    name('torch._utils', '_rebuild_tensor_v2'),
                    name('torch', 'Tensor'),
                    items(
                        storage(),
                        number(0),
                        items(number(4)),
                        items(number(1)),
                        b'\x89}',
                    ),
                    mapping(__setstate__=MKDIR),
                )
            )
        ),
        stack_global=archive(
            code(text('os'), text('mkdir'), b'\x93', items(text(path)), b'R')
        ),
        instance=archive(code(b'(', text(path), b'ios\nmkdir\n')),
        object_opcode=archive(code(b'(', MKDIR, text(path), b'o')),
        extension=archive(code(b'\x82\x01')),
        protocol_4=archive(pickle.dumps(run, 4)),
        plain_pickle=pickle.dumps(run),
        legacy=saved(whole(run), _use_new_zipfile_serialization=False),
        legacy_tar=tar(pickle.dumps(run)),
        old_python=archive(code(call(name('__builtin__', 'execfile'), text(path)))),
        persistent_module=archive(
            code(items(text('module'), MKDIR, text('file'), text(python)), b'Q')
        ),
    )


def lying():
    """Returns files that lie about sizes and types, by name."""
    return dict(
        ndarray_of_pointers=archive(
            code(
                call(
                    name('numpy', 'ndarray'), items(number(1)), DTYPE_OF_OBJECTS, EIGHT
                )
            )
        ),
        array_of_pointers=archive(
            code(
                RECONSTRUCT,
                items(number(1), items(number(1)), DTYPE_OF_OBJECTS, b'\x89', EIGHT),
                b'b',
            )
        ),
        scalar_of_pointers=archive(
            code(call(name('numpy.core.multiarray', 'scalar'), DTYPE_OF_OBJECTS, EIGHT))
        ),
        dtype_with_flags=archive(
            code(
                call(name('numpy', 'dtype'), text('V8'), b'\x89', b'\x88'),
                items(number(3), text('|'), b'NNN', number(8), number(1), number(63)),
                b'b',
            )
        ),
        array_beyond_its_bytes=archive(
            code(
                RECONSTRUCT,
                items(
                    number(1), items(number(1 << 40)), DTYPE_OF_BYTES, b'\x89', EIGHT
                ),
                b'b',
            )
        ),
        array_of_negative_size=archive(
            code(
                RECONSTRUCT,
                items(number(1), items(number(-8)), DTYPE_OF_BYTES, b'\x89', EIGHT),
                b'b',
            )
        ),
        storage_beyond_its_bytes=archive(code(tensor(storage(size=1 << 30), 1 << 30))),
        tensor_beyond_its_storage=archive(code(tensor(storage(), size=1 << 30))),
        tensor_of_negative_offset=archive(code(tensor(storage(), offset=-1000))),
        tensor_of_negative_stride=archive(code(tensor(storage(), stride=-1000))),
        storage_of_another_file=archive(code(tensor(storage('../../etc/passwd')))),
        sparse_beyond_its_size=saved(whole(unchecked_sparse())),
        huge_bytearray=archive(
            code(call(name('builtins', 'bytearray'), number(1 << 60)))
        ),
        huge_tensor=archive(code(call(name('torch', 'FloatTensor'), number(1 << 45)))),
        memory_of_a_bytearray=archive(
            code(call(name('builtins', 'bytearray'), number(5 << 30)))
        ),
        counted_bytearray=archive(
            code(
                call(
                    name('collections', 'Counter'),
                    call(name('builtins', 'bytearray'), number(1 << 30)),
                )
            )
        ),
        encoded_thirty_times=archive(code(encoded(30))),
        deep_key=archive(code(b'}N', b'\x85' * 1_000_000, b'Ns')),
        doubled_key=archive(code(b'}', DOUBLED, b'Ns')),
        doubled_in_a_set=archive(
            code(call(name('builtins', 'set'), b']' + DOUBLED + b'a'))
        ),
        doubled_is_called=archive(code(DOUBLED, b')R')),
        doubled_dtype=archive(code(call(name('numpy', 'dtype'), DOUBLED))),
        doubled_epoch=in_meta('epoch', DOUBLED),
        doubled_seed=in_meta('seed', DOUBLED),
        seed_below_zero=saved(whole(meta=dict(epoch=1, iter=2, seed=-1))),
        huge_iteration=saved(whole(meta=dict(epoch=1, iter=1 << 70, seed=3))),
        texts_of_no_length=archive(
            code(
                RECONSTRUCT,
                items(
                    number(1),
                    items(number(3_000_000_000)),
                    call(name('numpy', 'dtype'), text('S0'), b'\x89', b'\x88'),
                    b'\x89',
                    call(name('builtins', 'bytes')),
                ),
                b'b',
            )
        ),
        empty_memo=archive(code(b'h\x63')),
        empty_stack=archive(b'\x80\x02R.'),
        deep=archive(code(b'N', b'\x85' * 1_000_000)),
        doubled=archive(code(DOUBLED)),
        cyclic=archive(code(b']q\x63h\x63a')),
        hidden_items=archive(
            pickle.dumps(whole(state_dict={}), 2)[:-1]
            + text('state_dict')
            + call(name('collections', 'OrderedDict'))
            + mapping(items=name('torch', 'Size'), keys=number(1))
            + b'bs.'
        ),
        compressed_bomb=archive(
            code(tensor(storage(size=1 << 26), 1 << 26)),
            bytes(1 << 28),
            zipfile.ZIP_DEFLATED,
        ),
    )


def encoded(times):
    """A text that is encoded to twice its length again and again."""
    parts = EIGHT
    for _ in range(times):
        parts = call(name('_codecs', 'encode'), parts, text('hex'))
    return parts


def in_meta(key, value):
    """A checkpoint of a training whose meta has something planted."""
    start = pickle.dumps(whole(state_dict={}), 2)[:-1]
    meta = mapping(**{'epoch': number(1), 'iter': number(2), key: value})
    return archive(start + text('meta') + meta + b's.')


def unchecked_sparse():
    """A sparse tensor whose indices are out of its size."""
    with torch.sparse.check_sparse_tensor_invariants(False):
        return torch.sparse_coo_tensor(
            torch.tensor([[1 << 40]]), torch.ones(1), (2,), check_invariants=False
        )


def wrong():
    """Returns files that are checkpoints of nothing, by name."""
    good = saved(whole())
    script = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Identity()), script)
    zip_file = io.BytesIO()
    with zipfile.ZipFile(zip_file, 'w') as file:
        file.writestr('photo.txt', 'none')
    return dict(
        empty=b'',
        zeros=bytes(len(good)),
        cut=good[: len(good) // 2],
        page=b'<html>not found</html>',
        picture=b'\x89PNG\r\n\x1a\n' + bytes(99),
        other_zip=zip_file.getvalue(),
        repeated=archive(code(b'N'), repeated=True)[:-1],
        torch_script=script.getvalue(),
        a_number=saved(3),
        a_list=saved([torch.ones(1)]),
        meta_is_text=saved(whole(meta='none')),
        meta_lacks=saved(whole(meta={})),
        epoch_is_text=saved(whole(meta=dict(epoch='one', iter='two'))),
        hub_is_text=saved(whole(message_hub='none')),
        hub_of_numbers=saved(whole(message_hub=dict(log_scalars=1, runtime_info=2))),
        optimizer_is_text=saved(whole(optimizer='none')),
        weights_are_a_list=saved(whole(state_dict=[torch.ones(1)])),
        weights_are_text=saved(whole(state_dict=dict(weight='none'))),
        names_are_numbers=saved(whole(state_dict={3: torch.ones(1)})),
        arguments=saved(whole(args=argparse.Namespace(lr=0.1), state_dict={})),
        namespace=saved(whole(SimpleNamespace(a=1))),
        path=saved(whole(pathlib.PurePosixPath('a'))),
    )


def write_all(folder, mark, base=None):
    """Writes every hostile file, on a checkpoint if one is given; returns the paths."""
    BASE.update(base or {})
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for stem, content in {**planted(mark), **lying(), **wrong()}.items():
        path = folder / f'{stem}.pth'
        path.write_bytes(content)
        paths.append(path)
    os.mkfifo(folder / 'pipe.pth')
    (folder / 'endless.pth').symlink_to('/dev/zero')
    (folder / 'folder.pth').mkdir()
    (folder / 'dangling.pth').symlink_to('nowhere')
    return [
        *paths,
        *(folder / f'{n}.pth' for n in ('pipe', 'endless', 'folder', 'dangling')),
    ]
