"""Make one shard: frames go from the decoder into the tar as they come, however long a video is."""

import errno
import hashlib
import json
import os
import tempfile
import time
import zlib
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import numpy as np

from pclkd.sharding.common import files as atomic
from pclkd.sharding.common import storage
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.common.store_errors import RefusedError
from pclkd.sharding.datasets.dataset import Video
from pclkd.sharding.packing.spans import SpanCutter
from pclkd.sharding.packing.stored import StoredVideo, take_over
from pclkd.sharding.packing.task import Opener, PackedVideo, ShardResult, ShardTask
from pclkd.sharding.shards.manifest import Quarantined, ShardRecord
from pclkd.sharding.shards.tar import BLOCK, LARGEST_MEMBER, MemberTooLargeError, TarWriter, webdataset_index
from pclkd.sharding.video.clock import settled_rate
from pclkd.sharding.video.decode import telling
from pclkd.sharding.video.frames import EncodedVideo, UnreadableVideoError
from pclkd.sharding.video.salvage import open_salvaged

__all__ = ["FileLostError", "Outcome", "Tell", "make_shard", "write_index"]

Outcome = PackedVideo | Quarantined
# What a worker says while it goes on: ("begin", position of the video), ("alive",), ("retry",), ("through", outcome),
# ("restart",) when nothing of what was through before is of use.
Tell = Callable[[tuple[Any, ...]], None]

_SECONDS_BETWEEN_SIGNS = 0.25
_CHUNK = 1 << 20


class FileLostError(Exception):
    """A video brought this process into a state that it should not go on from; the text says how."""


def make_shard(
    task: ShardTask, so_far: Sequence[Outcome], tell: Tell, stored: Mapping[str, StoredVideo] | None = None
) -> ShardResult:
    """Decode the videos of a shard and write its tar and its wds2idx index.

    Both appear under their final names only when they are whole. A video that cannot be read is tried once more and
    then left out, or its longest sound run is kept where the settings say so.

    Args:
        task: the shard.
        so_far: what became of its first videos in a process that was lost; their part of the tar is there.
        tell: called as work goes on.
        stored: videos that lie in a finished set already, by key; they are copied from there.

    Raises:
        FileLostError: a video takes more memory than there may be; go on in a new process.
        InputError: a video that was there when the work was planned is gone: so may be all of them.
        OSError: the tar cannot be written.
    """
    task.scratch.mkdir(parents=True, exist_ok=True)
    with atomic.told_in(task.scratch):
        return _made(task, so_far, tell, stored or {})


def _made(task: ShardTask, so_far: Sequence[Outcome], tell: Tell, stored: Mapping[str, StoredVideo]) -> ShardResult:
    outcomes = list(so_far)
    taken_over = 0
    sums: dict[str, str] = {}
    with task.part.open("r+b" if so_far else "w+b") as file, ExitStack() as stack:
        tar = TarWriter(file, _end_of(outcomes))
        cutter = stack.enter_context(closing(SpanCutter(task, _source, _hash_source)))
        for position in range(len(outcomes), len(task.videos)):
            tell(("begin", position))
            found = stored.get(task.videos[position].key)
            taken = take_over(task, position, tar, found, _ticker(tell), sums) if found else None
            outcomes.append(taken or _pack_video(task, position, tar, tell, cutter))
            taken_over += taken is not None
            file.flush()  # what is told to be through must survive this process
            tell(("through", outcomes[-1]))
        left_out = [video for video in outcomes if isinstance(video, Quarantined)]
        result = ShardResult(None, quarantined=left_out, taken_over=taken_over)
        if packed := [video for video in outcomes if isinstance(video, PackedVideo)]:
            total = tar.finish()
            sha256, result.packed = _seal(file, packed)
            result.record = ShardRecord(task.name, total, len(packed), sha256)
            os.fsync(file.fileno())
    if result.packed:
        write_index(task, result.packed)
        _publish(task)
    task.part.unlink(missing_ok=True)
    return result


def write_index(task: ShardTask, packed: Sequence[PackedVideo]) -> None:
    """Write what wds2idx makes of the tar beside it, unless it is there."""
    url = storage.join(task.out, f"{Path(task.name).stem}.idx")
    content = webdataset_index([entry for video in packed for entry in video.entries]).encode()
    with suppress(FileNotFoundError):
        if storage.read_bytes(url) == content:
            return
    storage.write_bytes(url, content)


def _end_of(outcomes: Sequence[Outcome]) -> int:
    return max([0, *(video.start + video.size for video in outcomes if isinstance(video, PackedVideo))])


def _pack_video(task: ShardTask, position: int, tar: TarWriter, tell: Tell, cutter: SpanCutter) -> Outcome:
    """Append one video; when it fails twice, nothing of it stays."""
    start = tar.position
    try:
        return _append(task, position, tar, tell, cutter)
    except UnreadableVideoError:
        # A server that was away for a moment may be back.
        tar.rewind(start)
        tell(("retry",))
    try:
        return _append(task, position, tar, tell, cutter)
    except UnreadableVideoError as error:
        tar.rewind(start)
        reason = str(error)
    source = task.videos[position].path
    if task.identities[position] and not storage.exists(source):
        raise InputError(
            f"{source} went away while it was packed",
            remedy="bring it back and run again: finished shards are kept",
        )
    if task.settings.salvage and not task.videos[position].span:
        try:
            opener = partial(open_salvaged, reason=reason, tick=_ticker(tell))
            return _append(task, position, tar, tell, cutter, opener)
        except UnreadableVideoError as error:
            tar.rewind(start)
            reason = str(error)
    return Quarantined(task.videos[position].shown, reason)


