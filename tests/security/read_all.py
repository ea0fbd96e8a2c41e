# SPDX-License-Identifier: Apache-2.0
"""Reads or uses hostile checkpoints; prints a line of JSON for each.

Usage: python tests/security/read_all.py TOOL MARK FILE... -- ARGUMENTS

TOOL is `read`, or the path of a tool; `{}` in ARGUMENTS stands for the file.
The memory of this process is bounded.
"""

import json
import os
import pathlib
import resource
import runpy
import signal
import sys
import warnings

from mmadaptor.checkpoints.loading import peek, read_checkpoint
from mmadaptor.errors import InputError

SECONDS = 60
BYTES = 12 << 30


def outcome(tool, file, arguments):
    """Returns how a tool ends on a file: the error and its message."""
    sys.argv = [tool, *(argument.replace('{}', file) for argument in arguments)]
    try:
        if tool == 'read':
            peek(file)
            read_checkpoint(file)
        else:
            runpy.run_path(tool, run_name='__main__')
        return 'done', ''
    except InputError as error:
        return 'InputError', str(error)
    except SystemExit as ended:
        kind = 'InputError' if isinstance(ended.code, str) else 'exit'
        return ('done', '') if not ended.code else (kind, str(ended.code))
    except BaseException as error:
        return type(error).__name__, str(error)


def main(tool, mark, *rest):
    resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
    warnings.simplefilter('ignore')
    files, arguments = rest[: rest.index('--')], rest[rest.index('--') + 1 :]
    sys.path.insert(0, str(pathlib.Path(tool).parent))
    for file in files:
        signal.alarm(SECONDS)  # a file that hangs ends the process
        kind, message = outcome(tool, file, arguments)
        result = dict(file=file, kind=kind, message=message, ran=os.path.exists(mark))
        sys.stdout.write('\n' + json.dumps(result) + '\n')
        sys.stdout.flush()


if __name__ == '__main__':
    main(*sys.argv[1:])
