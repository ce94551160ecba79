"""The clips that a benchmark trains on or delivers, and waiting for the device; without any part of the loader."""

import dataclasses
from dataclasses import dataclass

import torch

from pclkd.pipeline.clips.sampling import TupleSettings
from pclkd.pipeline.config import DataSettings, LoaderSettings
from pclkd.pipeline.pretext.base import TUPLE_VIEWS
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.shards.index import ShardIndex

__all__ = ["ClipShape", "synchronise"]


@dataclass(frozen=True)
class ClipShape:
    """B samples of V = 3 clips [C, T, H, W].

    Attributes:
        batch_size: B.
        frames: T.
        crop: H and W in pixels; None takes `usual_crop`, or less where the stored frames are smaller.
        usual_crop: see `crop`.

    Raises:
        InputError: T or the crop is not what the pretext task can take apart.
    """

    batch_size: int
    frames: int
    crop: int | None = None
    usual_crop: int = 112
    views: int = TUPLE_VIEWS

    def __post_init__(self) -> None:
        if self.frames < 8 or self.frames % 4:
            raise InputError(
                f"--frames {self.frames}: the pretext task quarters clips, and the networks halve them 3 times",
                remedy="give a multiple of 4 from 8 on",
            )
        if self.crop is not None and (self.crop < 16 or self.crop % 2):
            raise InputError(
                f"--crop {self.crop}: clips are cut into quadrants", remedy="give an even number from 16 on"
            )

    @property
    def tuples(self) -> TupleSettings:
        """Three clips with gaps of half a clip, as PCL has them (16 frames, 8 between)."""
        return TupleSettings(clip_frames=self.frames, clip_stride=self.frames * 3 // 2, remote_distance=self.frames)

    @property
    def config(self) -> DataSettings:
        """For a loader of such batches."""
        return DataSettings(tuples=self.tuples, loader=LoaderSettings(batch_size=self.batch_size, crop=self.side))

    @property
    def side(self) -> int:
        """H and W where nothing is stored that could be smaller."""
        return self.usual_crop if self.crop is None else self.crop

    def fitted(self, index: ShardIndex) -> "ClipShape":
        """The shape with its crop chosen.

        Raises:
            InputError: the crop is larger than the stored frames.
        """
        height, width = index.smallest_frame
        room = min(height, width) // 2 * 2
        if self.crop is not None and self.crop > room:
            raise InputError(
                f"--crop {self.crop} does not fit the stored frames of {height}x{width} in {index.root}",
                remedy=f"use {room} or less",
            )
        return dataclasses.replace(self, crop=min(self.side, room))

    def as_dict(self) -> dict[str, int]:
        """For a result's settings."""
        return {"batch_size": self.batch_size, "clip_frames": self.frames, "crop": self.side}


def synchronise(device: torch.device) -> None:
    """Wait until the device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
