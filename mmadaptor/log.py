# SPDX-License-Identifier: Apache-2.0
"""Warnings that appear in the log of a training, and elsewhere too."""

import logging
import sys


def warn(message: str) -> None:
    """Log a warning.

    Args:
        message: Goes to mmengine's current logger if mmengine is imported, which also
            writes the log file of a run; else to the logger `mmadaptor`.
    """
    if 'mmengine' in sys.modules:
        from mmengine.logging import print_log

        print_log(message, 'current', logging.WARNING)
    else:
        logging.getLogger('mmadaptor').warning(message)
