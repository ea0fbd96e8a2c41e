# SPDX-License-Identifier: Apache-2.0
"""The commands of the repository, started in this process."""

import argparse
import functools
import importlib
import pathlib
import runpy
import subprocess
import sys

import pytest
from mmengine.registry import Registry

from .jobs import ROOT

COMMANDS = sorted(
    path.relative_to(ROOT)
    for folder in ('tools', 'benchmarks', 'studies')
    for path in (ROOT / folder).glob('*.py')
    if "__name__ == '__main__'" in path.read_text() or path.stem == '__main__'
)


def start(command, monkeypatch, *arguments):
    """Run a command in this process, as its name or path says."""
    monkeypatch.syspath_prepend(ROOT / 'tools')  # Python does, for a script there
    monkeypatch.setattr(sys, 'argv', [str(command), *arguments])
    register = Registry._register_module

    def register_once(registry, module, module_name=None, force=False):
        """What another test imported is registered."""
        if module_name or module.__name__ not in registry.module_dict:
            register(registry, module, module_name, force)

    monkeypatch.setattr(Registry, '_register_module', register_once)
    if command.parts[0] == 'tools':
        runpy.run_path(str(ROOT / command), run_name='__main__')
        return
    name = '.'.join(command.with_suffix('').parts).removesuffix('.__main__')
    importlib.import_module(name)  # registers, once, what later tests import
    runpy.run_module(name, run_name='__main__', alter_sys=True)


class Parsed(Exception):
    """Ends a command where it reads its arguments."""


@functools.cache
def parser_of(command):
    """Start a command once; what it does before it reads its arguments, it does."""

    def stop(parser, *args, **kwargs):
        raise Parsed(parser)

    def forbid(*args, **kwargs):
        raise AssertionError(f'{command} does something first: {args}')

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, 'parse_args', stop)
        patch.setattr(pathlib.Path, 'write_text', forbid)
        patch.setattr(subprocess, 'run', forbid)
        with pytest.raises(Parsed) as found:
            start(command, patch)
    return found.value.args[0]
