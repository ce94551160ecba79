"""A folder of numbered pictures as a video: the same frames for the scaler, the same rules about damage."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import cast

import av
from av.codec.context import Flags

from pclkd.sharding.common.frame_names import frames_among
from pclkd.sharding.video.clock import Clock, TimedFrame
from pclkd.sharding.video.decode import DecodedVideo, UnreadableVideoError, telling
from pclkd.sharding.video.scale import UPRIGHT, orientation_of
from pclkd.sharding.video.settings import MAX_PIXELS

__all__ = ["decode_frame_folder", "jpeg_as_it_is", "longest_sound_run"]

_CODECS = {
    b"\xff\xd8\xff": "mjpeg",
    b"\x89PNG\r\n": "png",
    b"BM": "bmp",
    b"RIFF": "webp",
    b"II*\0": "tiff",
    b"MM\0*": "tiff",
    b"P6": "ppm",
}
# Frames that a JPEG's decoder gives, by the chroma sampling of `PackSettings`.
_JPEG_PIXELS = {"4:2:0": "yuvj420p", "4:4:4": "yuvj444p"}
_START, _END = b"\xff\xd8\xff", b"\xff\xd9"
_BASELINE, _SCAN = 0xC0, 0xDA


@contextmanager
def decode_frame_folder(folder: Path, run: range | None = None) -> Iterator[DecodedVideo]:
    """Open a folder of frames, see `frames_among`, or a run of them. All frames have the time 0: none tells a rate.

    Each frame that was a JPEG carries its bytes as `frame.opaque`.

    Raises:
        UnreadableVideoError: at opening, where the folder holds no frames; while iterating, where a number is missing
            between two others, stands there twice, or a picture cannot be decoded from its first byte to its last.
    """
    frames = _listed(folder)
    frames = frames[run.start : run.stop] if run else frames
    clock = Clock(None, Fraction(1), counted=True)
    yield DecodedVideo(
        rate=None,
        counted=True,
        announced=len(frames),
        codec="mjpeg",
        pixel_aspect=Fraction(1),
        remark="",
        clock=clock,
        frames=_frames(folder, frames),
    )


def longest_sound_run(folder: Path, tick: Callable[[], None]) -> tuple[range, int, int]:
    """Find the first of the longest runs of frames that decode and follow each other.

    Returns:
        Which of the frames that are there it is, empty where nothing is damaged; the number of its first frame, missing
        ones counted; and how many frames there should be.
    """
    frames = _listed(folder)
    step = max(1, _step(frames))
    best, start, damaged = range(0), 0, False
    decoders: dict[str, av.VideoCodecContext] = {}
    for place, (number, name) in enumerate(frames):
        tick()
        if place and number != frames[place - 1][0] + step:
            start, damaged = place, True
        try:
            _decoded(folder / name, decoders)
        except UnreadableVideoError:
            start, damaged = place + 1, True
        if place + 1 - start > len(best):
            best = range(start, place + 1)
    first = frames[0][0]
    found = best if damaged else range(0)
    return found, (frames[best.start][0] - first) // step, (frames[-1][0] - first) // step + 1


def _listed(folder: Path) -> list[tuple[int, str]]:
    try:
        frames = frames_among(path.name for path in folder.iterdir())
    except OSError as error:
        raise telling("cannot be read", error) from error
    if not frames:
        raise UnreadableVideoError("is a folder without a row of numbered pictures")
    return frames


def _step(frames: list[tuple[int, str]]) -> int:
    # Every second frame alone may have been kept, or every tenth: the smallest step is the one that all should have.
    return min((after - before for (before, _), (after, _) in pairwise(frames)), default=1)


def _frames(folder: Path, frames: list[tuple[int, str]]) -> Iterator[TimedFrame]:
    step = _step(frames)
    decoders: dict[str, av.VideoCodecContext] = {}
    following = frames[0][0]
    for number, name in frames:
        if not step:
            raise UnreadableVideoError(f"is damaged: the number {number} of {name} stands there twice")
        if number != following:
            raise UnreadableVideoError(f"is damaged: frame {following} is missing, the next one is {name}")
        following = number + step
        yield _decoded(folder / name, decoders), 0


def _decoded(path: Path, decoders: dict[str, av.VideoCodecContext]) -> av.VideoFrame:
    try:
        data = path.read_bytes()
        kind = next((codec for start, codec in _CODECS.items() if data.startswith(start)), None)
        if kind is None:
            raise UnreadableVideoError(f"is damaged: {path.name} {'is no picture' if data else 'is empty'}")
        if kind not in decoders:
            decoders[kind] = _decoder(kind)
        (frame,) = decoders[kind].decode(av.Packet(data))
    except (av.FFmpegError, OSError, ValueError) as error:
        raise telling(f"is damaged: {path.name} cannot be decoded", error) from error
    if kind == "mjpeg":
        # FFmpeg takes a few bytes that are missing at the end for nothing.
        if data.find(_END, _headers(data)[1]) < 0:
            raise UnreadableVideoError(f"is damaged: {path.name} is cut short")
        frame.opaque = data
    return frame


def _decoder(kind: str) -> av.VideoCodecContext:
    decoder = cast(av.VideoCodecContext, av.CodecContext.create(kind, "r"))
    # What is cut or damaged must fail, not come out grey.
    decoder.options = {"err_detect": "explode", "max_pixels": str(MAX_PIXELS)}
    decoder.thread_type = "NONE"
    decoder.thread_count = 1
    decoder.flags |= Flags.bitexact
    return decoder


def jpeg_as_it_is(frame: av.VideoFrame, height: int, width: int, chroma: str) -> bytes | None:
    """Return the JPEG that a frame was decoded from if it can be stored as it is, else None.

    It must have the stored size and chroma sampling, lie upright, and be a baseline JPEG with nothing after it and no
    other JPEG (a thumbnail) inside.
    """
    data = frame.opaque
    if not isinstance(data, bytes) or (frame.height, frame.width) != (height, width):
        return None
    if frame.format.name != _JPEG_PIXELS[chroma] or orientation_of(frame) != UPRIGHT:
        return None
    alone = data.endswith(_END) and data.find(_START, len(_START)) < 0
    return data if alone and _headers(data)[0] == _BASELINE else None


def _headers(data: bytes) -> tuple[int, int]:
    """Return the marker that tells how a JPEG is coded, and where its headers end and the picture begins."""
    coding, place = 0, 2
    while place + 4 <= len(data) and data[place] == 0xFF and data[place + 1] != _SCAN:
        marker = data[place + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            coding = marker
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return coding, place
