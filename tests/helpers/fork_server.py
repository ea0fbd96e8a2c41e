# SPDX-License-Identifier: Apache-2.0
"""Runs tools in forks of a process that has imported all already.

A training of a second would else wait five seconds for its imports. Each line of
the input is a JSON list, the tool and its arguments, and starts a fork; the
answer is its process. An empty line waits for it; the answer is how it ended: an
exit code, or a signal as a negative number.
"""

import json
import os
import pathlib
import runpy
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]


class ForkServer:
    """Starts tools and waits for them, for tests that kill them."""

    def __init__(self, folder):
        path = os.pathsep.join(map(str, (ROOT, ROOT / 'tests')))
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            cwd=folder,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, 'PYTHONPATH': path, 'OMP_NUM_THREADS': '1'},
        )

    def _ask(self, line):
        self.process.stdin.write(line + '\n')
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def start(self, tool, *arguments, log):
        """Starts a tool; returns its process."""
        path = ROOT / 'tools' / f'{tool}.py'
        return self._ask(json.dumps([str(log), str(path), *map(str, arguments)]))

    def wait(self):
        """Returns how the tool ended that was started last."""
        return self._ask('')

    def close(self):
        """Ends the server."""
        self.process.stdin.close()
        self.process.wait(10)


def run_tool(log, path, *arguments):
    """Becomes the tool: its output goes to a file."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.setsid()
    sys.argv = [path, *arguments]
    runpy.run_path(path, run_name='__main__')


def main():
    import helpers.toy  # noqa: F401
    from mmadaptor.engine import Runner

    Runner._log_env = lambda *_: None  # it asks compilers for their versions
    child = None
    for line in sys.stdin:
        if line.strip():
            child = os.fork()
            if child == 0:
                run_tool(*json.loads(line))
                return
            answer = child
        else:
            answer = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        sys.stdout.write(f'{answer}\n')
        sys.stdout.flush()


if __name__ == '__main__':
    main()
