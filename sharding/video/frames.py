"""A video as a stream of frames as a shard stores them: upright, at the stored size and rate, as JPEG or as pixels."""

from array import array
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Generic, TypeVar

import av
import simplejpeg  # type: ignore[import-untyped]

from pclkd.sharding.video.clock import Clock, TimedFrame, keep
from pclkd.sharding.video.decode import DecodedVideo, UnreadableVideoError, decode_video, telling
from pclkd.sharding.video.frame_folder import decode_frame_folder, jpeg_as_it_is
from pclkd.sharding.video.scale import RGB, YUV_420, YUV_444, Plane, Scaler, orientation_of
from pclkd.sharding.video.settings import MAX_PIXELS, PackSettings, stored_size

__all__ = [
    "EncodedVideo",
    "PlanarVideo",
    "ScaledVideo",
    "UnreadableVideoError",
    "choose_pixels",
    "encode_planes",
    "encoded",
    "open_pixels",
    "open_planes",
    "open_video",
]


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


# What a header may say of the rate at which frames are counted; absurd rates would repeat a frame without end.
_SLOWEST = Fraction(1, 10)
_FASTEST = 10_000
# Likewise a frame that stays, by its time stamps.
_LONGEST_STAY_S = 600
_LONGEST_SIDE = 16_384
_CHROMA = {"4:2:0": YUV_420, "4:4:4": YUV_444}

FrameT = TypeVar("FrameT")
Wanted = Callable[[int, float, float], bool]


@dataclass(frozen=True)
class _Opened(Generic[FrameT]):
    """An open video: frames a second, stored size in pixels, and its frames.

    `frames` can be gone through once, while the video is open; a frame is made when it is asked for, and none is kept.
    `times` grows with them: when each comes on screen, in seconds from the first one; it stays empty where they are
    brought to another rate. `remark` is what a user should know about how the file was read. `salvaged` tells which
    frames of a damaged video these are: the first one's number, and that behind the last.
    """

    fps: float
    height: int
    width: int
    frames: Iterator[FrameT]
    times: Sequence[float] = ()
    remark: str = ""
    salvaged: tuple[int, int] | None = None


class EncodedVideo(_Opened[bytes]):
    """A video with its frames as JPEG."""


class PlanarVideo(_Opened[tuple[Plane, ...]]):
    """A video with its frames as Y, Cb and Cr: what goes into the JPEG encoder."""


class ScaledVideo(_Opened[Plane]):
    """A video with its frames as RGB, uint8 [height, width, 3]: what the JPEG frames would be without loss."""


@contextmanager
def open_video(path: Path, settings: PackSettings, wanted: Wanted | None = None) -> Iterator[EncodedVideo]:
    """Open a video, a file or a folder of frames, to read its frames as JPEG. JPEGs that fit are taken as they are.

    Args:
        path: of the video.
        settings: of the frames.
        wanted: tells of a frame's number and of the times at which its first and its last copy are on screen, seconds,
            whether it is of use; others are neither scaled nor encoded, and come as b"".

    Raises:
        UnreadableVideoError: at opening or while iterating, when the file is no whole video.
    """
    with _opened(path) as video:
        yield encoded(video, settings, wanted)


def encoded(video: DecodedVideo, settings: PackSettings, wanted: Wanted | None = None) -> EncodedVideo:
    """Return the frames of an open video as JPEG, see `open_video`."""

    def encode(planes: tuple[Plane, ...]) -> bytes:
        return encode_planes(planes, settings.quality)

    def as_it_is(frame: av.VideoFrame, height: int, width: int, place: tuple[int, float, float]) -> bytes | None:
        if wanted is not None and not wanted(*place):
            return b""
        return jpeg_as_it_is(frame, height, width, settings.chroma)

    return EncodedVideo(*_stored(video, settings, _CHROMA[settings.chroma], encode, as_it_is))


@contextmanager
def open_planes(path: Path, settings: PackSettings) -> Iterator[PlanarVideo]:
    """Open a video to read its frames as planes, as `open_video` encodes them.

    Raises:
        UnreadableVideoError: at opening or while iterating, when the file is no whole video.
    """
    with _opened(path) as video:
        yield PlanarVideo(*_stored(video, settings, _CHROMA[settings.chroma], tuple))


@contextmanager
def open_pixels(path: Path, settings: PackSettings) -> Iterator[ScaledVideo]:
    """Open a video to read its frames as pixels, as `open_video` would encode them.

    Raises:
        UnreadableVideoError: at opening or while iterating, when the file is no whole video.
    """
    with _opened(path) as video:
        yield ScaledVideo(*_stored(video, settings, RGB, lambda planes: planes[0]))


