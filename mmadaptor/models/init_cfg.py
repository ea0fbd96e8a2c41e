# SPDX-License-Identifier: Apache-2.0
"""mmengine's `init_cfg`, for modules that need torch alone."""

import copy
from collections.abc import Mapping
from typing import Any

from torch import nn

from mmadaptor.checkpoints.pretrained import is_pretrained


def check_init_cfg(value: Any) -> None:
    """Check mmengine's initialization config.

    Raises:
        ValueError: It is neither None nor a dict nor a list of dicts.
    """
    configs = value if isinstance(value, list | tuple) else [value]
    if value is not None and not all(isinstance(c, Mapping) for c in configs):
        raise ValueError(
            f'`init_cfg` must be a dict, a list of dicts or None, got {value!r}'
        )


class InitializedModule(nn.Module):
    """A module with `init_cfg` and `init_weights`, as mmengine's `BaseModule`.

    Args:
        init_cfg: mmengine's initialization config. What is not `Pretrained` needs
            mmengine.

    Raises:
        ValueError: `init_cfg` has another type.
    """

    def __init__(self, init_cfg: dict | list[dict] | None = None) -> None:
        check_init_cfg(init_cfg)
        super().__init__()
        self.init_cfg = copy.deepcopy(init_cfg)
        self.is_init = False

    def init_weights(self) -> None:
        """Initialize as `init_cfg` says, once; a pretrained file comes last.

        Without a config, parameters keep the values from construction.
        """
        if self.is_init:
            return
        configs = self.init_cfg or []
        configs = [configs] if isinstance(configs, Mapping) else configs
        for config in configs:
            if not is_pretrained(config):
                self._initialize(config)
        for module in self.modules():  # of others, in a subclass or as its norms
            if module is not self and not getattr(module, 'is_init', True):
                module.init_weights()
        for config in filter(is_pretrained, configs):
            self.load_pretrained(config)
        self.is_init = True

    def load_pretrained(self, config: dict) -> None:
        """Load `dict(type='Pretrained', ...)`."""
        self._initialize(config)

    def _initialize(self, config: dict) -> None:
        from mmengine.model import initialize

        initialize(self, config)
