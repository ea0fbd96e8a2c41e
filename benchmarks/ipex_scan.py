# SPDX-License-Identifier: Apache-2.0
"""The scan of intel-extension-for-pytorch, in a Python of its own.

Its last version needs torch 2.8, which our library does not load in. So the benchmark
starts `main` in another Python, where torch 2.8 and `intel-extension-for-pytorch` are
installed, and takes turns with it: each line sent is answered by a line of JSON.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.measuring import RETURNING, elapsed, keep_memory, resident_growth


class IpexScan:
    """The scan in another process.

    Args:
        python: The other Python.
        inputs: Arguments of the scan.
        threads: Number of threads.
        folder: Folder for files that both processes read.
        returning: Whether freed memory is returned to the system at once.

    Raises:
        RuntimeError: It does not start; the message has the end of its error output.
    """

    def __init__(
        self,
        python: Path,
        inputs: dict[str, Tensor],
        threads: int,
        folder: Path,
        returning: bool = False,
    ) -> None:
        self.output_file = folder / 'ipex_output.pt'
        self.log = folder / 'ipex.log'
        torch.save(inputs, folder / 'ipex_inputs.pt')
        environment = {n: v for n, v in os.environ.items() if n != 'PYTHONPATH'}
        with self.log.open('w') as log:
            self.process = subprocess.Popen(
                [
                    python,
                    '-c',
                    'from benchmarks.ipex_scan import main; main()',
                    folder / 'ipex_inputs.pt',
                    str(threads),
                    'returning' if returning else 'keeping',
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=Path(__file__).parents[1],
                env=environment | (RETURNING if returning else {}),
            )
        self.versions = self._receive()

    def output(self) -> Tensor:
        """Compute the output."""
        self._ask('output')
        return torch.load(self.output_file)

    def seconds(self) -> float:
        """Return the duration of one call, as measured in the other process."""
        return self._ask('seconds')

    def growth(self) -> int:
        """Return :func:`.resident_growth` of one call."""
        return self._ask('growth')

    def close(self) -> None:
        """End the other process."""
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()

    def _ask(self, what: str) -> Any:
        self.process.stdin.write(f'{what}\n')
        self.process.stdin.flush()
        return self._receive()

    def _receive(self) -> Any:
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            end = self.log.read_text().strip()[-500:]
            raise RuntimeError(f'intel-extension-for-pytorch stopped: {end}')
        return json.loads(line)


def serve(
    call: Callable[[], Tensor], output_file: Path, versions: dict[str, str]
) -> None:
    """Answer the lines of the standard input.

    Args:
        call: Computes the output.
        output_file: File for the output.
        versions: Versions by package, sent first.
    """
    answers = dict(
        output=lambda: torch.save(call(), output_file),
        seconds=lambda: elapsed(call),
        growth=lambda: resident_growth(call),
    )
    print(json.dumps(versions), flush=True)
    for line in sys.stdin:
        print(json.dumps(answers[line.strip()]()), flush=True)


def main() -> None:
    """Serve its scan; arguments are the inputs, the threads and what memory does."""
    import intel_extension_for_pytorch as ipex

    path, threads, memory = sys.argv[1:]
    if memory == 'keeping':
        keep_memory()
    torch.set_num_threads(int(threads))
    x = torch.load(path)

    def call() -> Tensor:
        return torch.ops.torch_ipex.selective_scan_fn(
            x['u'],
            x['delta'],
            x['A'],
            x['B'],
            x['C'],
            x['D'],
            None,
            x['delta_bias'],
            True,
            False,
        )[0]

    versions = {'torch': torch.__version__, 'ipex': ipex.__version__}
    serve(call, Path(path).with_name('ipex_output.pt'), versions)
