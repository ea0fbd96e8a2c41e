# SPDX-License-Identifier: Apache-2.0
"""Count the instructions of the CUDA kernels' inner loops, without a GPU.

Needs nvcc and nvdisasm. The kernels are compiled for sm_90 with the flags of setup.py.
The instructions of an element are those of a loop times how often a lane passes it for
an element (`ELEMENTS`). Counts are static: both sides of a branch count.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Sequence
from fnmatch import fnmatchcase
from importlib.util import find_spec
from pathlib import Path

from benchmarks.measuring import markdown
from benchmarks.sass import Loop, find_loops, read
from mmadaptor.arguments import new_file

CSRC = Path(__file__).parents[1] / 'mmadaptor' / 'csrc' / 'cuda'
SOURCES = sorted(path.name for path in CSRC.glob('*.cu'))
RESULTS = Path(__file__).parent / 'results' / 'machine_code_sm90.json'
FLAGS = ('-std=c++17', '-O3', '-cubin', '-Xptxas', '-v')
COLUMNS = ('load', 'store', 'shared', 'float', 'special', 'integer', 'constant')

STEP = 'step of a channel and direction, N = 1'
TOKEN = 'channel of a token, 4 places'
PIXEL = 'pixel of a channel, 3 dilations'
MEMORY = 'channel of a pixel, 4 directions of 4 places'
READOUT = 'channel of a pixel, 4 directions, N = 1'
STATE = 'state of a channel and direction, N = 16'
ELEMENTS = {
    # Loops: directions; tiles, of 8 steps a lane (double: 4).
    'scan_kernel<double>': (STEP, (0, 0, 1 / 4)),
    'scan_kernel<*>': (STEP, (0, 0, 1 / 8)),
    'scan_backward_kernel<double, *>': (STEP, (0, 0, 1 / 4)),
    'scan_backward_kernel<*>': (STEP, (0, 0, 1 / 8)),
    # A thread has 12 channels of a token. Loops: pieces; places.
    'memory_select_kernel<*4, 3> >': (TOKEN, (1 / 12, 1 / 12, 1 / 3)),
    # Loops: places; pieces.
    'memory_select_places_kernel<*4, 3> >': (TOKEN, (1 / 12, 1 / 3, 1 / 3)),
    # Loops: pieces; two rows of cells; 2 of 16 places in the cells around a pixel.
    'memory_select_states_kernel<*4, 3> >': (TOKEN, (1 / 12, 1 / 12, 1 / 6, 2 / 3)),
    # Loops: pieces; directions; places.
    'memory_readout_kernel<*4, 3> >': (MEMORY, (1 / 12, 1 / 12, 1 / 3, 4 / 3)),
    # Loops: 2 groups; places; pieces.
    'memory_readout_places_kernel<*4, 3> >': (TOKEN, (1 / 24, 1 / 12, 1 / 3, 1 / 3)),
    # A thread has two channels of 2 x 7 pixels. Loops: rows; dilations, each of which
    # takes one of the three ways through a pass.
    'dilated_depthwise_kernel<*, (Reads)2>': (PIXEL, (1 / 28, 1 / 14, 1 / 14)),
    # Loops: tiles; rows.
    'dilated_depthwise_kernels_kernel<*, (Reads)2>': (PIXEL, (0, 1 / 28, 1 / 14)),
    # Loops: channels; directions; 16 states.
    'readout_kernel<*>': (STATE, (0, 0, 0, 1 / 16)),
    # Loops: directions; states; 4 channels.
    'readout_backward_kernel<*>': (READOUT, (0, 0, 0, 1)),
}
"""By pattern of kernels, of which the first that fits holds: what an element is, and
the passes of a lane for each over the code outside of loops, the largest loop, the
largest loop in it, and so on.

