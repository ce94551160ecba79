"""Measuring what stands in a run's folder, by any protocol, and writing it down there."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from pclkd.sharding.common.files import write_text
from pclkd.sharding.common.settings import change
from pclkd.sharding.shards.index import ShardIndex
from pclkd.training.compute.distributed import choose_device
from pclkd.training.evaluation.accuracy import mean_over_splits
from pclkd.training.evaluation.evaluator import Evaluator, VideoFeatures
from pclkd.training.evaluation.finetune import FinetuneSettings, finetune
from pclkd.training.models.memory_layout import placed
from pclkd.training.models.pcl_model import PclModel
from pclkd.training.runs import run_folder
from pclkd.training.runs.checkpoint import CHECKPOINT_NAME, Checkpoint, load_checkpoint, load_model
from pclkd.training.runs.teachers import count_seen

__all__ = ["evaluate_run", "of_checkpoint", "write_evaluation"]


def of_checkpoint(run: Path) -> str:
    """What the names of a checkpoint's results end in: "-best" of best.pt; nothing of a run, which is its last.pt."""
    return "" if run.is_dir() or run.name == CHECKPOINT_NAME else f"-{run.stem}"


def evaluate_run(
    run: Path,
    data: str | Path,
    protocols: Sequence[run_folder.Protocol],
    *,
    splits: Sequence[int] = (),
    clips: int = 10,
    finetuning: FinetuneSettings | None = None,
    step: Callable[[int, float], None] = lambda *_: None,
) -> Iterator[dict[str, Any]]:
    """Measure a run's network by some protocols; each writes `RUN/eval-<protocol>.json` as soon as it is done.

    Features of the videos are computed once for all protocols.

    Fine-tuning keeps its network, of several splits the first one's, in `RUN/finetuned.safetensors`. What
    another checkpoint than last.pt gives is not the run's: figures of `RUN/best.pt` go to
    `RUN/eval-<protocol>-best.json`, which names it, its fine-tuned network to the folder `RUN/finetuned-best`.

    Args:
        run: a run folder or a checkpoint.
        data: the shard set to measure on; it need not be the one trained on.
        protocols: of `PROTOCOLS` in training/runs/run_folder.py.
        splits: official splits; the run's own if empty. With several, the figures are their means (`mean_over_splits`)
            and each split's own stand under "by_split". The network has seen the train part of its own split only,
            without labels: "test_videos_seen" tells how many test videos of the others are among it.
        clips: clips a video, for all but the pretext task.
        finetuning: of the protocol finetune.
        step: called after each epoch of fine-tuning with its number and mean loss.

    Yields:
        The figures of each protocol, with what they were measured on.

    Raises:
        InputError: no such run, data that does not fit or has no labels that the protocol needs, or splits of
            different tests.
    """
    checkpoint = load_checkpoint(run)
    settings = checkpoint.settings
    chosen = list(dict.fromkeys(splits)) or [settings.split]
    index = ShardIndex.open(data)
    for protocol in protocols:
        if protocol != "pretext":
            index.require_labels(f"the protocol {protocol}")
    how = change(finetuning or FinetuneSettings(), {"clips": clips})
    folder, suffix = run if run.is_dir() else run.parent, of_checkpoint(run)
    keep = folder / f"finetuned{suffix}" if suffix else folder
    with ExitStack() as stack:
        measuring = [
            stack.enter_context(
                _OnSplit(checkpoint, run, index, number, how, step, keep if number == chosen[0] else None)
            )
            for number in chosen
        ]
        for protocol in dict.fromkeys(protocols):
            by_split = [split.measure(protocol) for split in measuring]
            figures = by_split[0] if len(chosen) == 1 else mean_over_splits(by_split)
            asked: dict[str, Any] = {"split": chosen[0] if len(chosen) == 1 else chosen}
            if len(chosen) > 1:
                asked |= {"by_split": dict(zip(map(str, chosen), by_split, strict=True))}
            asked |= {"passes": settings.evaluation.pretext_passes} if protocol == "pretext" else {"clips": clips}
            if protocol == "finetune":
                asked |= {"finetune_epochs": how.epochs}
            asked |= {"checkpoint": run.name} if suffix else {}
            yield write_evaluation(folder, protocol, index, {**figures, **asked, "epoch": checkpoint.epoch}, suffix)


def write_evaluation(
    folder: Path, protocol: run_folder.Protocol, index: ShardIndex, found: dict[str, Any], suffix: str = ""
) -> dict[str, Any]:
    """Write what a protocol found on a shard set to `folder/eval-<protocol>.json`, and return what stands there.

    With a `suffix` (`of_checkpoint`) it goes to `folder/eval-<protocol><suffix>.json`, which is not the run's.
    """
    result = {**found, "protocol": protocol, "data_fingerprint": index.fingerprint}
    path = run_folder.evaluation_path(folder, protocol)
    write_text(path.with_stem(f"{path.stem}{suffix}"), json.dumps(result, indent=2) + "\n")
    return result


class _OnSplit:
    """A run's network and one official split: loaders, weights and features are made when first asked for."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        run: Path,
        index: ShardIndex,
        split: int,
        how: FinetuneSettings,
        step: Callable[[int, float], None],
        keep: Path | None,
    ) -> None:
        self._checkpoint, self._run, self._index, self._how = checkpoint, run, index, how
        self._step, self._keep = step, keep
        self._device = choose_device()
        changes = {"split": split, **checkpoint.path_on(self._device).changes}
        self._settings = change(checkpoint.settings, changes)
        index.split_samples(split, "test")  # refuses a split that is not there
        self._seen = count_seen(checkpoint, index, split)
        self._open = ExitStack()

    def measure(self, protocol: run_folder.Protocol) -> dict[str, Any]:
        """What one protocol finds."""
        seen = {} if self._seen is None else {"test_videos_seen": self._seen}
        return {**self._found(protocol), **seen}

    def _found(self, protocol: run_folder.Protocol) -> dict[str, Any]:
        if protocol == "finetune":  # which changes the weights: its network is its own
            network = self._load().base_network
            return finetune(network, self._index, self._settings, self._how, self._device, self._step, self._keep)
        if protocol == "pretext":
            return self._evaluator.pretext(self._model)
        return getattr(self._evaluator, protocol)(*self._features)  # type: ignore[no-any-return]

    @cached_property
    def _features(self) -> tuple[VideoFeatures, VideoFeatures]:
        return self._evaluator.features(self._model, "train"), self._evaluator.features(self._model, "test")

    @cached_property
    def _evaluator(self) -> Evaluator:
        return self._open.enter_context(Evaluator(self._index, self._settings, self._device, self._how.clips))

    @cached_property
    def _model(self) -> PclModel:
        return self._load()

    def _load(self) -> PclModel:
        return placed(load_model(self._checkpoint, self._run), self._device, self._checkpoint.settings.layout)

    def __enter__(self) -> Self:
        """The split itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the loaders."""
        self._open.close()
