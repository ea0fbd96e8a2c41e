# SPDX-License-Identifier: Apache-2.0
"""Regenerate the model zoo: configs/metafile.yml and the tables in configs/README.md.

Parameters and multiply-adds are counted. Configs missing in the metafile are added, and
entries without a config are removed. Results cannot be computed here and are kept as
configs/metafile.yml has them.
"""

from pathlib import Path

import torch
import yaml
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

import mmadaptor  # noqa: F401
from mmadaptor.analysis.flops import count, input_size
from mmadaptor.arguments import parser_of
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
    fashion={},
    trees={},
    shapes={},
)
EXAMPLE = 'python tools/model_zoo.py'


def table_of(cfg: Config) -> str:
    """Return the key of `METRICS` whose table lists a config."""
    name = Path(cfg.get('data_root') or '').name
    return name if name in METRICS else TABLES[cfg.default_scope]


def describe(cfg: Config, name: str, known: dict) -> dict:
    """Compute the metafile entry of a config.

    Args:
        cfg: The config.
        name: Name of its file, without extension.
        known: Its current entry, or an empty dict.
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
    by_hand = {'Results From': UNTRAINED} if METRICS[table_of(cfg)] else {}
    by_hand.update((k, known[k]) for k in ('Results', 'Results From') if k in known)
    return {
        'Name': name,
        'In Collection': COLLECTION if has_adaptors else kind,
        'Config': f'configs/{name}.py',
        'Metadata': {
            'Parameters': parameters,
            'FLOPs': modules['total'],
            'Input': 'x'.join(map(str, shape)),  # mim search reads no list of numbers
        },
        **by_hand,
    }


def row(entry: dict, metrics: dict[str, str]) -> str:
    """Format the Markdown table row of a config.

    Args:
        entry: Its metafile entry.
        metrics: Name of the metric of each column in the metafile.
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
    """Format a Markdown table of configs.

    Args:
        entries: Their metafile entries.
        metrics: Name of the metric of each column in the metafile.
    """
    columns = ['config', 'parameters', 'multiply-adds', *metrics]
    columns += ['result from'] * bool(metrics)
    head = ['| ' + ' | '.join(columns) + ' |', '|---' * len(columns) + '|']
    return '\n'.join(head + [row(entry, metrics) for entry in entries])


def put(text: str, name: str, content: str) -> str:
    """Replace the text between two markers.

    Args:
        text: The text, with lines `<!-- NAME -->` and `<!-- /NAME -->`.
        name: Name of the markers.
        content: The new text between them.

    Raises:
        InputError: There is no such pair of markers, or more than one.
    """
    start, end = f'<!-- {name} -->\n', f'\n<!-- /{name} -->'
    if text.count(start) != 1 or text.count(end) != 1:
        raise InputError(
            f'{README} must have one line {start.strip()} and one '
            f'line {end.strip()} for a table between them.'
        )
    return text.split(start)[0] + start + content + end + text.split(end)[1]


def generate(root: Path) -> dict[Path, str]:
    """Generate the files of the model zoo.

    Args:
        root: The repository, with the configs and the current files.

    Returns:
        The contents by path relative to `root`.
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
    parser_of(__doc__, EXAMPLE).parse_args()
    for path, content in generate(ROOT).items():
        (ROOT / path).write_text(content)
        print(f'Written: {path}')


if __name__ == '__main__':
    run(main)
