"""An augmentation of your own: some frames of a clip are lost, and the one before stands in.

    python examples/own_augmentation.py SHARDS

A recipe decides everything about a sample before a byte is read. One that goes on where another ends changes what that
decided: frame numbers here, `plan.augment` (windows, colours, blur) just as well.
"""

import sys
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pclkd.pipeline import ClipConfig, ClipPlan, TupleRecipe, clip_loader
from pclkd.pipeline.randomness import Purpose, uniform

__all__ = ["LostFrames"]

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class LostFrames(TupleRecipe):
    """PCL tuples, each of whose frames but a clip's first is lost with some probability.

    Attributes:
        lost: that probability.
    """

    lost: float = 0.3

    def plan(self, epoch: int, sample_ids: Ints, frames: Ints, sizes: Ints, crop: int) -> ClipPlan:
        """A pure function of (seed, epoch, sample): the same on any number of processes."""
        plan = super().plan(epoch, sample_ids, frames, sizes, crop)
        views, length = plan.frames.shape[1:]
        # The recipe's own augmentation draws under this purpose: another seed gives other numbers.
        drawn = uniform(self.seed + 1, epoch, sample_ids, Purpose.AUGMENT, views * length).reshape(-1, views, length)
        there = np.where(drawn < self.lost, 0, np.arange(length))
        return replace(plan, frames=np.take_along_axis(plan.frames, np.maximum.accumulate(there, axis=2), axis=2))


def main(shards: str) -> None:
    """Print how much of a batch stands still."""
    with clip_loader(shards, ClipConfig(recipe=LostFrames(seed=0)), batch_size=4, crop=48, modality="rgb") as loader:
        clips = next(iter(loader)).clips
        still = (clips.diff(dim=3) == 0).all(dim=5).all(dim=4).all(dim=2).float().mean()
        print(f"clips {list(clips.shape)}, {100 * still:.0f} % of the frames are the one before")


if __name__ == "__main__":
    main(sys.argv[1])
