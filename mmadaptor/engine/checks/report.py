# SPDX-License-Identifier: Apache-2.0
"""Collects everything that is missing or broken into one error."""

import os

from mmadaptor.errors import InputError


class Report:
    """What keeps a job from being started."""

    def __init__(self) -> None:
        self.missing: dict[str, list[str]] = {}
        self.others: list[str] = []
        self.hints: list[str] = []
        self.notes: list[str] = []

    def require(self, key: str, path: str) -> bool:
        """Notes a file that is not there.

        Args:
            key: Where the config names it.
            path: The file or folder.

        Returns:
            Whether it is there.
        """
        there = os.path.exists(path)
        if not there:
            self.missing.setdefault(path, []).append(key)
        return there

    def require_folder(self, key: str, path: str) -> None:
        """Notes a folder that is not there, or has nothing in it.

        Args:
            key: Where the config names it.
            path: The folder.
        """
        if self.require(key, path) and not (os.path.isdir(path) and os.listdir(path)):
            self.broken(key, path, 'is no folder with files')

    def broken(self, key: str, path: str, problem: str) -> None:
        """Notes what is wrong with a file.

        Args:
            key: Where the config names it.
            path: The file or folder.
            problem: What is wrong, as the rest of a sentence on the path.
        """
        self.problem(f'{path} {problem}\n     named by {key}')

    def problem(self, sentence: str) -> None:
        """Notes anything else that is wrong.

        Args:
            sentence: What it is.
        """
        if sentence not in self.others:
            self.others.append(sentence)

    def hint(self, sentence: str) -> None:
        """Notes how to go on.

        Args:
            sentence: One way; empty for none.
        """
        if sentence and sentence not in self.hints:
            self.hints.append(sentence)

    def note(self, sentence: str) -> None:
        """Notes what is worth a warning, and stops nothing.

        Args:
            sentence: What it is.
        """
        if sentence not in self.notes:
            self.notes.append(sentence)

    def raise_problems(self) -> None:
        """Raises one error for all that was noted.

        Raises:
            InputError: Something is missing or broken.
        """
        missing = [
            f'missing: {os.path.abspath(path)}\n     named by {", ".join(keys)}'
            for path, keys in self.missing.items()
        ]
        problems = [*missing, *self.others]
        if not problems:
            return
        lines = [f'Nothing was started. {len(problems)} to mend:']
        lines += [f'  {i}. {text}' for i, text in enumerate(problems, 1)]
        hints = list(self.hints)
        key = next(
            (keys[0] for keys in self.missing.values() if ' ' not in keys[0]), None
        )
        if key:
            hints.append(
                'Where a file lies elsewhere, link it to the place '
                'above or name it in the config, as by --cfg-options '
                f'{key}=PATH'
            )
        if hints:
            lines += ['How to go on:', *(f'  - {hint}' for hint in hints)]
        raise InputError('\n'.join(lines))
