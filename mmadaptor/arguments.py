# SPDX-License-Identifier: Apache-2.0
"""Command-line arguments, for tools and benchmarks with torch alone too."""

import argparse
import math
import os
import sys
from pathlib import Path

from mmadaptor.errors import InputError

CHECKPOINTS = ('.safetensors', '.pth', '.pt')


def parser_of(purpose: str, example: str) -> argparse.ArgumentParser:
    """Return a parser whose help ends with an example.

    Args:
        purpose: What the tool does, as the docstring of its file says it.
        example: The command.
    """
    return argparse.ArgumentParser(
        description=purpose,
        epilog=f'example:\n  {example}',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def positive(text: str) -> int:
    """Read a positive integer; argparse names the argument of a wrong one."""
    if not text.isdecimal() or int(text) < 1:
        problem = f'expected an integer of 1 or more, got {text!r}'
        raise argparse.ArgumentTypeError(problem)
    return int(text)


def fraction(text: str) -> float:
    """Read a number from 0 to 1; argparse names the argument of a wrong one."""
    return _number(text, 1, 'a number from 0 to 1')


def seconds(text: str) -> float:
    """Read a time; argparse names the argument of a wrong one."""
    return _number(text, sys.float_info.max, 'a number of 0 or more')


def _number(text: str, most: float, expected: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= most:
        raise argparse.ArgumentTypeError(f'expected {expected}, got {text!r}')
    return value


def filled(text: str) -> str:
    """Read a path or name; an empty one, as of an unset variable, is refused."""
    if not text.strip():
        raise argparse.ArgumentTypeError('expected a name, got an empty one')
    return text


def new_file(text: str) -> Path:
    """Read the path of a file to write, before there is something to be written."""
    path = Path(filled(text))
    if path.is_dir() or not path.parent.is_dir():
        problem = f'expected a file in a folder that exists, got {text!r}'
        raise argparse.ArgumentTypeError(problem)
    if not os.access(path.parent, os.W_OK | os.X_OK):
        problem = f'expected a file in a folder that you may write to, got {text!r}'
        raise argparse.ArgumentTypeError(problem)
    return path


def new_checkpoint(text: str) -> str:
    """Read the path of a checkpoint to write; its name tells it from other files."""
    path = Path(filled(text))
    if path.suffix not in CHECKPOINTS or path.is_dir():
        problem = f'expected a file that ends with {" or ".join(CHECKPOINTS)}'
        raise argparse.ArgumentTypeError(f'{problem}, got {text!r}')
    return text


def refuse_to_overwrite(dst: str, src: str) -> None:
    """Refuse to write a file over the one that it is made from.

    Raises:
        InputError: They are the same file.
    """
    if os.path.realpath(dst) == os.path.realpath(src):
        text = f'{dst} is also the input and would be overwritten: give another name.'
        raise InputError(text)
