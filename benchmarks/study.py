"""What each part gives on the embedded dataset: `python -m benchmarks.study`.

Trains `mask_rcnn_mamba_adaptor_b0_shapes.py` with and without its parts,
several seeds each, and writes a table of box and mask AP. Every run's log stays
in its folder; a run that is there already is not repeated.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

CONFIG = 'configs/mask_rcnn_mamba_adaptor_b0_shapes.py'
PLAIN = dict(_delete_=True, type='mmadaptor.VMamba', drop_path_rate=0.)
VARIANTS = {
    'untrained': {},
    'no scan': dict(PLAIN, type='mmadaptor.ConvolutionalVMamba'),
    'scan': PLAIN,
    'scan, Adaptor-S': dict(adaptors=dict(spatial=dict())),
    'scan, Adaptor-T': dict(adaptors=dict(temporal=dict())),
    'scan, both adaptors': {},
}
PAIRS = {
    'discs (lamps)': ('disc_off', 'disc_on'),
    'stripes': ('columns', 'rows'),
    'stars': ('star5', 'star6'),
}


def train(variant: str, seed: int, folder: Path, options: dict) -> None:
    """One run, in a process of its own; its metrics go to a file.

    Args:
        variant: A key of `VARIANTS`.
        seed: The run's seed.
        folder: Its work folder.
        options: Further settings of the config.
    """
    from mmengine.config import Config
    from mmengine.runner import Runner

    import mmadaptor
    from benchmarks import convolutional_vmamba  # noqa: F401
    from mmadaptor.models import MambaAdaptor

    backbone = dict(VARIANTS[variant])
    if '_delete_' in backbone:
        backbone['arch'] = dict(MambaAdaptor.arch_settings['b0'])
    cfg = Config.fromfile(CONFIG)
    cfg.merge_from_dict(dict(
        model=dict(backbone=backbone), work_dir=str(folder),
        randomness=dict(seed=seed)))
    cfg.merge_from_dict(options)
    runner = Runner.from_cfg(cfg)
    if variant == 'untrained':
        metrics = runner.test()
    else:
        runner.train()
        metrics = {
            name.removeprefix('val/'): buffer.current()
            for name, buffer in runner.message_hub.log_scalars.items()
            if name.startswith('val/coco/')
        }
    parameters = sum(p.numel() for p in runner.model.backbone.parameters())
    record = dict(variant=variant, seed=seed, parameters=parameters,
                  mmadaptor=mmadaptor.__version__, metrics=metrics)
    (folder / 'result.json').write_text(json.dumps(record, indent=1))


def launch(variant: str, seed: int, folder: Path, threads: int) -> dict:
    """The result of a run, after running it if it is not there.

    Args:
        variant: A key of `VARIANTS`.
        seed: The run's seed.
        folder: Its work folder.
        threads: Threads it may use.

    Returns:
        What `train` recorded.
    """
    result = folder / 'result.json'
    if not result.exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, '-m', 'benchmarks.study', '--run', variant,
                   '--seed', str(seed), '--out', str(folder),
                   *(['--cfg-options', *OPTIONS] if OPTIONS else [])]
        with (folder / 'output.txt').open('w') as output:
            subprocess.run(
                command, stdout=output, stderr=subprocess.STDOUT, check=True,
                env={**os.environ, 'OMP_NUM_THREADS': str(threads)})
        print(f'done: {folder}', flush=True)
    return json.loads(result.read_text())


OPTIONS: list[str] = []


def spread(values: list[float]) -> str:
    """Mean and standard deviation in points of AP.

    Args:
        values: AP as fractions.

    Returns:
        Such as `51.3 ± 0.4`.
    """
    deviation = statistics.stdev(values) if len(values) > 1 else 0.
    return f'{100 * statistics.mean(values):.1f} ± {100 * deviation:.1f}'


def table(results: list[dict]) -> str:
    """The results as a markdown table.

    Args:
        results: What `train` recorded, of any variants and seeds.

    Returns:
        The table.
    """
    lines = ['| backbone | parameters | box AP | mask AP | ' +
             ' | '.join(f'{name}, mask AP' for name in PAIRS) + ' |',
             '|---' * (4 + len(PAIRS)) + '|']
    for variant in VARIANTS:
        runs = [r for r in results if r['variant'] == variant]
        if not runs:
            continue
        metrics = [r['metrics'] for r in runs]
        cells = [spread([m[f'coco/{k}_mAP'] for m in metrics])
                 for k in ('bbox', 'segm')]
        for names in PAIRS.values():
            cells.append(spread([
                statistics.mean(m[f'coco/{n}_precision'] for n in names)
                for m in metrics]))
        size = f'{runs[0]["parameters"] / 1e6:.3f} M'
        lines.append(f'| {variant} | {size} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


def main() -> None:
    """Run what is missing, then print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--variants', nargs='+', default=list(VARIANTS),
                        choices=list(VARIANTS))
    parser.add_argument('--seeds', type=int, default=3)
    parser.add_argument('--jobs', type=int, default=2,
                        help='runs at a time, a thread each if more than one')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/study'))
    parser.add_argument('--cfg-options', nargs='+', default=[])
    parser.add_argument('--run', help=argparse.SUPPRESS)
    parser.add_argument('--seed', type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    OPTIONS.extend(args.cfg_options)
    if args.run:
        options = dict(o.split('=', 1) for o in OPTIONS)
        train(args.run, args.seed, args.out,
              {k: json.loads(v) for k, v in options.items()})
        return
    threads = 1 if args.jobs > 1 else os.cpu_count() or 1
    with ThreadPoolExecutor(args.jobs) as pool:
        runs = [
            pool.submit(launch, variant, seed,
                        args.out / variant.replace(' ', '_') / str(seed),
                        threads)
            for seed in range(args.seeds) for variant in args.variants
        ]
    text = table([run.result() for run in runs])
    (args.out / 'table.md').write_text(text + '\n')
    print(text)


if __name__ == '__main__':
    main()
