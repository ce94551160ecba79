"""A video as a stream of JPEG frames, as a shard stores them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pclkd.sharding.decode import UnreadableVideoError, open_frames
from pclkd.sharding.jpeg import encode_jpeg
from pclkd.sharding.manifest import PackSettings

__all__ = ["EncodedVideo", "UnreadableVideoError", "open_video"]


@dataclass(frozen=True)
class EncodedVideo:
    """An open video: frames a second, stored size in pixels, and its JPEG frames in display order.

    `frames` can be gone through once, while the video is open, and holds a few frames at a time.
    """

    fps: float
    height: int
    width: int
    frames: Iterator[bytes]


@contextmanager
def open_video(path: Path, settings: PackSettings) -> Iterator[EncodedVideo]:
    """Open a video and encode its frames one by one as they are asked for.

    Raises:
        UnreadableVideoError: at opening or while iterating, when the file is no whole video.
    """
    height, width = settings.height, settings.width
    with open_frames(path, height, width) as (fps, decoded):
        yield EncodedVideo(fps, height, width, (encode_jpeg(frame, settings.quality) for frame in decoded))