def _append(
    task: ShardTask, position: int, tar: TarWriter, tell: Tell, cutter: SpanCutter, opener: Opener | None = None
) -> PackedVideo:
    video = task.videos[position]
    tick = _ticker(tell)
    start = tar.position
    lengths, sums = array("i"), array("I")
    try:
        with _opened(task, video, cutter, opener or task.opener, tick) as (opened, sum_of_source):
            with tar.stream(f"{video.key}.mjpeg") as write:
                for frame in opened.frames:
                    write(frame)
                    lengths.append(len(frame))
                    sums.append(zlib.crc32(frame))
                    tick()
            source_sha256 = sum_of_source()
    except MemberTooLargeError:
        limit = f"would take more than {(LARGEST_MEMBER + 1) >> 30} GiB"
        raise UnreadableVideoError(f"{limit} stored; --fps, --max-frames or a smaller --size help") from None
    except (MemoryError, OSError) as error:
        if isinstance(error, MemoryError) or error.errno == errno.ENOMEM:
            raise FileLostError("needs more memory to decode than a worker may use") from error
        raise
    fps, even = settled_rate(opened.times, opened.fps)
    about = json.dumps(
        {
            "key": video.key,
            "class": task.class_of(video),
            "label": video.label,
            "group": video.group,
            "frames": len(lengths),
            "fps": fps,
            "height": opened.height,
            "width": opened.width,
            "source": video.relative,
            "source_sha256": source_sha256,
            **({"span": asdict(video.span)} if video.span else {}),
            **({"remark": opened.remark} if opened.remark else {}),
            **({"salvaged": opened.salvaged} if opened.salvaged else {}),
        }
    ).encode()
    tar.add(f"{video.key}.json", about)
    return PackedVideo(
        video,
        start + BLOCK,
        np.array(lengths, dtype=np.int32),
        np.array(sums, dtype=np.uint32),
        tar.position - start,
        opened.height,
        opened.width,
        len(about),
        source_sha256,
        fps=fps,
        times=None if even else np.array(opened.times),
        remark=opened.remark,
        salvaged=opened.salvaged is not None,
    )


@contextmanager
def _opened(
    task: ShardTask, video: Video, cutter: SpanCutter, opener: Opener, tick: Callable[[], None]
) -> Iterator[tuple[EncodedVideo, Callable[[], str]]]:
    """Open a video; give it, and what tells the SHA-256 of its source."""
    if video.span:
        yield cutter.cut(video, tick)
        return
    with _source(video.path, tick) as path, opener(path, task.settings) as opened:
        yield opened, lambda: _hash_source(path, tick)


@contextmanager
def _source(url: str, tick: Callable[[], None]) -> Iterator[Path]:
    """Give a local path to read a source from."""
    if not storage.is_remote(url):
        yield storage.local_path(url)
        return
    with tempfile.TemporaryDirectory(prefix="pclkd-source-") as folder:
        target = Path(folder) / f"source{PurePosixPath(url).suffix}"
        try:
            storage.fetch(url, target, tick)
        except FileNotFoundError:
            raise UnreadableVideoError("is not there any more") from None
        except RefusedError as error:
            raise UnreadableVideoError(f"cannot be fetched ({error.answer})") from None
        yield target


def _hash_source(path: Path, tick: Callable[[], None]) -> str:
    try:
        return atomic.sha256_of(path, tick)
    except OSError as error:
        raise telling("cannot be read", error) from error


def _ticker(tell: Tell) -> Callable[[], None]:
    """Return a function that may be called often and says now and then that there is progress."""
    said = time.monotonic()

    def tick() -> None:
        nonlocal said
        now = time.monotonic()
        if now - said >= _SECONDS_BETWEEN_SIGNS:
            said = now
            tell(("alive",))

    return tick


def _seal(file: BinaryIO, packed: Sequence[PackedVideo]) -> tuple[str, list[PackedVideo]]:
    """Read a whole tar back; return its SHA-256 as hex, and its videos with the checksums of their stretches.

    The headers were written last, and parts of the file may come from a process that was lost: only what is read back
    can be vouched for.
    """
    file.flush()
    file.seek(0)
    whole = hashlib.sha256()
    sealed = []

    def read(size: int) -> bytes:
        data = file.read(size)
        whole.update(data)
        return data

    for video in packed:
        crc32 = zlib.crc32(read(BLOCK))
        for length, expected in zip(video.lengths.tolist(), video.frame_crc32.tolist(), strict=True):
            frame = read(length)
            if zlib.crc32(frame) != expected:
                raise OSError(errno.EIO, "what was written does not come back", file.name)
            crc32 = zlib.crc32(frame, crc32)
        crc32 = zlib.crc32(read(video.start + video.size - file.tell()), crc32)
        sealed.append(replace(video, crc32=crc32))
    while read(_CHUNK):
        pass
    return whole.hexdigest(), sealed


def _publish(task: ShardTask) -> None:
    if storage.is_remote(task.out):
        storage.put(task.part, storage.join(task.out, task.name))
        return
    target = storage.local_path(task.out) / task.name
    task.part.replace(target)
    atomic.sync_folder(target.parent)
