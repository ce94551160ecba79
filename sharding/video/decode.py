"""Frames of a video file in the order in which the decoder gives them, each with its time.

Time stamps do not order them: the files that MEncoder wrote carry them out of order (1, 2, 4, 3, 5, ...), and sorting
by them would scramble the motion. Audio, cover pictures and other tracks are ignored. Whether a file is whole is
decided by what decodes and by what the container stores, not by a header's count of frames.
"""

import errno
import os
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
from av.codec.context import Flags
from av.stream import Disposition

from pclkd.sharding.common.errors import visible
from pclkd.sharding.video.clock import Clock, TimedFrame
from pclkd.sharding.video.completeness import bytes_missing, frames_stored
from pclkd.sharding.video.contents import fits, formats_for, kind_of
from pclkd.sharding.video.settings import MAX_PIXELS

__all__ = [
    "MACHINE_ERRORS",
    "DecodedVideo",
    "Places",
    "Reader",
    "UnreadableVideoError",
    "decode_video",
    "open_container",
    "telling",
]

_OPTIONS = {
    "protocol_whitelist": "file",
    "max_pixels": str(MAX_PIXELS),
}
# Some files carry metadata that is not UTF-8. PyAV 19 always takes it, and has no such argument any more.
_TOLERANT = {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}
# Conditions of the machine, not of the video: they must not put a sound file into quarantine.
MACHINE_ERRORS = frozenset(
    {
        *(errno.ENOMEM, errno.EMFILE, errno.ENFILE),
        *(errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN),  # a server's disk that went away
    }
)
# Frames that may be missing without an error from the decoder: of those that an AVI stores, and of the packets in other
# containers, where VP8 has packets that are never shown. The first is also what may be incomplete in a transport
# stream, whose counters break where segments were joined.
_TOLERATED_LOSS = 0.05
_TOLERATED_PACKETS = 0.25
# Containers whose stamps are out of order, and streams without any, where FFmpeg makes them up.
_COUNTED = frozenset({"avi", "dv", "h264", "hevc", "m4v", "mjpeg", "mpegvideo", "yuv4mpegpipe"})
# Containers that begin with chunks of known length.
_LENGTHS_TOLD = frozenset({"avi", "mov", "matroska"})
# What gives the frames: of a path, its open container, the track, its clock, and its frames a second.
Reader = Callable[
    [Path, "av.container.InputContainer", "av.VideoStream", Clock, Fraction | None], "Iterator[TimedFrame]"
]
_PICTURES = Disposition.attached_pic | Disposition.timed_thumbnails


class UnreadableVideoError(Exception):
    """A video cannot be decoded from its first frame to its last; the text says why, on one line."""

    def __init__(self, reason: str) -> None:
        super().__init__(visible(reason))


@dataclass(frozen=True)
class DecodedVideo:
    """An open video.

    Attributes:
        rate: average frames a second; None if the file does not tell.
        counted: whether frames have no usable time stamps, so that their times follow from `rate`.
        announced: frames that the header announces; 0 if it does not tell, and it can be wrong.
        codec: FFmpeg's name of it.
        pixel_aspect: width of a pixel over its height, before any turn.
        remark: what was chosen among several tracks; "" where there was no choice.
        clock: knows the unit of times, and when the last frame that was given ends.
        frames: in decoder order, each as it was coded (its own size, pixel format and display matrix), with its time
            in the clock's units from the first one.
    """

    rate: Fraction | None
    counted: bool
    announced: int
    codec: str
    pixel_aspect: Fraction
    remark: str
    clock: Clock
    frames: Iterator[TimedFrame]


def open_container(path: Path | str, **how: Any) -> "av.container.InputContainer":
    """Open a file with PyAV, whichever version is there and however its metadata is written."""
    return cast("av.container.InputContainer", cast(Any, av.open)(str(path), **_TOLERANT, **how))


