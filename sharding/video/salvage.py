"""The longest sound run of a damaged video: frames that follow each other, with nothing lost before or among them.

A run begins at a key frame and ends at the first sign of damage: an error of the decoder, which is told to conceal
nothing here, a packet that is not all there, or time stamps that skip frames. What follows may show remains of what was
lost, so the next run begins at the next key frame.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av

from pclkd.sharding.video.clock import Clock, TimedFrame
from pclkd.sharding.video.completeness import bytes_missing
from pclkd.sharding.video.decode import MACHINE_ERRORS, Places, UnreadableVideoError, decode_video
from pclkd.sharding.video.frame_folder import decode_frame_folder, longest_sound_run
from pclkd.sharding.video.frames import EncodedVideo, encoded
from pclkd.sharding.video.settings import PackSettings

__all__ = ["open_salvaged"]

_CAREFUL = {"err_detect": "+explode"}
# A step of time stamps that is longer than so many frames skips some; in AVI stamps count chunks and leave none out.
_LONGEST_STEP = Fraction(5, 2)
_LONGEST_STEP_AVI = Fraction(3, 2)
_MOST_DELAYED = 16  # frames that a decoder may hold back to put them in order


@contextmanager
def open_salvaged(
    path: Path, settings: PackSettings, *, reason: str, tick: Callable[[], None] = lambda: None
) -> Iterator[EncodedVideo]:
    """Open the longest sound run of a damaged video as `open_video` opens a whole one.

    Args:
        path: of the file, or the folder of frames.
        settings: of the frames; `salvage` is how many frames the run must have.
        reason: what is wrong with the video.
        tick: called as the file is searched.

    Raises:
        UnreadableVideoError: nothing tells where the damage is, or the run is too short.
    """
    run, first, total = longest_sound_run(path, tick) if path.is_dir() else _longest_run(path, tick)
    if not len(run):
        raise UnreadableVideoError(reason)
    if len(run) < settings.salvage:
        raise UnreadableVideoError(f"{reason}; its longest sound run has {len(run)} frames")
    whole = decode_frame_folder(path, run) if path.is_dir() else decode_video(path, _only(run), **_CAREFUL)
    with whole as video:
        stop = first + len(run)
        kept = f"frames {first} to {stop - 1} of {max(total, video.announced)} are kept"
        remark = "; ".join(filter(None, (f"{reason}: {kept}", video.remark)))
        yield replace(encoded(video, settings), remark=remark, salvaged=(first, stop))


def _longest_run(path: Path, tick: Callable[[], None]) -> tuple[range, int, int]:
    """Find the first of the longest sound runs.

    Returns:
        Which of the frames that decode it is, empty where no damage is found; the number of its first frame, lost ones
        counted; and how many frames there are in all, likewise.
    """
    best, start, count, breaks = range(0), 0, 0, 0
    places: list[int] = []

    def read(
        _path: Path,
        container: "av.container.InputContainer",
        stream: "av.VideoStream",
        clock: Clock,
        rate: Fraction | None,
    ) -> Iterator[TimedFrame]:
        nonlocal best, start, count, breaks
        for found in _frames(container, stream, rate):
            tick()
            if found is None:
                breaks += 1
                start = count
                continue
            frame, place, sound = found
            count += 1
            places.append(place)
            if not sound:
                start = count
            elif count - start > len(best):
                best = range(start, count)
            yield frame, clock.time_of(frame, place)

    with decode_video(path, read, **_CAREFUL) as video:
        for _ in video.frames:
            pass
    if not (best and (breaks or bytes_missing(path))):
        return range(0), 0, count
    return best, places[best.start], max(places) + 1


def _only(run: range) -> Callable[..., Iterator[TimedFrame]]:
    """Return what reads the frames of a run, timed from its first one."""

    def read(
        _path: Path,
        container: "av.container.InputContainer",
        stream: "av.VideoStream",
        clock: Clock,
        rate: Fraction | None,
    ) -> Iterator[TimedFrame]:
        frames = (found for found in _frames(container, stream, rate) if found is not None)
        origin = None
        for number, (frame, place, _) in enumerate(frames):
            if number == run.stop:
                return
            if number >= run.start:
                origin = place if origin is None else origin
                yield frame, clock.time_of(frame, place - origin)

    return read


def _frames(
    container: "av.container.InputContainer", stream: "av.VideoStream", rate: Fraction | None
) -> Iterator[tuple[av.VideoFrame, int, bool] | None]:
    """Give every frame that decodes, with its place and whether it is sound; None where damage is met."""
    places = Places.of(stream, rate)
    steps = _Steps(container, stream, rate)
    sound, delayed = False, 0
    packets = container.demux(stream)
    while True:
        damaged = False
        decoded: list[av.VideoFrame] = []
        try:
            packet = next(packets)
            damaged = packet.is_corrupt or steps.skips(packet)
            if packet.size and not packet.is_discard:
                places.add(packet.dts)
            if packet.size or packet.dts is None:  # else it shows the last frame again
                decoded = [frame for frame in packet.decode() if isinstance(frame, av.VideoFrame)]
        except StopIteration:
            return
        except (av.FFmpegError, ValueError) as error:
            if getattr(error, "errno", None) in MACHINE_ERRORS:
                raise
            damaged = True
            places.next()  # of the frame that is lost
        if damaged:
            # Frames from before may come yet, key frames too: what was lost lies behind them.
            sound, delayed = False, _MOST_DELAYED if stream.codec_context.has_b_frames else 0
            yield None
        for frame in decoded:
            intact = not frame.is_corrupt and not damaged
            sound = intact and (sound or (frame.key_frame and not delayed))
            delayed = max(0, delayed - 1)
            yield frame, places.next(), sound


class _Steps:
    """Whether time stamps skip frames."""

    def __init__(
        self, container: "av.container.InputContainer", stream: "av.VideoStream", rate: Fraction | None
    ) -> None:
        longest = _LONGEST_STEP_AVI if container.format.name == "avi" else _LONGEST_STEP
        self._longest = longest / rate / stream.time_base if rate and stream.time_base else None
        self._last: int | None = None

    def skips(self, packet: "av.Packet[av.VideoStream]") -> bool:
        """Tell whether frames are missing between the packet before and this one."""
        if packet.dts is None:
            return False
        last, self._last = self._last, packet.dts
        return last is not None and self._longest is not None and packet.dts - last > self._longest
