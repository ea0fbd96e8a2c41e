# SPDX-License-Identifier: Apache-2.0
"""The log of a short run is short; its file has everything."""

import re

from helpers.jobs import TOY, tool, write_config

# Sets the decay of each parameter, which mmengine logs in five lines each.
PARAMWISE = """
optim_wrapper['optimizer']['weight_decay'] = .05
optim_wrapper['paramwise_cfg'] = dict(norm_decay_mult=0., bias_decay_mult=.5)
"""


def test_a_short_run(tmp_path):
    config = write_config(tmp_path, TOY + PARAMWISE, work_dir=str(tmp_path / 'run'))
    arguments = ['--cfg-options', 'train_cfg.max_epochs=1']
    result = tool('train', config, *arguments, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    shown = result.stdout + result.stderr
    assert len(shown.splitlines()) < 30, shown
    assert 'Epoch(train) [1]' in shown and 'Saving checkpoint' in shown
    path = re.search(r'order of the hooks are in (\S+)', shown)[1]
    kept = (tmp_path / path).read_text()
    for text in (
        'System environment:',
        'Config:',
        'Hooks will be executed',
        'paramwise_options -- ',
    ):
        assert text in kept and text not in shown
    assert all(line in kept for line in re.findall(r'.*Epoch\(train\).*', shown))