def choose_pixels(
    path: Path, settings: PackSettings, choose: Callable[[int], Collection[int]]
) -> tuple[dict[int, Plane], int]:
    """Read some frames of a video, of all that `open_pixels` would give.

    The others are decoded, because only that tells how many there are, and are neither scaled nor kept.

    Args:
        path: of the video.
        settings: of the frames.
        choose: tells the numbers of the frames that are wanted, given how many there are.

    Returns:
        The chosen frames by number, and how many frames there are.

    Raises:
        UnreadableVideoError: the file is no whole video.
    """
    total = -1
    while True:
        with _opened(path) as video:
            total = video.announced if total < 0 else total
            wanted = frozenset(choose(total)) if total else frozenset()
            scale = None
            found: dict[int, Plane] = {}
            count = 0
            _check_rate(video, settings)
            for frame in _finished(video.frames, video.clock, settings, lambda frame, *_: frame, array("d")):
                scale = scale or Scaler(*_size(frame, video.pixel_aspect, settings), RGB, video.codec)
                if count in wanted:
                    found[count] = _scaled(scale, frame, count)[0].copy()
                count += 1
        # What a header announces can be wrong, or meant for another rate: then the frames are gone through once more.
        if count == total:
            return found, count
        total = count


def _opened(path: Path) -> AbstractContextManager[DecodedVideo]:
    return decode_frame_folder(path) if path.is_dir() else decode_video(path)


def _check_rate(video: DecodedVideo, settings: PackSettings) -> None:
    if settings.fps and video.counted and not (video.rate and _SLOWEST <= video.rate <= _FASTEST):
        told = "no frame rate" if not video.rate else f"{float(video.rate):g} frames a second"
        raise UnreadableVideoError(f"tells {told}, which cannot be brought to {settings.fps:g}")


def _stored(
    video: DecodedVideo,
    settings: PackSettings,
    pixels: str,
    finish: Callable[[tuple[Plane, ...]], FrameT],
    as_it_is: Callable[[av.VideoFrame, int, int, tuple[int, float, float]], FrameT | None] = lambda *_: None,
) -> tuple[float, int, int, Iterator[FrameT], Sequence[float], str]:
    """Return the fields of an open video."""
    _check_rate(video, settings)
    # The first frame tells the size: headers can be wrong, and only frames carry the turn.
    first = next(video.frames)
    size = _size(first[0], video.pixel_aspect, settings)
    times = array("d")
    scale = Scaler(*size, pixels, video.codec)

    def ready(frame: av.VideoFrame, number: int, first: float, last: float) -> FrameT:
        found = as_it_is(frame, *size, (number, first, last))
        return finish(_scaled(scale, frame, number)) if found is None else found

    frames = _finished(chain([first], video.frames), video.clock, settings, ready, times)
    return settings.fps or float(video.rate or 0), *size, frames, times, video.remark


def _finished(
    timed: Iterator[TimedFrame],
    clock: Clock,
    settings: PackSettings,
    ready: Callable[[av.VideoFrame, int, float, float], FrameT],
    times: "array[float]",
) -> Iterator[FrameT]:
    rate = Fraction(str(settings.fps))  # as it was written: the float 0.1 is a little more than a tenth
    kept = 0
    items = _until(timed, clock, settings.fps) if rate else ((item, item[1]) for item in timed)
    chosen = keep(items, rate, settings.max_frames, clock.unit, clock.slack)
    above, below = clock.unit.as_integer_ratio()
    for number, ((frame, time), copies) in enumerate(chosen):
        if rate:
            first, last = kept / settings.fps, (kept + copies - 1) / settings.fps
        else:
            first = last = time * above / below
            times.append(first)
        result = ready(frame, number, first, last)
        for _ in range(copies):
            yield result
        kept += copies


def _until(timed: Iterator[TimedFrame], clock: Clock, fps: float) -> Iterator[tuple[TimedFrame, int]]:
    """Give each frame when it is known how long it stays on screen: when the next one is there."""
    shown = next(timed)
    longest = _LONGEST_STAY_S / clock.unit
    rest: Iterator[TimedFrame | None] = chain(timed, (None,))
    for number, following in enumerate(rest):
        until = following[1] if following else clock.end
        if until - shown[1] > longest:
            stay = f"stays on frame {number} for {float((until - shown[1]) * clock.unit):.0f} s"
            raise UnreadableVideoError(f"{stay}, which cannot be brought to {fps:g} frames a second")
        yield shown, until
        shown = following or shown


def _scaled(scale: Scaler, frame: av.VideoFrame, number: int) -> tuple[Plane, ...]:
    try:
        return scale(frame)
    except (av.FFmpegError, ValueError) as error:
        raise telling(f"cannot be scaled at kept frame {number}", error) from error


def _size(frame: av.VideoFrame, pixel_aspect: Fraction, settings: PackSettings) -> tuple[int, int]:
    height, width = frame.height, frame.width
    if orientation_of(frame).transpose:
        height, width, pixel_aspect = width, height, 1 / pixel_aspect
    size = stored_size(height, width, pixel_aspect, settings)
    if max(size) > _LONGEST_SIDE or size[0] * size[1] > MAX_PIXELS:
        raise UnreadableVideoError(
            f"has frames of {width}x{height} pixels, which would be stored as {size[1]}x{size[0]}"
        )
    return size
