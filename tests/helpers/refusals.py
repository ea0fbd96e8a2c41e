# SPDX-License-Identifier: Apache-2.0
"""What the checks say of a config."""

import json

import pytest

from mmadaptor.engine.checks.preflight import check_training
from mmadaptor.errors import InputError


def problems(cfg, check=check_training):
    with pytest.raises(InputError) as error:
        check(cfg)
    return str(error.value)


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
