"""A pretext task of your own: does the middle clip play forwards or backwards?

    python examples/own_pretext_task.py SHARDS

Source: Wei et al., "Learning and Using the Arrow of Time", CVPR 2018.
"""

import sys
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from pclkd.pipeline import ClipConfig, Pretext, PretextDraw, TupleRecipe, clip_loader
from pclkd.pipeline.pretext.base import Facts, middle
from pclkd.pipeline.randomness import Purpose, integers

__all__ = ["ArrowOfTime"]


class ArrowDraw(PretextDraw):
    """Which middle clips are reversed: those of label 1."""

    def apply(self, clips: torch.Tensor) -> torch.Tensor:
        """Reverse them in their own memory; [B, V, C, T, H, W]."""
        self._check_batch(clips)
        place = middle(clips.shape[1])
        backwards = torch.from_numpy(np.flatnonzero(self.label)).to(clips.device)
        clips[backwards, place] = clips[backwards, place].flip(2)  # C, T, H, W are 1 to 4 here
        return clips


@dataclass(frozen=True)
class ArrowOfTime(Pretext):
    """Tell the direction of time in the middle clip; the other two stay as they are, for contrast."""

    name: ClassVar[str] = "arrow"

    @property
    def classes(self) -> tuple[str, ...]:
        """The labels' meaning."""
        return ("forwards", "backwards")

    def contrast_views(self, views: int) -> tuple[int, ...]:
        """All but the middle one."""
        return tuple(view for view in range(views) if view != middle(views))

    def draw(self, seed: int, epoch: int, sample_ids: NDArray[np.int64], facts: Facts) -> ArrowDraw:  # noqa: ARG002
        """A fair coin a sample, a pure function of (seed, epoch, sample): the same on any number of processes."""
        label = integers(seed, epoch, sample_ids, Purpose.PRETEXT, 1, len(self.classes))[:, 0]
        return ArrowDraw(self.classes, label)


def main(shards: str) -> None:
    """Print what a batch of the task looks like."""
    config = ClipConfig(recipe=TupleRecipe(seed=0, pretext=ArrowOfTime()))
    with clip_loader(shards, config, batch_size=4, crop=48) as loader:
        batch = next(iter(loader))
        print(f"clips {list(batch.clips.shape)}, labels {batch.pretext_label.tolist()}")


if __name__ == "__main__":
    main(sys.argv[1])
