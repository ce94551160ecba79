"""Frames of a video file, resized, in the order in which the decoder gives them.

Time stamps are not used: the files that MEncoder wrote carry them out of order (1, 2, 4, 3, 5, ...), and sorting by
them would scramble the motion. The header's frame count can be wrong by one, so it serves only to notice gross damage.
Audio is ignored.
"""

import errno
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

__all__ = ["UnreadableVideoError", "open_frames"]

# Play lists and the like, which can point at other files, must not hide behind a video's name.
_FORMATS = "avi,mov,matroska"
# Conditions of the machine, not of the video: they must not put a sound file into quarantine.
_MACHINE = frozenset({errno.ENOMEM, errno.EMFILE, errno.ENFILE})
_TOLERATED_LOSS = 0.05


class UnreadableVideoError(Exception):
    """A video cannot be decoded from its first frame to its last; the text says why."""


@contextmanager
def open_frames(path: Path, height: int, width: int) -> Iterator[tuple[float, Iterator[npt.NDArray[np.uint8]]]]:
    """Open a video; give its frame rate (1/s) and an iterator over its frames, uint8 [height, width, 3] in RGB.

    Raises:
        UnreadableVideoError: at opening or while iterating, when the file is no whole video.
    """
    if path.is_dir():
        raise UnreadableVideoError("is a folder")
    if not path.is_file():
        raise UnreadableVideoError("is not a regular file")
    if path.stat().st_size == 0:
        raise UnreadableVideoError("is empty")
    try:
        # Some files carry metadata that is not UTF-8, which a plain open refuses.
        container = av.open(str(path.resolve()), metadata_errors="replace", options={"format_whitelist": _FORMATS})
    except (av.FFmpegError, OSError) as error:
        raise _unreadable("is no video", error) from error
    with container:
        if not container.streams.video:
            raise UnreadableVideoError("holds no video stream")
        stream = container.streams.video[0]
        # One thread: the work is spread over processes, a shard each.
        stream.thread_type = "NONE"
        stream.thread_count = 1
        rate = stream.average_rate or stream.guessed_rate
        frames = _frames(path, container, stream, height, width)
        yield float(rate) if rate else 0.0, frames


def _frames(
    path: Path, container: "av.container.InputContainer", stream: "av.VideoStream", height: int, width: int
) -> Iterator[npt.NDArray[np.uint8]]:
    count = 0
    try:
        for frame in container.decode(stream):
            small = frame.reformat(width=width, height=height, format="rgb24", interpolation="BICUBIC")
            pixels: npt.NDArray[np.uint8] = small.to_ndarray().astype(np.uint8, copy=False)
            yield pixels
            count += 1
    except (av.FFmpegError, ValueError) as error:
        raise _unreadable(f"cannot be decoded at frame {count}", error) from error
    if count == 0:
        raise UnreadableVideoError("holds no frame that can be decoded")
    # The header may be wrong by one. With bytes missing as well, the file was cut; with many frames missing, the
    # decoder skipped over damage.
    short = stream.frames - count
    if short > 1 and _bytes_missing(path) > 0:
        raise UnreadableVideoError(f"is cut short: {count} of {stream.frames} frames")
    if short > max(1, _TOLERATED_LOSS * stream.frames):
        raise UnreadableVideoError(f"is damaged: only {count} of {stream.frames} frames can be decoded")


def _unreadable(problem: str, error: Exception) -> Exception:
    if getattr(error, "errno", None) in _MACHINE:
        return error
    return UnreadableVideoError(f"{problem} ({getattr(error, 'strerror', None) or error})")


def _bytes_missing(path: Path) -> int:
    """Return how many of the bytes that an AVI's first RIFF chunk announces are not in the file."""
    with path.open("rb") as file:
        head = file.read(8)
    if len(head) < 8 or head[:4] != b"RIFF":
        return 0
    announced = 8 + int(struct.unpack("<I", head[4:])[0])
    return announced - path.stat().st_size
