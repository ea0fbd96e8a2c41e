# SPDX-License-Identifier: Apache-2.0
"""Which log messages are shown: the log file has all."""

import logging
import os

from mmengine.logging import MMLogger

LONG = (
    'System environment:',
    'Config:\n',
    'Hooks will be executed in the following order:',
    'paramwise_options -- ',
)
"""How mmengine's long messages begin: a line for each setting, hook or parameter."""


class ShortConsole(logging.Filter):
    """Keeps mmengine's long messages out of the console."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a message is shown."""
        return not record.getMessage().lstrip('\n-').startswith(LONG)


SHORT = ShortConsole()


def shorten(logger: MMLogger) -> MMLogger:
    """Keep long messages out of the console, if the logger also writes a file.

    Returns:
        The logger.
    """
    files = [h for h in logger.handlers if isinstance(h, logging.FileHandler)]
    if files:
        for handler in logger.handlers:
            if handler not in files:
                handler.addFilter(SHORT)
        logger.info(
            'The environment, the config and the order of the hooks are in '
            f'{os.path.relpath(files[0].baseFilename)}'
        )
    return logger
