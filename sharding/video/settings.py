"""How large the frames of a video are stored."""

from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

from pclkd.sharding.common.errors import InputError

__all__ = ["CHROMAS", "MAX_PIXELS", "PackSettings", "settings_as_json", "stored_size"]


CHROMAS = ("4:2:0", "4:4:4")
MAX_PIXELS = 8192 * 4352
"""Pixels of the largest frame that is decoded, a little over 8K: headers can announce any size."""


@dataclass(frozen=True)
class PackSettings:
    """How frames are stored. The bytes of a shard depend on these and on its videos alone.

    Attributes:
        height: pixels; 0 with `short_side`.
        width: pixels; 0 with `short_side`.
        short_side: pixels of the shorter side, where each video keeps its aspect; 0: exactly `height` x `width`.
        fps: frames a second to keep; 0: all.
        max_frames: frames to keep at most, from the start; 0: all.
        quality: JPEG quality, 1 to 95.
        chroma: "4:2:0" or "4:4:4".
        salvage: frames that the longest sound run of a damaged video must have to be kept; 0: none is kept.
        videos_per_shard: videos in a shard.

    Raises:
        InputError: a value out of range.
    """

    height: int = 128
    width: int = 171
    short_side: int = 0
    fps: float = 0.0
    max_frames: int = 0
    quality: int = 90
    chroma: str = "4:2:0"
    salvage: int = 0
    videos_per_shard: int = 128

    def __post_init__(self) -> None:
        if self.short_side:
            if self.height or self.width:
                raise InputError(
                    f"a frame size of {self.height}x{self.width} and a short side of {self.short_side} pixels",
                    remedy="give one of the two",
                )
            if not 16 <= self.short_side <= 4096:
                raise InputError(f"a short side of {self.short_side} pixels", remedy="use 16 to 4096")
        elif min(self.height, self.width) < 16 or max(self.height, self.width) > 4096:
            raise InputError(f"a frame size of {self.height}x{self.width} pixels", remedy="use 16 to 4096 a side")
        if not 0 <= self.fps <= 1000:
            raise InputError(f"{self.fps} frames a second", remedy="use up to 1000, or 0 to keep every frame")
        if self.salvage < 0:
            raise InputError(f"sound runs of {self.salvage} frames", remedy="use 1 or more, or 0 to keep none")
        if self.max_frames < 0:
            raise InputError(f"at most {self.max_frames} frames", remedy="use 1 or more, or 0 to keep all")
        if not 1 <= self.quality <= 95:
            raise InputError(f"a JPEG quality of {self.quality}", remedy="use 1 to 95")
        if self.chroma not in CHROMAS:
            raise InputError(f"a chroma sampling of {self.chroma!r}", remedy=f"use {' or '.join(CHROMAS)}")


def settings_as_json(settings: PackSettings) -> dict[str, Any]:
    """Return the settings as they stand in files: those that came later only where they are used."""
    return {name: value for name, value in asdict(settings).items() if value or name != "salvage"}


def stored_size(height: int, width: int, pixel_aspect: Fraction, settings: PackSettings) -> tuple[int, int]:
    """Return (height, width) in pixels at which to store frames that are shown as `height` x `width`.

    With a short side, the shorter side gets that many pixels and the other keeps the aspect, rounded half up. With
    chroma of half the size both are made even, upwards for the short side and to the nearest for the long one.

    Args:
        height: of the upright frame, pixels.
        width: likewise.
        pixel_aspect: width of a pixel over its height; 1 for square pixels.
        settings: exact size or short side, and the chroma sampling.
    """
    if not settings.short_side:
        return settings.height, settings.width
    aspect = width * pixel_aspect / height
    grid = 2 if settings.chroma == "4:2:0" else 1
    short = -(-settings.short_side // grid) * grid
    long = max(short, grid * int(short * max(aspect, 1 / aspect) / grid + Fraction(1, 2)))
    return (short, long) if aspect >= 1 else (long, short)
