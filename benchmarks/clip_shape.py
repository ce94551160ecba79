"""The shape of a batch, as the benchmarks' command lines give it."""

import dataclasses
from dataclasses import dataclass

import torch

from pclkd.pipeline.sampling import TupleSettings
from pclkd.sharding.errors import InputError
from pclkd.sharding.index import ShardIndex

__all__ = ["ClipShape", "fit_crop", "synchronise"]

_PUBLISHED_CROP = 112


@dataclass(frozen=True)
class ClipShape:
    """B samples of V = 3 clips [C, T, H, W].

    Attributes:
        batch_size: B.
        frames: T.
        crop: H and W in pixels; 0 stands for 112, or what the stored frames allow.

    Raises:
        InputError: T or the crop is not what the pretext task can take apart.
    """

    batch_size: int
    frames: int
    crop: int
    views: int = 3

    def __post_init__(self) -> None:
        if self.frames < 4 or self.frames % 4:
            raise InputError(f"--frames {self.frames}: clips are cut into quarters", remedy="give a multiple of 4")
        if self.crop and (self.crop < 16 or self.crop % 2):
            raise InputError(
                f"--crop {self.crop}: clips are cut into quadrants", remedy="give an even number from 16 on"
            )

    @property
    def tuples(self) -> TupleSettings:
        """Three clips with gaps of half a clip, as PCL has them (16 frames, 8 between)."""
        return TupleSettings(clip_frames=self.frames, clip_stride=self.frames * 3 // 2, remote_distance=self.frames)

    def as_dict(self) -> dict[str, int]:
        """For a result's settings."""
        return {"batch_size": self.batch_size, "clip_frames": self.frames, "crop": self.crop}


def fit_crop(shape: ClipShape, index: ShardIndex) -> ClipShape:
    """The shape with its crop chosen, if it was left open."""
    if shape.crop:
        return shape
    return dataclasses.replace(shape, crop=min(_PUBLISHED_CROP, min(index.frame_size) // 2 * 2))


def synchronise(device: torch.device) -> None:
    """Wait until the device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
