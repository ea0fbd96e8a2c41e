# SPDX-License-Identifier: Apache-2.0
"""A classifier with the names of mmpretrain's, for where there is no mmpretrain."""

import os
from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn

from mmadaptor.checkpoints.loading import read_checkpoint, weights_of
from mmadaptor.checkpoints.strict import in_backbone, load_strict, unmatched

from .arguments import check_integer, check_patterns
from .backbones.base import AdaptableBackbone
from .layers.last_reset import LastReset
from .published import as_ours


class Classifier(nn.Module):
    """A backbone, the mean over the pixels of its last map, and a linear layer.

    Its parameters have the names that they have in an `ImageClassifier` of mmpretrain:
    `backbone.` and `head.fc.`.

    Args:
        backbone: Its last output is a map, or the class token of a Vim.
        num_classes: Number of classes. 0: the features are returned.
        drop_rate: Dropout before the linear layer.

    Raises:
        ValueError: `num_classes` is not an integer of 0 or more.
    """

    def __init__(
        self,
        backbone: AdaptableBackbone,
        num_classes: int = 1000,
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        check_integer('num_classes', num_classes, 0)
        self.backbone = backbone
        fc = nn.Identity()
        if num_classes:
            fc = nn.Linear(backbone.out_channels[-1], num_classes)
        self.head = nn.Sequential(OrderedDict(drop=nn.Dropout(drop_rate), fc=fc))
        self.last_reset = LastReset(self.reset_parameters)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialize the linear layer; others have methods of their own."""
        if isinstance(self.head.fc, nn.Linear):
            nn.init.normal_(self.head.fc.weight, std=0.02)
            nn.init.zeros_(self.head.fc.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Classify images.

        Args:
            images: `(B, in_channels, H, W)`.

        Returns:
            Logits `(B, num_classes)`.
        """
        return self.head(pooled(self.backbone(images)[-1]))

    def load_pretrained(
        self, source: str | os.PathLike, skip: Sequence[str] = ()
    ) -> None:
        """Load a checkpoint of a classifier, strictly.

        Args:
            source: A path or URL; published weights are converted.
            skip: Regular expressions of names that keep their initial values.

        Raises:
            ValueError: `skip` is not a list of regular expressions.
            InputError: The file is missing, damaged, or of another model.
        """
        check_patterns('skip', skip)
        source = os.fspath(source)
        state = as_ours(weights_of(read_checkpoint(source), source), source)
        state = {name: state[name] for name in unmatched(state, skip)}
        optional = in_backbone(self.backbone.optional_keys)
        load_strict(self, state, source, [*skip, *optional])


def pooled(features: Tensor) -> Tensor:
    """Return the mean over the pixels of a map; a class token stays as it is."""
    return features.mean(dim=(2, 3)) if features.dim() == 4 else features
