# SPDX-License-Identifier: Apache-2.0
"""An image of the run: losses and validation metrics."""

import os
from typing import Any

from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmadaptor.registry import HOOKS


@HOOKS.register_module()
class CurvesHook(Hook):
    """Draws the losses and the validation metrics into `curves.png`.

    They come from mmengine's message hub, which is saved with each checkpoint, so the
    curves of a resumed run start where the run started.
    """

    priority = 'LOW'

    @master_only
    def draw(self, runner: Runner, **kwargs: Any) -> None:
        """Draw the run so far, if there is a loss yet."""
        from mmadaptor.visualization.curves import draw_curves  # needs matplotlib

        figure = draw_curves(runner.message_hub)
        if figure is not None:
            figure.suptitle(runner.experiment_name)
            figure.savefig(os.path.join(runner.work_dir, 'curves.png'), dpi=100)

    after_val_epoch = after_train = draw
