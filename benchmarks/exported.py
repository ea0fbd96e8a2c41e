# SPDX-License-Identifier: Apache-2.0
"""Compare exported backbones with torch: `python -m benchmarks.exported [NAME ...]`.

For each architecture, by default b0, b2 and Swin-T: the largest difference of its ONNX
file from torch, at the size of the export and at another; and the times of one image,
all runtimes in turn, so that other load affects all of them. Adaptors have random
predictors and scales, so that their part in the output is as large as that of the scan.
"""

import argparse
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import onnxruntime
import torch
from mmpretrain.models import SwinTransformer
from torch import Tensor, nn

from benchmarks.measuring import commit, elapsed, processor
from mmadaptor.arguments import filled, positive
from mmadaptor.export.aot import export_aot
from mmadaptor.export.custom_ops import custom_ops_library
from mmadaptor.export.onnx import compare, export_onnx
from mmadaptor.models import create_backbone

SWIN = 'swin_tiny'
SIZE, OTHER = (224, 224), (2, 3, 191, 257)


def built(name: str) -> nn.Module:
    """Build a backbone with random predictors and scales of the adaptors."""
    torch.manual_seed(0)
    if name == SWIN:
        model = SwinTransformer('tiny', out_indices=(0, 1, 2, 3))
        model.eval()  # whose `train` returns None
        return model
    arguments = dict(out_type='featmap') if name.startswith('vim') else {}
    model = create_backbone(name, **arguments).eval()
    for path, parameter in model.named_parameters():
        if 'temporal' in path and path.endswith('weight'):
            nn.init.normal_(parameter, std=0.05)
        if path.endswith(('gamma', 'alpha')):
            nn.init.constant_(parameter, 0.3)
    return model


def session(path: Path, threads: int) -> Callable[[Tensor], list]:
    """Return a function that runs an ONNX file."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.register_custom_ops_library(str(custom_ops_library()))
    found = onnxruntime.InferenceSession(
        str(path), options, providers=['CPUExecutionProvider']
    )
    return lambda images: found.run(None, {'images': images.numpy()})


def runtimes(
    name: str, model: nn.Module, folder: Path, threads: int, quick: bool
) -> dict[str, Callable[[Tensor], object]]:
    """Export a model and return a function for each runtime."""
    found: dict[str, Callable] = dict(eager=model)
    if name == SWIN:  # for reference, in torch alone
        return found | ({} if quick else {'torch.compile': torch.compile(model)})
    outputs = [f'map_{i}' for i in range(len(model.out_indices))]
    kinds = dict(fused={}, custom=dict(custom_ops=True), standard=dict(standard=True))
    if quick:
        del kinds['standard']
    for kind, options in kinds.items():
        path = folder / f'{name}_{kind}.onnx'
        export_onnx(model, path, SIZE, outputs, **options)
        for shape in ((1, 3, *SIZE), OTHER):
            worst = max(compare(path, model, [torch.randn(shape)]).values())
            print(f'{name}, {kind}, {tuple(shape)}: difference {worst:.1e}', flush=True)
        found[f'onnxruntime, {kind}'] = session(path, threads)
    if not quick:
        path = folder / f'{name}.pt2'
        export_aot(model, path, SIZE)
        found['AOTInductor'] = torch._inductor.aoti_load_package(str(path))
        found['torch.compile'] = torch.compile(model)
    return found


def main() -> None:
    """Print differences and times."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument(
        'names',
        type=filled,
        nargs='*',
        default=['mamba_adaptor_b0', 'mamba_adaptor_b2', SWIN],
        metavar='NAME',
    )
    parser.add_argument('--threads', type=positive, default=torch.get_num_threads())
    parser.add_argument('--repeats', type=positive, default=7)
    parser.add_argument(
        '--quick',
        action='store_true',
        help='eager torch, the fused kernel and our own only',
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    images = torch.randn(1, 3, *SIZE)
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        calls = {
            (name, runtime): call
            for name in args.names
            for runtime, call in runtimes(
                name, built(name), Path(folder), args.threads, args.quick
            ).items()
        }
        times: dict = {key: [] for key in calls}
        for round in range(args.repeats + 1):  # the first compiles and warms up
            for key, call in calls.items():
                seconds = elapsed(lambda call=call: call(images))
                if round:
                    times[key].append(seconds)
    print(
        f'{processor()}, {args.threads} threads, torch {torch.__version__}, '
        f'onnxruntime {onnxruntime.__version__}, commit {commit()}; one image of {SIZE}'
    )
    for (name, runtime), seconds in times.items():
        ratio = statistics.median(seconds) / statistics.median(times[name, 'eager'])
        milliseconds = 1000 * statistics.median(seconds)
        print(f'{name}, {runtime}: {milliseconds:.1f} ms, {ratio:.2f} of eager')


if __name__ == '__main__':
    main()
