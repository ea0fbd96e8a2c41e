# SPDX-License-Identifier: Apache-2.0
"""The datasets and metrics of a job: built for the runner, then checked."""

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mmengine.evaluator import Evaluator
from mmengine.registry import LOOPS

from mmadaptor.checkpoints.openmmlab import unwrapped
from mmadaptor.datasets.image_files import kind_problem
from mmadaptor.registry import in_scope
from mmadaptor.toolbox_code import of_toolbox

from .coco import check_metric, is_coco_metric
from .content import Part
from .copies import kept_random_state
from .datasets import Built, build, build_leaves, leaves, name_of
from .heads import check_classes, check_heads, check_metrics, ignored_labels
from .report import Report

if TYPE_CHECKING:
    from ..runner import Runner


class JobData:
    """The data of a job, which takes the place of its configs in the runner.

    Args:
        runner: The runner, before it builds a loop.
        splits: The data that the job uses: `'train'`, `'val'`, `'test'`.
        report: Takes the problems and notes.
    """

    def __init__(self, runner: 'Runner', splits: Sequence[str], report: Report) -> None:
        self.runner, self.splits, self.report = runner, splits, report
        self.model = unwrapped(runner.model)
        self.parts: list[Part] = []

    def build(self) -> None:
        """Build datasets and metrics, and read the annotations if no file is missing.

        Otherwise the parts are those of which something is known without their files.
        """
        cfgs, complete = {}, True
        for split in self.splits:
            cfg, found = self._build_dataset(split)
            cfgs |= {split: cfg} if cfg else {}
            parts = [
                Part(key, dataset, self.report, self.model, own)
                for key, dataset, own in found
            ]
            for part in parts:
                complete &= part.check_paths()
            self._build_metrics(split)
            self.parts += parts
        if not complete:  # reading annotations may take minutes
            self.parts = [part for part in self.parts if part.is_known]
            return
        ignored = ignored_labels(self.model)
        for part in self.parts:
            part.initialize(ignored)
        for split, cfg in cfgs.items():
            self._wrap(split, cfg)

    def _parts_of(self, split: str) -> list[Part]:
        return [part for part in self.parts if part.split == split]

    def _of_runner(self, split: str, name: str) -> Any:
        return getattr(self.runner, f'_{split}_{name}', None)

    def _build_dataset(
        self, split: str
    ) -> tuple[dict | None, list[tuple[str, Any, bool]]]:
        """Build what reads files, as :func:`build_leaves` does."""
        loader = self._of_runner(split, 'dataloader')
        cfg = loader.get('dataset') if isinstance(loader, dict) else None
        if not isinstance(cfg, dict) or isinstance(cfg.get('type'), Built):
            return None, []
        return build_leaves(cfg, f'{split}_dataloader.dataset', self.report)

    def _wrap(self, split: str, cfg: dict) -> None:
        """Build the wrappers of a dataset that was read, and give it to the runner."""
        if not all(part.is_read for part in self._parts_of(split)):
            return  # `initialize` has said why
        key = f'{split}_dataloader.dataset'
        with self.report.collect(key, name_of(cfg)):
            dataset = build(cfg)
            if hasattr(dataset, 'full_init'):
                dataset.full_init()
            self._of_runner(split, 'dataloader')['dataset'] = dict(type=Built(dataset))
            # That of several folds takes a part of its dataset.
            replaced = {name: leaf for name, leaf, _ in leaves(dataset, key)}
            for part in self._parts_of(split):
                part.dataset = replaced.get(part.key, part.dataset)

    def _build_metrics(self, split: str) -> None:
        key, evaluator = f'{split}_evaluator', self._of_runner(split, 'evaluator')
        metrics = evaluator if isinstance(evaluator, list | tuple) else [evaluator]
        are_configs = all(isinstance(metric, dict) for metric in metrics)
        if not (are_configs and self._is_one_evaluation(split)):
            return
        files = [str(each.get('ann_file') or each.get('type')) for each in metrics]
        # A pipe would be waited for.
        if all(
            [self.report.require(key, file) for file in files if kind_problem(file)]
        ):
            with self.report.collect(key, ', '.join(files)):
                built = self.runner.build_evaluator(evaluator)
                setattr(self.runner, f'_{key}', built)

    def _is_one_evaluation(self, split: str) -> bool:
        """Return whether a loop evaluates one data loader by one evaluator.

        A user-defined one may take lists of both.
        """
        loop, loader = (self._of_runner(split, n) for n in ('loop', 'dataloader'))
        kind = in_scope(LOOPS, loop.get('type')) if isinstance(loop, dict) else None
        known = kind is None or of_toolbox(getattr(kind, '__init__', None))
        return known and not isinstance(loader, list | tuple)

    def check(self) -> None:
        """Check datasets against their files, each other, the model and the metrics."""
        images: dict[str, set] = defaultdict(set)
        for part in self.parts:
            key, dataset = part.key, part.dataset
            with kept_random_state():
                images[part.split] |= part.check_content()
            first = self._parts_of(part.split)[0].dataset
            report = self.report.unless(part.may_relabel)
            labels = None if part.is_known else part.labels
            check_heads(self.model, dataset, key, report, first, labels)
            evaluator = self._of_runner(part.split, 'evaluator')
            if isinstance(evaluator, Evaluator):  # and not the config of a loop's own
                check_metrics(evaluator, dataset, key, self.report, self.model)
        if both := len(images['train'] & images['val']):
            self.report.note(
                f'val_dataloader: {both} of its {len(images["val"])} images are in '
                'train_dataloader too'
            )
        for part in self.parts[1:]:
            pair = self.parts[0], part
            if part.numbered:
                report = self.report.unless(any(each.may_relabel for each in pair))
                first, other = ((each.key, each.dataset) for each in pair)
                check_classes(first, other, report)
        for split in self.splits:
            self._check_coco_metrics(split)

    def _check_coco_metrics(self, split: str) -> None:
        """Check the annotation files that COCO metrics compare with."""
        key, evaluator = f'{split}_evaluator', self._of_runner(split, 'evaluator')
        parts = self._parts_of(split)
        # An evaluator of several datasets has another file for each.
        if type(evaluator) is not Evaluator or not parts:
            return
        cfgs = self.runner.cfg.get(key)
        cfgs = cfgs if isinstance(cfgs, list | tuple) else [cfgs]
        for metric, cfg in zip(evaluator.metrics, cfgs, strict=False):
            if is_coco_metric(metric) and all(part.is_read for part in parts):
                path = (cfg or {}).get('ann_file') or key
                with self.report.collect(key, path):
                    check_metric(key, path, metric, parts, self.report)
