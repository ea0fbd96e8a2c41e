# SPDX-License-Identifier: Apache-2.0
"""Checks of constructor arguments, which come from configs."""

import math
import re
from collections.abc import Callable, Collection, Sequence
from numbers import Integral, Real
from typing import Any

ROUNDING = 1e-6  # more than the error of a product of a ratio and channels


def is_integer(value: Any) -> bool:
    """Return whether a value is an integer; True and False are not."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def check_integer(
    name: str, value: Any, least: int = 1, most: int | None = None
) -> None:
    """Check an integer.

    Raises:
        ValueError: It is not an integer, or out of range.
    """
    if is_integer(value) and least <= value and (most is None or value <= most):
        return
    span = f'of {least} or more' if most is None else f'from {least} to {most}'
    raise ValueError(f'`{name}` must be an integer {span}, got {value!r}')


def check_number(
    name: str,
    value: Any,
    expected: str = 'finite',
    allowed: Callable[[float], bool] = math.isfinite,
) -> None:
    """Check a number.

    Args:
        name: Name of the argument.
        value: Its value.
        expected: What the number must be, for the message.
        allowed: Returns whether a number is allowed.

    Raises:
        ValueError: It is not a number, or not allowed.
    """
    number = isinstance(value, Real) and not isinstance(value, bool)
    if not number or not allowed(value):
        raise ValueError(f'`{name}` must be {expected}, got {value!r}')


def check_flag(name: str, value: Any) -> None:
    """Check a boolean.

    Raises:
        ValueError: It is another value, such as a string that means one.
    """
    if not isinstance(value, bool):
        raise ValueError(f'`{name}` must be True or False, got {value!r}')


def check_patterns(
    name: str, value: Any, expected: str = 'regular expressions'
) -> None:
    """Check a list of regular expressions for names of parameters.

    Raises:
        ValueError: It is another thing, such as a single one, whose characters would be
            taken for patterns; or one of them is not a regular expression.
    """
    listed = isinstance(value, Collection) and not isinstance(value, str)
    if not listed or not all(isinstance(pattern, str) for pattern in value):
        raise ValueError(
            f'`{name}` must be a list of {expected} for names of parameters, '
            f'got {value!r}'
        )
    for pattern in value:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(
                f'`{name}` contains {pattern!r}, which is not a regular expression: '
                f'{error}'
            ) from error


def scaled_channels(name: str, ratio: Any, channels: int) -> int:
    """Return `ratio` times `channels`, rounded down.

    A product that is below an integer by a rounding error, such as 2.3 * 100, is that
    integer.

    Raises:
        ValueError: The ratio is not a number, or gives no channel.
    """
    check_number(
        name,
        ratio,
        f'a ratio that gives at least 1 channel from {channels}',
        lambda r: math.isfinite(r) and r * channels + ROUNDING >= 1,
    )
    return int(channels * ratio + ROUNDING)


def integers_of(value: Any, least: int) -> tuple[int, ...] | None:
    """Return a sequence of integers as a tuple; None for anything else."""
    if not isinstance(value, Sequence) or not value:
        return None
    if not all(is_integer(i) and i >= least for i in value):
        return None
    return tuple(value)