Other loops count once a pass of what is around them."""


def find_nvdisasm() -> str | None:
    """Return the path of nvdisasm: that in `PATH`, of the toolkit, or of Triton."""
    folders = [os.environ.get('PATH', os.defpath)]
    if nvcc := shutil.which('nvcc'):
        folders.append(str(Path(nvcc).resolve().parent))
    if triton := find_spec('triton'):
        folders.append(str(Path(triton.origin).parent / 'backends' / 'nvidia' / 'bin'))
    return shutil.which('nvdisasm', path=os.pathsep.join(folders))


def output_of(command: Sequence[str], text: str | None = None) -> tuple[str, str]:
    """Run a command.

    Args:
        command: Its arguments.
        text: What it reads.

    Returns:
        Its output and its messages.

    Raises:
        RuntimeError: It failed.
    """
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f'{" ".join(command)} failed:\n{done.stderr[-4000:]}')
    return done.stdout, done.stderr


def release() -> str:
    """Return the release of nvcc, as `13.0`."""
    return re.search(r'release ([\d.]+)', output_of(['nvcc', '--version'])[0])[1]


def compile_file(source: Path, architecture: int, cubin: Path) -> str:
    """Compile a file.

    Args:
        source: A file of kernels.
        architecture: Of the GPU, as 90.
        cubin: File to write.

    Returns:
        What `ptxas -v` says.
    """
    command = ['nvcc', *FLAGS, f'-arch=sm_{architecture}', str(source)]
    return output_of([*command, '-o', str(cubin)])[1]


def describe(cubin: Path, messages: str) -> dict[str, dict]:
    """Describe the kernels of a compiled file.

    Args:
        cubin: The compiled file.
        messages: What `ptxas -v` says.

    Returns:
        For each kernel its registers, bytes that are spilled, bytes of static shared
        memory, number of instructions, and those of an element by kind.
    """
    disassembler = find_nvdisasm()
    if disassembler is None:
        raise FileNotFoundError('nvdisasm is not in PATH, beside nvcc or in Triton')
    functions = read(output_of([disassembler, '-c', str(cubin)])[0])
    # Without arguments: mmadaptor::cuda::scan_kernel<__nv_bfloat16>
    names = output_of(['c++filt', '-p'], '\n'.join(functions))[0].splitlines()
    kernels = {}
    for mangled, name in zip(functions, names, strict=True):
        name = re.sub(r'mmadaptor::(cuda::)?|__(nv_)?(?=half|bf)', '', name)
        used = re.search(
            rf'properties for {mangled}\n.*?(\d+) bytes spill stores, '
            r'(\d+) bytes spill loads\n.*?Used (\d+) registers(?:.*?(\d+) bytes smem)?',
            messages,
        )
        stores, loads, registers, shared = (int(n or 0) for n in used.groups())
        code, labels = functions[mangled]
        kernels[name] = dict(
            registers=registers,
            spilled=stores + loads,
            shared=shared,
            instructions=len(code),
            **per_element(name, find_loops(code, labels)),
        )
    return dict(sorted(kernels.items()))


def per_element(name: str, whole: Loop) -> dict:
    """Return the instructions of an element by kind; nothing if none is named.

    Args:
        name: Of the kernel, with the template's arguments.
        whole: Its code, as :func:`benchmarks.sass.find_loops` returns it.

    Raises:
        ValueError: The kernel has fewer nested loops than `ELEMENTS` says.
    """
    pattern = next((key for key in ELEMENTS if fnmatchcase(name, key)), None)
    if pattern is None:
        return {}
    element, passes = ELEMENTS[pattern]
    chain = whole.chain()
    if len(chain) < len(passes):
        raise ValueError(
            f'{name}: expected {len(passes) - 1} nested loops, as in ELEMENTS, '
            f'got {len(chain) - 1}'
        )
    kinds: Counter = Counter()
    for i, times in enumerate(passes):
        counts = chain[i].counts()
        if i + 1 < len(passes):
            counts.subtract(chain[i + 1].counts())
        for kind, count in counts.items():
            kinds[kind] += count * times
    kinds = {kind: round(count, 2) for kind, count in sorted(kinds.items()) if count}
    return dict(element=element, per_element=round(sum(kinds.values()), 1), kinds=kinds)


def table(kernels: dict[str, dict]) -> str:
    """Format a table; where no element is named, the instructions are all there are.

    Args:
        kernels: By name, what :func:`describe` says.
    """
    resources = ('registers', 'spilled', 'shared')
    rows = []
    for name, kernel in kernels.items():
        kinds = kernel.get('kinds', {})
        count = f'**{kernel["per_element"]:g}**' if kinds else kernel['instructions']
        other = sum(n for k, n in kinds.items() if k.split()[0] not in COLUMNS)
        rows.append(
            [
                f'`{name}`',
                *(str(kernel[key]) for key in resources),
                str(count),
                *(_cell(kinds, column) for column in COLUMNS),
                f'{other:.1f}' if kinds else '',
            ]
        )
    return markdown(['kernel', *resources, 'instructions', *COLUMNS, 'other'], rows)


def _cell(kinds: dict[str, float], column: str) -> str:
    """Format the count of a kind, if it has widths as `2.0 (16: 1.5, 32: 0.5)`."""
    counts = {k.partition(' ')[2]: n for k, n in kinds.items() if k.startswith(column)}
    widths = ', '.join(f'{width}: {n:.1f}' for width, n in counts.items() if width)
    total = f'{sum(counts.values()):.1f}' if counts else ''
    return f'{total} ({widths})' if widths else total


def main() -> None:
    """Print the table, and write or update a file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--only', nargs='+', choices=SOURCES, default=SOURCES)
    parser.add_argument('--json', type=new_file, help='file to write or to update')
    options = parser.parse_args()
    tools = dict(nvcc=shutil.which('nvcc'), nvdisasm=find_nvdisasm())
    if missing := [name for name, path in tools.items() if path is None]:
        raise SystemExit(f'Needs {" and ".join(missing)} of the CUDA toolkit.')
    found = dict(nvcc=release(), files={})
    record = options.json
    if record and record.exists():
        before = json.loads(record.read_text())
        if before['nvcc'] != found['nvcc'] and options.only != SOURCES:
            parser.error(f'{record} is of nvcc {before["nvcc"]}: leave out --only')
        found['files'] = before['files']
    for name in options.only:
        with tempfile.TemporaryDirectory() as folder:
            cubin = Path(folder, 'cubin')
            kernels = describe(cubin, compile_file(CSRC / name, 90, cubin))
        print(f'\n{name}\n\n{table(kernels)}', flush=True)
        found['files'][name] = kernels
    if record:
        record.write_text(json.dumps(found, indent=1) + '\n')


if __name__ == '__main__':
    main()
