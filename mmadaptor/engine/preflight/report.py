# SPDX-License-Identifier: Apache-2.0
"""One error for everything that is missing or does not fit."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from mmadaptor.datasets.image_files import kind_problem
from mmadaptor.errors import InputError, described, message_of


class Report:
    """Collects what prevents a job from starting."""

    def __init__(self) -> None:
        self.missing: dict[str, list[str]] = {}
        self.problems: dict[str, list[str]] = {}
        self.told = 0  # how often `problem` was called
        self.hints: list[str] = []
        self.notes: list[str] = []

    def __bool__(self) -> bool:
        return bool(self.missing or self.problems)

    def require(self, key: str, path: str) -> bool:
        """Report a file or folder that does not exist, or is a pipe or a device."""
        exists = os.path.isfile(path) or os.path.isdir(path)
        if not exists:
            keys = self.missing.setdefault(path, [])
            keys += [key] * (key not in keys)
        return exists

    def problem(self, text: str, key: str = '') -> None:
        """Report anything else."""
        self.told += 1
        keys = self.problems.setdefault(text, [])
        keys += [key] * (key not in ('', *keys))

    def unless(self, own: bool) -> 'Report | Doubts':
        """Return what takes problems that user-defined code may fix.

        Args:
            own: Whether there is such code; else a problem is one.
        """
        return Doubts(self) if own else self

    @contextmanager
    def collect(self, key: str, what: str) -> Iterator[None]:
        """Report an exception instead of raising it."""
        try:
            yield
        except FileNotFoundError as error:
            if error.filename is None or self.require(key, error.filename):
                self.problem(f'{what}: {error}', key)
        except InputError as error:
            self.problem(message_of(error), key)
        except Exception as error:
            self.problem(f'{what} cannot be read: {described(error)}', key)

    def hint(self, text: str) -> None:
        """Add a way to continue; empty for none."""
        if text and text not in self.hints:
            self.hints.append(text)

    def note(self, text: str) -> None:
        """Add a warning that does not prevent the start."""
        if text not in self.notes:
            self.notes.append(text)

    def text(self, job: str) -> str:
        """Return the message of the error; empty without a problem."""
        found = {}
        for path, keys in self.missing.items():
            kind = kind_problem(path)
            text = f'{path} {kind}' if kind else f'missing: {os.path.abspath(path)}'
            found[text] = keys
        problems = [
            text + (f'\n     named by {", ".join(keys)}' if keys else '')
            for text, keys in {**found, **self.problems}.items()
        ]
        if not problems:
            return ''
        count = f'{len(problems)} problem{"s" * (len(problems) > 1)}'
        lines = [f'{job} not started: {count} found']
        lines += [f'  {i}. {text}' for i, text in enumerate(problems, 1)]
        hints = list(self.hints)
        keys = [keys[0] for keys in self.missing.values()]
        keys = [key for key in keys if not key.endswith(('dataset', 'evaluator'))]
        for key in keys[:1]:
            hints.append(
                'If a file is elsewhere, link it to the path above, or '
                f'set its path: --cfg-options {key}=PATH'
            )
        if hints:
            lines += ['How to continue:', *(f'  - {hint}' for hint in hints)]
        return '\n'.join(lines)


class Doubts:
    """Takes problems that may be none, as notes of a report."""

    def __init__(self, report: Report) -> None:
        self.report, self.note = report, report.note

    def problem(self, text: str, key: str = '') -> None:
        """Note what would be a problem without user-defined code."""
        self.report.told += 1
        where = f'{key}: ' if key else ''
        self.note(f'{where}{text}, unless code of your own changes that')
