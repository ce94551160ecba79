"""Checkpoints written beside training: a copy is taken between two steps, the file is written by a thread."""

import os
import re
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch

from pclkd.training.runs.checkpoint import CHECKPOINT_NAME, Checkpoint, save_checkpoint
from pclkd.training.settings import CheckpointSettings

__all__ = ["BEST_NAME", "CheckpointWriter"]

BEST_NAME = "best.pt"
_EPOCH_NAME = re.compile(r"epoch-(\d{4,})\.pt")


class CheckpointWriter:
    """Writes the checkpoints of a run folder, one at a time, in the order they were given.

    Each goes to a temporary name, is synced and renamed; `last.pt` moves only after the others of its epoch.

    Args:
        folder: of the run.
        settings: what to keep.
        best: the highest value so far of a resumed run, None for a fresh one.
    """

    def __init__(self, folder: Path, settings: CheckpointSettings, best: float | None = None) -> None:
        self._folder, self._settings = folder, settings
        self.best = best
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="pclkd-checkpoint")
        self._pending: Future[None] | None = None

    def save(self, checkpoint: Checkpoint, measured: dict[str, Any] | None = None) -> None:
        """Copy the state now and write it in the background; waits for an earlier write that is still under way.

        Args:
            checkpoint: of a step; its tensors may change as soon as this returns.
            measured: figures of a finished epoch; None within an epoch.

        Raises:
            OSError: an earlier write failed.
        """
        self.wait()
        names = []
        if measured is not None:
            if self._settings.keep:
                names.append(f"epoch-{checkpoint.epoch:04d}.pt")
            value = measured.get(self._settings.best)
            if value is not None and (self.best is None or value > self.best):
                self.best = float(value)
                names.append(BEST_NAME)
        copied = replace(_copied(checkpoint), best=self.best)
        self._pending = self._thread.submit(self._write, copied, [*names, CHECKPOINT_NAME])

    def wait(self) -> None:
        """Until everything is written.

        Raises:
            OSError: a write failed.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def close(self) -> None:
        """Finish the write that is under way, and end the thread.

        Raises:
            OSError: it failed.
        """
        try:
            self.wait()
        finally:
            self._thread.shutdown(wait=True)

    def _write(self, checkpoint: Checkpoint, names: list[str]) -> None:
        first = self._folder / names[0]
        save_checkpoint(first, checkpoint)
        for name in names[1:]:
            # The same bytes under further names: links cost nothing, and each is replaced on its own.
            link = self._folder / f"{name}.part"
            link.unlink(missing_ok=True)
            try:
                os.link(first, link)
            except OSError:  # a file system without links
                save_checkpoint(self._folder / name, checkpoint)
            else:
                link.replace(self._folder / name)
        if self._settings.keep:
            kept = sorted(path for path in self._folder.iterdir() if _EPOCH_NAME.fullmatch(path.name))
            for path in kept[: -self._settings.keep]:
                path.unlink()


def _copied(checkpoint: Checkpoint) -> Checkpoint:
    return Checkpoint(**{field.name: _copy(getattr(checkpoint, field.name)) for field in fields(checkpoint)})


def _copy(value: Any) -> Any:
    """Tensors on the host, in memory of their own; containers afresh; anything else as it is."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: _copy(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_copy(inner) for inner in value)
    return value