@contextmanager
def decode_video(path: Path, read: "Reader | None" = None, **options: str) -> Iterator[DecodedVideo]:
    """Open a video.

    Args:
        path: of the file.
        read: gives the frames of the open container; every frame of a whole video by default.
        **options: more options of FFmpeg's decoder.

    Raises:
        UnreadableVideoError: at opening or while iterating, when the file is no whole video.
    """
    if path.is_dir():
        raise UnreadableVideoError("is a folder")
    if path.is_symlink() and not path.exists():
        raise UnreadableVideoError("is a link that leads nowhere")
    if not path.is_file():
        raise UnreadableVideoError("is not a regular file")
    if path.stat().st_size == 0:
        raise UnreadableVideoError("is empty")
    if not os.access(path, os.R_OK):
        raise UnreadableVideoError("may not be read (permission denied)")
    try:
        # Play lists and the like, which can point at other files, must not hide behind a video's name.
        container = open_container(path.resolve(), options={**_OPTIONS, "format_whitelist": formats_for(path)})
    except (av.FFmpegError, OSError) as error:
        told, kind = telling("is no video", error), kind_of(path)
        raise UnreadableVideoError(f"{kind}, no video") if kind and told is not error else told from error
    with container:
        stream, remark = _chosen_track(container)
        if stream.width * stream.height > MAX_PIXELS:
            raise UnreadableVideoError(f"announces frames of {stream.width}x{stream.height} pixels, the limit is 8K")
        context = stream.codec_context
        context.options = {"max_pixels": str(MAX_PIXELS), **options}
        # One thread: the work is spread over processes, and threads that wait for each other took 45 % more time.
        context.thread_type = "NONE"
        context.thread_count = 1
        # The same pixels whatever the processor can do; measured: for free.
        context.flags |= Flags.bitexact
        rate = _fraction(stream.average_rate) or _fraction(stream.guessed_rate)
        counted = container.format.name in _COUNTED
        clock = Clock(rate, _fraction(stream.time_base) or Fraction(1, 1000), counted=counted)
        yield DecodedVideo(
            rate,
            counted,
            stream.frames,
            context.codec.canonical_name,
            _pixel_aspect(stream),
            remark,
            clock,
            (read or _frames)(path, container, stream, clock, rate),
        )


def telling(problem: str, error: Exception) -> Exception:
    """Return what to raise for an error of FFmpeg's: the machine's own troubles as they are, else the video's."""
    if getattr(error, "errno", None) in MACHINE_ERRORS:
        return error
    return UnreadableVideoError(f"{problem} ({getattr(error, 'strerror', None) or error})")


def _chosen_track(container: "av.container.InputContainer") -> tuple["av.VideoStream", str]:
    """Return the track to decode, never a picture, and what to remark about the choice."""
    tracks = [stream for stream in container.streams.video if not stream.disposition & _PICTURES]
    if not tracks:
        raise UnreadableVideoError(
            "holds no video stream" + (" but a cover picture" if container.streams.video else "")
        )
    known = [stream for stream in tracks if stream.codec_context is not None]
    if not known:
        raise UnreadableVideoError("is coded in a way that FFmpeg does not know")
    default = [stream for stream in known if stream.disposition & Disposition.default]
    best = container.streams.best("video")
    chosen = default[0] if len(default) == 1 else next((stream for stream in known if stream is best), known[0])
    if len(tracks) == 1:
        return chosen, ""
    why = "the default one" if default else "the best one"
    return chosen, f"holds {len(tracks)} video tracks; track {tracks.index(chosen) + 1}, {why}, is packed"


