# SPDX-License-Identifier: Apache-2.0
"""Calls everything that a checkpoint may name, with arguments of every kind.

Usage: python tests/security/fuzz_allowed.py FILES SEED

Prints what ran besides the reading itself. A crash ends the process.
"""

import importlib
import os
import random
import sys
import tempfile

from helpers import hostile as h
from torch import _weights_only_unpickler

from mmadaptor.checkpoints.allowed import ALLOWED
from mmadaptor.checkpoints.loading import read_checkpoint
from mmadaptor.errors import InputError

# Events of sys.addaudithook that no reading of weights needs, beside lazy imports.
importlib.import_module('torch._subclasses.schema_check_mode')  # torch: late
WATCHED = ('compile', 'exec', 'os.', 'subprocess', 'socket', 'ctypes', 'pty', 'shutil')
OF_IMPORTS = ('os.listdir', 'os.scandir')
NAMES = sorted(
    {*_weights_only_unpickler._get_allowed_globals(), *(n for _, n in ALLOWED)}
)


def value(draw, depth=0):
    """A pickle of a random object."""
    kinds = [
        lambda: b'N',
        lambda: draw.choice([b'\x88', b'\x89']),
        lambda: h.number(draw.choice([-1, 0, 1, 2, 3, 7, 8, 1 << 20, 1 << 62])),
        lambda: h.text(
            draw.choice(['', 'f8', 'O', '<', 'mean', 'cpu', '__setstate__'])
        ),
        lambda: h.storage(
            kind=draw.choice(['FloatStorage', 'LongStorage', 'ByteStorage'])
        ),
        lambda: h.tensor(h.storage()),
        lambda: h.DTYPE_OF_BYTES,
        lambda: h.EIGHT,
        lambda: h.RECONSTRUCT,
        lambda: b'}',
        lambda: b']',
        lambda: named(draw),
    ]
    if depth < 3:
        kinds += [
            lambda: h.items(*values(draw, depth + 1)),
            lambda: b'](' + b''.join(values(draw, depth + 1)) + b'e',
            lambda: h.mapping(
                **{
                    draw.choice(
                        ['__setstate__', '_metadata', 'a', 'max_length']
                    ): value(draw, depth + 1)
                }
            ),
            lambda: made(draw, depth + 1),
        ]
    return draw.choice(kinds)()


def values(draw, depth):
    return [value(draw, depth) for _ in range(draw.randint(0, 5))]


def named(draw):
    return h.name(*draw.choice(NAMES).rsplit('.', 1))


def made(draw, depth):
    """The result of a call or a construction, then perhaps of a state or two."""
    arguments = h.items(*values(draw, depth))
    parts = named(draw) + arguments + draw.choice([b'R', b'R', b'R', b'\x81'])
    for _ in range(draw.randint(0, 2)):
        parts += value(draw, depth) + b'b'
    return parts


def main(files, seed):
    draw, heard, read = random.Random(seed), [], 0
    listening = False

    def listen(event, arguments):
        if not listening or event in OF_IMPORTS or not event.startswith(WATCHED):
            return
        if event == 'exec' and os.path.isfile(arguments[0].co_filename):
            return  # a module that is imported
        heard.append((event, str(arguments)[:200]))

    sys.addaudithook(listen)
    with tempfile.NamedTemporaryFile(suffix='.pth') as file:
        for index in range(files):
            file.seek(0)
            file.truncate()
            file.write(h.archive(h.code(made(draw, 0))))
            file.flush()
            listening = index >= files // 4  # before, modules are imported
            try:
                read_checkpoint(file.name)
                read += 1
            except InputError:
                pass
            finally:
                listening = False
    sys.stdout.write(f'{files} files, {read} read, {len(heard)} events {heard[:5]}\n')


if __name__ == '__main__':
    main(*map(int, sys.argv[1:]))
