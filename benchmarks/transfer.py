"""What pretraining as a classifier gives on the embedded dataset.

`python -m benchmarks.transfer` trains `mamba_adaptor_b0_shapes.py`, then the
detector and the segmentor twice each, from scratch and from the classifier's
backbone, with the same short schedule and seed, and prints their metrics. A run
that is there already is not repeated.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

CLASSIFIER = 'mamba_adaptor_b0_shapes'
TASKS = {
    'mask_rcnn_mamba_adaptor_b0_shapes': (1, ('coco/bbox_mAP',
                                              'coco/segm_mAP')),
    'upernet_mamba_adaptor_b0_shapes': (1, ('mIoU', )),
}
"""Epochs of each config, and its metrics."""


def train(config: str, folder: Path, *options: str) -> None:
    """Trains as a user does, unless the folder has the end of it.

    Args:
        config: The config's name.
        folder: The run's work folder.
        options: Settings for `--cfg-options`.
    """
    done = folder / 'done'
    if done.exists():
        return
    command = [sys.executable, 'tools/train.py', f'configs/{config}.py',
               '--work-dir', str(folder)]
    if options:
        command += ['--cfg-options', *options]
    subprocess.run(command, check=True)
    done.touch()


def last_metrics(folder: Path, names: tuple[str, ...]) -> list[float]:
    """The last validation's metrics.

    Args:
        folder: A run's work folder.
        names: The metrics.

    Returns:
        Their values.
    """
    log = sorted(folder.glob('*/vis_data/scalars.json'))[-1]
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    last = next(line for line in reversed(lines) if names[0] in line)
    return [last[name] for name in names]


def main() -> None:
    """Run what is missing, then print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--out', type=Path, default=Path('work_dirs/transfer'))
    args = parser.parse_args()
    train(CLASSIFIER, args.out / CLASSIFIER)
    checkpoint = (args.out / CLASSIFIER / 'last_checkpoint').read_text()
    pretrained = [f'model.backbone.init_cfg.{setting}' for setting in (
        'type=Pretrained', f'checkpoint={checkpoint}', 'prefix=backbone.')]
    rows = ['| config | epochs | metric | from scratch | pretrained |',
            '|---|---|---|---|---|']
    for config, (epochs, metrics) in TASKS.items():
        values = []
        for start, options in (('scratch', []), ('pretrained', pretrained)):
            folder = args.out / f'{config}_{start}'
            train(config, folder, f'train_cfg.max_epochs={epochs}',
                  f'param_scheduler.1.T_max={epochs}', *options)
            values.append(last_metrics(folder, metrics))
        rows += [f'| {config} | {epochs} | {name} | {one} | {other} |'
                 for name, one, other in zip(metrics, *values, strict=True)]
    text = '\n'.join(rows)
    (args.out / 'table.md').write_text(text + '\n')
    print(text)


if __name__ == '__main__':
    main()