def _frames(
    path: Path,
    container: "av.container.InputContainer",
    stream: "av.VideoStream",
    clock: Clock,
    rate: Fraction | None,
) -> Iterator[TimedFrame]:
    packets = count = incomplete = fields = 0
    places = Places.of(stream, rate)
    try:
        for packet in container.demux(stream):
            if not packet.size and packet.dts is not None:
                continue  # shows the last frame again; to the decoder it would be the end
            if packet.size and not packet.is_discard:
                packets += 1
                places.add(packet.dts)
            incomplete += packet.is_corrupt
            for frame in packet.decode():
                if not isinstance(frame, av.VideoFrame):
                    continue
                fields |= frame.interlaced_frame
                yield frame, clock.time_of(frame, places.next())
                count += 1
    except (av.FFmpegError, ValueError) as error:
        # FFmpeg takes back what a header announces above the limit.
        unsized = "" if stream.width else "announces no frame size or one beyond 8K and "
        raise telling(f"{_inside(path, container)}{unsized}cannot be decoded at frame {count}", error) from error
    if count == 0:
        raise UnreadableVideoError(f"{_inside(path, container)}holds no frame that can be decoded")
    # The two fields of an interlaced frame may come in packets of their own.
    _refuse_loss(path, stream, packets // 2 if fields else packets, count)
    if incomplete > (max(1, _TOLERATED_LOSS * packets) if container.format.name == "mpegts" else 0):
        raise UnreadableVideoError(f"{_inside(path, container)}is damaged: a frame's data is not all there")


class Places:
    """The number of each frame as its container counts: an AVI has empty chunks that show the last frame again."""

    def __init__(self, stamped: bool) -> None:
        self._stamped = stamped
        self._waiting: deque[int] = deque()
        self._first = 0
        self._last = -1

    @classmethod
    def of(cls, stream: "av.VideoStream", rate: Fraction | None) -> "Places":
        """Count the frames of a stream at this rate."""
        return cls(rate == 1 / stream.time_base if rate and stream.time_base else False)

    def add(self, dts: int | None) -> None:
        """Note a packet with data; its decoding stamp is the number of its chunk where `stamped`."""
        place = self._last + 1
        if self._stamped and dts is not None:
            if self._last < 0:
                self._first = dts
            place = max(place, dts - self._first)
        self._waiting.append(place)
        self._last = place

    def next(self) -> int:
        """Return the place of the next frame: frames come in the order of the packets' places."""
        return self._waiting.popleft() if self._waiting else self._last


def _refuse_loss(path: Path, stream: "av.VideoStream", packets: int, count: int) -> None:
    """Tell damage that no error told of.

    With bytes missing, the file was cut; the lengths in an AVI count only where frames are missing too, as they can be
    wrong. With many frames missing, the decoder skipped over damage. What an AVI's header announces may be wrong: where
    fewer frames decode, the chunks that it stores decide. What an MP4 header counts includes frames that an edit list
    hides.
    """
    container, announced = stream.container.format.name.partition(",")[0], stream.frames
    avi = container == "avi"
    if container in _LENGTHS_TOLD and (not avi or announced > count) and (missing := bytes_missing(path)):
        told = f"{count} of {announced} frames" if announced else f"{missing} bytes are missing after frame {count}"
        raise UnreadableVideoError(f"{_inside(path, stream.container)}is cut short: {told}")
    expected, tolerated = packets, _TOLERATED_PACKETS
    if avi:
        expected, tolerated = announced, _TOLERATED_LOSS
        if expected - count > max(1, tolerated * expected):
            stored = frames_stored(path, stream.index)
            expected = announced if stored is None else stored
    if expected - count > max(1, tolerated * expected):
        raise UnreadableVideoError(
            f"{_inside(path, stream.container)}is damaged: only {count} of {expected} frames can be decoded"
        )


def _inside(path: Path, container: Any) -> str:
    """Tell a container that is not what the suffix says."""
    return "" if fits(path, container.format.name) else f"is {container.format.long_name} inside and "


def _fraction(value: Any) -> Fraction | None:
    """Return a rational number of PyAV's as a fraction: of version 18 it may be None, of version 19 0."""
    return Fraction(value.numerator, value.denominator) if value else None


def _pixel_aspect(stream: "av.VideoStream") -> Fraction:
    aspect = _fraction(stream.sample_aspect_ratio)
    return aspect if aspect and Fraction(1, 4) <= aspect <= 4 else Fraction(1)
