"""Samples that are stretches of longer videos: one pass over a source cuts all of them, however they overlap."""

import tempfile
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path

from pclkd.sharding.common.files import told_in
from pclkd.sharding.datasets.dataset import Span, Video
from pclkd.sharding.packing.task import ShardTask
from pclkd.sharding.video.frames import EncodedVideo, UnreadableVideoError

__all__ = ["SpanCutter"]

_IN_MEMORY = 16 << 20  # bytes of a stretch that overlaps the one before; more waits on disk
_ATTEMPTS = 2  # at a source that cannot be decoded to the end

Tick = Callable[[], None]


class _Waiting:
    """Frames of a stretch that came by while one before it was cut."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - closed once it is read
        self._lengths = array("i")
        self._times = array("d")

    def add(self, frame: bytes, time: float) -> None:
        with told_in(tempfile.gettempdir()):
            self._file.write(frame)
        self._lengths.append(len(frame))
        self._times.append(time)

    def frames(self) -> Iterator[tuple[bytes, float]]:
        with self._file:
            self._file.seek(0)
            for length, time in zip(self._lengths, self._times, strict=True):
                yield self._file.read(length), time


@dataclass
class _Pass:
    """A source that is open: its samples by the start of their spans, and how far it was read.

    `waiting` has frames of samples that were not asked for yet, by their place.
    """

    path: str
    local: Path
    opened: EncodedVideo
    keys: list[str]
    spans: list[Span]
    waiting: dict[int, _Waiting] = field(default_factory=dict)
    reached: float = -1.0
    sha256: str = ""

    def __post_init__(self) -> None:
        self._source = enumerate(self.opened.frames)

    def cut(self, place: int) -> Iterator[tuple[bytes, float]]:
        """Give the frames of a sample with their times, and keep those of later ones that come by."""
        span = self.spans[place]
        if place in self.waiting:
            yield from self.waiting.pop(place).frames()
        while self.reached < span.end and (found := next(self._source, None)) is not None:
            number, frame = found
            time = self._time(number)
            self.reached = at = span.at(number, time)
            for later in range(place + 1, bisect_right(self.spans, at, key=_start)):
                if at < self.spans[later].end:
                    self.waiting.setdefault(later, _Waiting()).add(frame, time)
            if span.start <= at < span.end:
                yield frame, time

    def _time(self, number: int) -> float:
        times = self.opened.times
        if number < len(times):
            if number and not times[number] and self.spans[0].unit == "s":
                raise UnreadableVideoError("tells no times: give the stretches by start_frame and end_frame")
            return times[number]
        return number / self.opened.fps


class SpanCutter:
    """Cuts the samples of a task that are spans of their sources.

    Samples of one source must be asked for one after the other, by the start of their spans; then it is decoded once,
    up to the end of the last one. A source that cannot be decoded is tried twice.

    Args:
        task: whose samples they are.
        fetch: gives a local path of a source.
        sha256_of: of a source.
    """

    def __init__(
        self,
        task: ShardTask,
        fetch: Callable[[str, Tick], AbstractContextManager[Path]],
        sha256_of: Callable[[Path, Tick], str],
    ) -> None:
        self._task = task
        self._fetch = fetch
        self._sha256_of = sha256_of
        self._stack = ExitStack()
        self._pass: _Pass | None = None
        self._failures: dict[str, list[tuple[float, str]]] = {}

    def cut(self, video: Video, tick: Tick) -> tuple[EncodedVideo, Callable[[], str]]:
        """Return a sample as a video of its own, and a function that gives the SHA-256 of its source.

        Raises:
            UnreadableVideoError: at once or while iterating, where the source cannot be decoded up to the end of the
                span, or has no frame in it.
        """
        failures = self._failures.get(video.path, [])
        if len(failures) >= _ATTEMPTS and video.span and video.span.end > failures[-1][0]:
            raise UnreadableVideoError(failures[-1][1])
        try:
            if self._pass is None or self._pass.path != video.path:
                self._pass = self._open(video, tick)
        except UnreadableVideoError as error:
            self._failed(video, str(error))
            raise
        found = self._pass
        times = array("d")
        opened = found.opened
        frames = self._frames(video, found, times)

        def sha256() -> str:
            found.sha256 = found.sha256 or self._sha256_of(found.local, tick)
            return found.sha256

        return EncodedVideo(opened.fps, opened.height, opened.width, frames, times, opened.remark), sha256

    def close(self) -> None:
        """Close the source that is open; what is asked for next begins a new pass."""
        self._pass = None
        self._stack.close()

    def _open(self, video: Video, tick: Tick) -> _Pass:
        self.close()
        shared = [other for other in self._task.videos if other.path == video.path and other.span is not None]
        spans = [other.span for other in shared if other.span is not None]
        # The latest end of all spans that begin up to a place tells whether any of them goes on there.
        begin, last_end = [span.start for span in spans], list(accumulate((span.end for span in spans), max))

        def wanted(number: int, first: float, last: float) -> bool:
            tick()
            begun = bisect_right(begin, spans[0].at(number, last))
            return begun > 0 and last_end[begun - 1] > spans[0].at(number, first)

        settings = replace(self._task.settings, max_frames=0)
        local = self._stack.enter_context(self._fetch(video.path, tick))
        opened = self._stack.enter_context(self._task.opener(local, settings, wanted))
        return _Pass(video.path, local, opened, [other.key for other in shared], spans)

    def _frames(self, video: Video, found: _Pass, times: "array[float]") -> Iterator[bytes]:
        limit = self._task.settings.max_frames
        first: float | None = None
        try:
            for frame, time in found.cut(found.keys.index(video.key)):
                first = time if first is None else first
                times.append(time - first)
                yield frame
                if limit and len(times) == limit:
                    return
        except UnreadableVideoError as error:
            self._failed(video, str(error))
            raise
        if first is None:
            raise UnreadableVideoError(f"has no frame in {video.span}")

    def _failed(self, video: Video, reason: str) -> None:
        reached = self._pass.reached if self._pass and self._pass.path == video.path else -1.0
        self._failures.setdefault(video.path, []).append((reached, reason))
        self.close()


def _start(span: Span) -> float:
    return span.start
