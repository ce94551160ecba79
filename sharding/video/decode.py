"""Frames of a video file in the order in which the decoder gives them.

Time stamps are not used: the files that MEncoder wrote carry them out of order (1, 2, 4, 3, 5, ...), and sorting by
them would scramble the motion. The header's frame count can be wrong by one, so it serves only to notice gross damage.
Audio is ignored.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.codec.context import Flags

from pclkd.sharding.video.completeness import bytes_missing

__all__ = ["MAX_PIXELS", "DecodedVideo", "UnreadableVideoError", "decode_video", "telling"]

MAX_PIXELS = 8192 * 4352
"""Pixels of the largest frame that is decoded, a little over 8K: headers can announce any size."""

# Play lists and the like, which can point at other files, must not hide behind a video's name.
_OPTIONS = {
    "format_whitelist": "avi,mov,matroska",
    "protocol_whitelist": "file",
    "max_pixels": str(MAX_PIXELS),
}
# Conditions of the machine, not of the video: they must not put a sound file into quarantine.
_MACHINE = frozenset({errno.ENOMEM, errno.EMFILE, errno.ENFILE})
# Frames that may be missing without an error from the decoder: of those that an AVI header announces, and of the
# packets in other containers, where VP8 has packets that are never shown.
_TOLERATED_LOSS = 0.05
_TOLERATED_PACKETS = 0.25


class UnreadableVideoError(Exception):
    """A video cannot be decoded from its first frame to its last; the text says why."""


@dataclass(frozen=True)
class DecodedVideo:
    """An open video.

    Attributes:
        rate: average frames a second; None if the file does not tell.
        codec: FFmpeg's name of it.
        pixel_aspect: width of a pixel over its height, before any turn.
        frames: in decoder order, each as it was coded: its own size, pixel format and display matrix.
    """

    rate: Fraction | None
    codec: str
    pixel_aspect: Fraction
    frames: Iterator[av.VideoFrame]


@contextmanager
def decode_video(path: Path) -> Iterator[DecodedVideo]:
    """Open a video.

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
        # Some files carry metadata that is not UTF-8, which a plain open refuses.
        container = av.open(str(path.resolve()), metadata_errors="replace", options=_OPTIONS)
    except (av.FFmpegError, OSError) as error:
        raise telling("is no video", error) from error
    with container:
        if not container.streams.video:
            raise UnreadableVideoError("holds no video stream")
        stream = container.streams.video[0]
        if stream.codec_context is None:
            raise UnreadableVideoError("is coded in a way that FFmpeg does not know")
        if stream.width * stream.height > MAX_PIXELS:
            raise UnreadableVideoError(f"announces frames of {stream.width}x{stream.height} pixels, the limit is 8K")
        context = stream.codec_context
        context.options = {"max_pixels": str(MAX_PIXELS)}
        # One thread: the work is spread over processes, and threads that wait for each other took 45 % more time.
        context.thread_type = "NONE"
        context.thread_count = 1
        # The same pixels whatever the processor can do; measured: for free.
        context.flags |= Flags.bitexact
        yield DecodedVideo(
            stream.average_rate or stream.guessed_rate,
            context.codec.canonical_name,
            _pixel_aspect(stream),
            _frames(path, container, stream),
        )


def telling(problem: str, error: Exception) -> Exception:
    """Return what to raise for an error of FFmpeg's: the machine's own troubles as they are, else the video's."""
    if getattr(error, "errno", None) in _MACHINE:
        return error
    return UnreadableVideoError(f"{problem} ({getattr(error, 'strerror', None) or error})")


def _frames(path: Path, container: "av.container.InputContainer", stream: "av.VideoStream") -> Iterator[av.VideoFrame]:
    packets = count = 0
    try:
        for packet in container.demux(stream):
            if packet.size and not packet.is_discard:
                packets += 1
            for frame in packet.decode():
                if not isinstance(frame, av.VideoFrame):
                    continue
                yield frame
                count += 1
    except (av.FFmpegError, ValueError) as error:
        # FFmpeg takes back what a header announces above the limit.
        unsized = "" if stream.width else "announces no frame size or one beyond 8K and "
        raise telling(f"{unsized}cannot be decoded at frame {count}", error) from error
    if count == 0:
        raise UnreadableVideoError("holds no frame that can be decoded")
    _refuse_loss(path, container.format.name, stream.frames, packets, count)


def _refuse_loss(path: Path, container: str, announced: int, packets: int, count: int) -> None:
    """Tell damage that no error told of.

    With bytes missing, the file was cut; the lengths in an AVI count only where frames are missing too, as they can be
    wrong. With many frames missing, the decoder skipped over damage. An AVI's header may be wrong by one; what an MP4
    header counts includes frames that an edit list hides.
    """
    avi = container == "avi"
    if (not avi or announced > count) and (missing := bytes_missing(path)):
        told = f"{count} of {announced} frames" if announced else f"{missing} bytes are missing after frame {count}"
        raise UnreadableVideoError(f"is cut short: {told}")
    expected, tolerated = (announced, _TOLERATED_LOSS) if avi else (packets, _TOLERATED_PACKETS)
    if expected - count > max(1, tolerated * expected):
        raise UnreadableVideoError(f"is damaged: only {count} of {expected} frames can be decoded")


def _pixel_aspect(stream: "av.VideoStream") -> Fraction:
    aspect = stream.sample_aspect_ratio
    return Fraction(aspect) if aspect and Fraction(1, 4) <= aspect <= 4 else Fraction(1)
