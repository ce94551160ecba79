"""A video as a stream of frames as a shard stores them: upright, at the stored size and rate, as JPEG or as pixels."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Generic, TypeVar

import av
import simplejpeg  # type: ignore[import-untyped]

from pclkd.sharding.video.decode import DecodedVideo, UnreadableVideoError, decode_video, telling
from pclkd.sharding.video.scale import RGB, YUV_420, YUV_444, Plane, Scaler, orientation_of
from pclkd.sharding.video.settings import PackSettings, stored_size

__all__ = [
    "EncodedVideo",
    "PlanarVideo",
    "ScaledVideo",
    "UnreadableVideoError",
    "copies_of",
    "encode_planes",
    "keep",
    "open_pixels",
    "open_planes",
    "open_video",
]


ItemT = TypeVar("ItemT")


def copies_of(index: int, source_rate: Fraction, rate: Fraction) -> int:
    """Return how often the frame at `index` is kept: 0 or 1 going down in rate, 1 or more going up.

    Over the first n frames these add up to ceil(n * rate / source_rate), and frame 0 is always kept.
    """
    step = rate / source_rate
    return math.ceil((index + 1) * step) - math.ceil(index * step)


def keep(items: Iterable[ItemT], source_rate: Fraction, rate: Fraction, limit: int) -> Iterator[tuple[ItemT, int]]:
    """Give the frames to keep at another frame rate, each with its number of copies, `limit` at most (0: no limit).

    Their order alone counts. Frame `i` of a video at `r` frames a second is on screen from i/r to (i+1)/r seconds;
    frame `k` of the wanted `f` frames a second is what is on screen at k/f seconds:

        source, r = 25      |0   |1   |2   |3   |4   |        i <= k * r / f < i + 1
        wanted, f = 10      0         1         2             keeps 0, 2 (at 2.5), 5, ...

    `rate` 0 keeps every frame once, and `source_rate` is not looked at. Nothing is asked of `items` once the limit is
    reached.
    """
    kept = 0
    for index, item in enumerate(items):
        copies = copies_of(index, source_rate, rate) if rate else 1
        if limit:
            copies = min(copies, limit - kept)
        if copies:
            yield item, copies
            kept += copies
        if limit and kept == limit:
            return


def encode_planes(planes: Sequence[Plane], quality: int) -> bytes:
    """Encode one frame as baseline JPEG, always with the same settings, so that the same frame gives the same bytes.

    libjpeg-turbo takes the planes as they are: no conversion and no subsampling is left to it. It writes the standard
    Huffman tables: hardware decoders take nothing else, and tables fitted to each frame would save little. Its fast
    DCT is what simplejpeg has for planes: 0.15 dB less than the slow one at quality 90, the same bytes.

    Args:
        planes: Y, Cb and Cr in the full range, uint8; the sizes of Cb and Cr beside Y's choose the chroma sampling.
        quality: 1 to 95.
    """
    luma, blue, red = planes
    jpeg: bytes = simplejpeg.encode_jpeg_yuv_planes(luma, blue, red, quality=quality)
    return jpeg


# What a video may say of its rate when another one is asked for; absurd rates would repeat a frame without end.
_SLOWEST = Fraction(1, 10)
_FASTEST = 10_000
_LONGEST_SIDE = 16_384
_CHROMA = {"4:2:0": YUV_420, "4:4:4": YUV_444}

FrameT = TypeVar("FrameT")


@dataclass(frozen=True)
class _Opened(Generic[FrameT]):
    """An open video: frames a second, stored size in pixels, and its frames.

    `frames` can be gone through once, while the video is open; a frame is made when it is asked for, and none is kept.
    """

    fps: float
    height: int
    width: int
    frames: Iterator[FrameT]


class EncodedVideo(_Opened[bytes]):
    """A video with its frames as JPEG."""


class PlanarVideo(_Opened[tuple[Plane, ...]]):
    """A video with its frames as Y, Cb and Cr: what goes into the JPEG encoder."""


class ScaledVideo(_Opened[Plane]):
    """A video with its frames as RGB, uint8 [height, width, 3]: what the JPEG frames would be without loss."""


@contextmanager
def open_video(path: Path, settings: PackSettings) -> Iterator[EncodedVideo]:
    """Open a video to read its frames as JPEG.

    Raises:
        UnreadableVideoError: at opening or while iterating, when the file is no whole video.
    """

    def encode(planes: tuple[Plane, ...]) -> bytes:
        return encode_planes(planes, settings.quality)

    with decode_video(path) as video:
        size, frames = _stored_frames(video, settings, _CHROMA[settings.chroma], encode)
        yield EncodedVideo(_rate(video, settings), *size, frames)


@contextmanager
def open_planes(path: Path, settings: PackSettings) -> Iterator[PlanarVideo]:
    """Open a video to read its frames as planes, as `open_video` encodes them.

    Raises:
        UnreadableVideoError: at opening or while iterating, when the file is no whole video.
    """
    with decode_video(path) as video:
        size, frames = _stored_frames(video, settings, _CHROMA[settings.chroma], tuple)
        yield PlanarVideo(_rate(video, settings), *size, frames)


@contextmanager
def open_pixels(path: Path, settings: PackSettings) -> Iterator[ScaledVideo]:
    """Open a video to read its frames as pixels, as `open_video` would encode them.

    Raises:
        UnreadableVideoError: at opening or while iterating, when the file is no whole video.
    """
    with decode_video(path) as video:
        size, frames = _stored_frames(video, settings, RGB, lambda planes: planes[0])
        yield ScaledVideo(_rate(video, settings), *size, frames)


def _stored_frames(
    video: DecodedVideo, settings: PackSettings, pixels: str, finish: Callable[[tuple[Plane, ...]], FrameT]
) -> tuple[tuple[int, int], Iterator[FrameT]]:
    if settings.fps and not (video.rate and _SLOWEST <= video.rate <= _FASTEST):
        told = "no frame rate" if not video.rate else f"{float(video.rate):g} frames a second"
        raise UnreadableVideoError(f"tells {told}, which cannot be brought to {settings.fps:g}")
    # The first frame tells the size: headers can be wrong, and only frames carry the turn.
    first = next(video.frames)
    size = _size(first, video.pixel_aspect, settings)
    frames = chain([first], video.frames)
    return size, _finished(frames, video.rate, settings, Scaler(*size, pixels, video.codec), finish)


def _finished(
    frames: Iterator[av.VideoFrame],
    source_rate: Fraction | None,
    settings: PackSettings,
    scale: Scaler,
    finish: Callable[[tuple[Plane, ...]], FrameT],
) -> Iterator[FrameT]:
    rate = Fraction(str(settings.fps))  # as it was written: the float 0.1 is a little more than a tenth
    for number, (frame, copies) in enumerate(keep(frames, source_rate or Fraction(1), rate, settings.max_frames)):
        try:
            planes = scale(frame)
        except (av.FFmpegError, ValueError) as error:
            raise telling(f"cannot be scaled at kept frame {number}", error) from error
        result = finish(planes)
        for _ in range(copies):
            yield result


def _size(frame: av.VideoFrame, pixel_aspect: Fraction, settings: PackSettings) -> tuple[int, int]:
    height, width = frame.height, frame.width
    if orientation_of(frame).transpose:
        height, width, pixel_aspect = width, height, 1 / pixel_aspect
    size = stored_size(height, width, pixel_aspect, settings)
    if max(size) > _LONGEST_SIDE:
        raise UnreadableVideoError(
            f"has frames of {width}x{height} pixels, which would be stored as {size[1]}x{size[0]}"
        )
    return size


def _rate(video: DecodedVideo, settings: PackSettings) -> float:
    return settings.fps or float(video.rate or 0)
