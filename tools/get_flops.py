# SPDX-License-Identifier: Apache-2.0
"""Print the parameters and multiply-adds of a model, including the scan.

Counted are matrix products, convolutions, the scan (9 N + 1 per step) and
Adaptor-T's gather and readout. A two-stage detector counts 1000 box RoIs and 100
mask RoIs.
"""

import argparse

from mmengine.registry import MODELS, init_default_scope
from rich.console import Console
from rich.table import Table

from mmadaptor.analysis.flops import count, input_size
from mmadaptor.arguments import parser_of, positive
from mmadaptor.checkpoints.pretrained import drop_pretrained
from mmadaptor.engine.command_line import add_config_options, read_config, run
from mmadaptor.errors import as_input_error

EXAMPLE = 'python tools/get_flops.py configs/mamba_adaptor_b0_shapes.py --shape 224 224'


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = parser_of(__doc__, EXAMPLE)
    parser.add_argument('config', metavar='CONFIG', help='config file')
    parser.add_argument(
        '--shape',
        type=positive,
        nargs=2,
        metavar=('H', 'W'),
        help='image size in pixels (default: 800 1280 for detection, 512 2048 for '
        'segmentation, 224 224 for classification, 128 128 for the embedded dataset)',
    )
    add_config_options(parser)
    return parser.parse_args()


def main() -> None:
    """Build the model of the config, count, print."""
    args = parse_args()
    config = read_config(args.config, args.cfg_options)
    init_default_scope(config.get('default_scope', 'mmadaptor'))
    shape = args.shape or input_size(config)
    drop_pretrained(config.model)  # LoRAModel loads it when it is built
    with as_input_error('model'):
        model = MODELS.build(config.model).eval()
    modules, ours = count(model, shape)

    table = Table(title=f'{args.config} at {shape[0]} x {shape[1]}')
    table.add_column('module')
    table.add_column('parameters, M', justify='right')
    table.add_column('multiply-adds, G', justify='right')
    # Modules for training only, such as an auxiliary head, have no count.
    for name, module in (*model.named_children(), ('total', model)):
        parameters = sum(p.numel() for p in module.parameters())
        if parameters or modules.get(name):
            flops = f'{modules[name] / 1e9:.3f}' if name in modules else ''
            table.add_row(name, f'{parameters / 1e6:.3f}', flops)
    for name, flops in ours.items():
        table.add_row(f'of which {name}', '', f'{flops / 1e9:.3f}')
    Console(markup=False).print(table)  # a path may have brackets


if __name__ == '__main__':
    run(main)
