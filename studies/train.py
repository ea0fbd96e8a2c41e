# SPDX-License-Identifier: Apache-2.0
"""Train one run: `python -m studies.train FOLDER`.

Trains like `tools/train.py`, with the config next to the folder, and writes
`record.json` to the folder.
"""

import argparse
import json
from pathlib import Path

from benchmarks.measuring import commit
from mmadaptor.analysis.flops import count, input_size
from mmadaptor.checkpoints.adaptor_only import count_trainable
from mmadaptor.engine.command_line import build_runner, load_config, run
from mmadaptor.engine.summary import last_metrics
from studies.run import RECORD, config_of


def main() -> None:
    """Train or test, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('folder', type=Path)
    folder = parser.parse_args().folder
    cfg = load_config(
        argparse.Namespace(
            config=str(config_of(folder)),
            work_dir=str(folder),
            cfg_options={},
            launcher='none',
            local_rank=0,
        )
    )
    code = commit()  # another may be checked out during the training
    runner = build_runner(cfg)
    trainable, total = count_trainable(runner.model)
    backbone = sum(p.numel() for p in runner.model.backbone.parameters())
    checkpoint = None
    if cfg.trained:
        runner.train()
        metrics = last_metrics(runner.message_hub)
        checkpoint = Path((folder / 'last_checkpoint').read_text()).name
    else:
        metrics = runner.test()
    record = dict(
        metrics=metrics,
        backbone=backbone,
        trainable=trainable,
        total=total,
        checkpoint=checkpoint,
        commit=code,
        multiply_adds=count(runner.model.eval(), input_size(cfg))[0]['total'],
    )
    (folder / RECORD).write_text(json.dumps(record, indent=1) + '\n')


if __name__ == '__main__':
    run(main)
