# SPDX-License-Identifier: Apache-2.0
"""Write the model zoo anew: configs/metafile.yml and the tables beside it.

Parameters and multiply-adds are counted, a config that the metafile does not
have is added, and one that is gone is dropped. Results are nobody's to compute:
they stay as configs/metafile.yml has them.
"""

from pathlib import Path

import torch
import yaml
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

import mmadaptor  # noqa: F401
from mmadaptor.analysis.flops import count, input_size
from mmadaptor.engine.command_line import run
from mmadaptor.errors import InputError

ROOT = Path(__file__).resolve().parents[1]
METAFILE = Path('configs/metafile.yml')
README = Path('configs/README.md')
HEADER = (
    '# Written by tools/model_zoo.py; by hand: Collections, Results and Results From.\n'
)
UNTRAINED = 'not trained by us'
COLLECTION = 'Mamba-Adaptor'
TABLES = dict(mmpretrain='imagenet', mmdet='coco', mmseg='ade20k')
METRICS = dict(
    imagenet={'top-1': 'Top 1 Accuracy'},
    coco={'box AP': 'box AP', 'mask AP': 'mask AP'},
    ade20k={'mIoU': 'mIoU'},
    shapes={},
)


def table_of(cfg: Config) -> str:
    """The table that a config stands in.

    Args:
        cfg: The config.

    Returns:
        A key of `METRICS`.
    """
    return 'shapes' if cfg.get('embedded_dataset') else TABLES[cfg.default_scope]


def describe(cfg: Config, name: str, known: dict) -> dict:
    """A config's entry in the metafile.

    Args:
        cfg: The config.
        name: Its file's name, without ending.
        known: Its entry so far, or an empty dict.

    Returns:
        The entry, counted anew.
    """
    init_default_scope(cfg.default_scope)
    shape = input_size(cfg)
    with torch.device('meta'):
        model = MODELS.build(cfg.model).eval()
    parameters = sum(p.numel() for p in model.parameters())
    modules, _ = count(model, shape)
    backbone = cfg.model.backbone
    kind = backbone.type.split('.')[-1]
    has_adaptors = kind == 'MambaAdaptor' or backbone.get('adaptors')
    by_hand = {'Results From': UNTRAINED} if table_of(cfg) != 'shapes' else {}
    by_hand.update((k, known[k]) for k in ('Results', 'Results From') if k in known)
    return {
        'Name': name,
        'In Collection': COLLECTION if has_adaptors else kind,
        'Config': f'configs/{name}.py',
        'Metadata': {
            'Parameters': parameters,
            'FLOPs': modules['total'],
            'Input': list(shape),
        },
        **by_hand,
    }


def row(entry: dict, metrics: dict[str, str]) -> str:
    """A config's row of its table.

    Args:
        entry: Its entry in the metafile.
        metrics: The metafile's name of each column's metric.

    Returns:
        The row, in markdown.
    """
    values = {}
    for result in entry.get('Results', ()):
        values.update(result['Metrics'])
    size = entry['Metadata']
    name = entry['Name']
    flops = size['FLOPs'] / 1e9
    cells = [
        f'[{name}]({name}.py)',
        f'{size["Parameters"] / 1e6:.1f} M',
        f'{flops:.1f} G' if flops > 10 else f'{flops:.2f} G',
        *(str(values.get(metric, '')) for metric in metrics.values()),
    ]
    if metrics:
        cells.append(entry.get('Results From', ''))
    return '| ' + ' | '.join(cells) + ' |'


def table(entries: list[dict], metrics: dict[str, str]) -> str:
    """A table of configs.

    Args:
        entries: Their entries in the metafile.
        metrics: The metafile's name of each column's metric.

    Returns:
        The table, in markdown.
    """
    columns = ['config', 'parameters', 'multiply-adds', *metrics]
    columns += ['result from'] * bool(metrics)
    head = ['| ' + ' | '.join(columns) + ' |', '|---' * len(columns) + '|']
    return '\n'.join(head + [row(entry, metrics) for entry in entries])


def put(text: str, name: str, content: str) -> str:
    """Replaces what stands between two marks of a text.

    Args:
        text: The text, with lines `<!-- NAME -->` and `<!-- /NAME -->`.
        name: The marks' name.
        content: What is to stand there.

    Returns:
        The text.

    Raises:
        InputError: The marks are not there.
    """
    start, end = f'<!-- {name} -->\n', f'\n<!-- /{name} -->'
    if text.count(start) != 1 or text.count(end) != 1:
        raise InputError(
            f'{README} must have one line {start.strip()} and one '
            f'line {end.strip()} for a table between them.'
        )
    return text.split(start)[0] + start + content + end + text.split(end)[1]


def generate(root: Path) -> dict[Path, str]:
    """What the model zoo's files have to hold.

    Args:
        root: The repository, with configs and what there is of the files.

    Returns:
        Their contents by path, relative to the root.
    """
    meta = yaml.safe_load((root / METAFILE).read_text())
    known = {entry['Name']: entry for entry in meta['Models']}
    tables = {name: [] for name in METRICS}
    for path in (root / 'configs').glob('*.py'):
        cfg = Config.fromfile(path)
        tables[table_of(cfg)].append(describe(cfg, path.stem, known.get(path.stem, {})))
    for entries in tables.values():
        entries.sort(
            key=lambda entry: (
                entry['In Collection'],
                entry['Metadata']['FLOPs'],
                entry['Name'],
            )
        )
    meta['Models'] = [entry for table in tables.values() for entry in table]
    readme = (root / README).read_text()
    for name, entries in tables.items():
        readme = put(readme, name, table(entries, METRICS[name]))
    listing = yaml.safe_dump(meta, sort_keys=False, allow_unicode=True)
    return {METAFILE: HEADER + listing, README: readme}


def main() -> None:
    """Write the files."""
    for path, content in generate(ROOT).items():
        (ROOT / path).write_text(content)
        print(f'Written: {path}')


if __name__ == '__main__':
    run(main)
