import contextlib
import errno
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest

from pclkd.pipeline.reading.reader import DamagedSampleError, FrameReader, ReadTimes
from pclkd.pipeline.reading.shard_bytes import LocalShards
from pclkd.sharding.shards.index import ShardIndex


@pytest.fixture
def shards(synthetic_shards: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(synthetic_shards, tmp_path / "shards"))


def stored_frames(index: ShardIndex, sample: int) -> list[bytes]:
    """The frames of a sample by Python's own tar reader, split at the JPEG start markers."""
    with tarfile.open(Path(index.shard_url(int(index.sample_shard[sample])))) as tar:
        member = tar.extractfile(f"{index.key(sample)}.mjpeg")
        assert member is not None
        stream = member.read()
    # SOI is followed by another marker; within entropy-coded data 0xFF 0xD8 cannot occur.
    cuts = [i for i in range(len(stream) - 2) if stream[i : i + 3] == b"\xff\xd8\xff"]
    return [stream[a:b] for a, b in zip(cuts, [*cuts[1:], len(stream)], strict=True)]


def flip_byte(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x10]))


def test_frames_are_those_of_the_tar_in_any_order_with_repeats(shards: Path) -> None:
    index = ShardIndex.open(shards)
    sample = len(index) - 1
    frames = np.array([5, 6, 7, 2, 2, index.frame_count(sample) - 1, 0])
    expected = stored_frames(index, sample)
    assert len(expected) == index.frame_count(sample)
    times = ReadTimes()
    found = FrameReader(index).read(sample, frames, times)
    assert [bytes(jpeg) for jpeg in found] == [expected[i] for i in frames]
    # Frames 1, 3 and 4 are read along: the gaps that they leave are small.
    assert times.bytes_read == sum(map(len, expected[:8])) + len(expected[-1])
    assert times.read_s > 0 and times.checksum_s > 0


def test_a_flipped_byte_damages_its_frame_and_no_other(shards: Path) -> None:
    index = ShardIndex.open(shards)
    row = int(index.sample_frames[1]) + 4
    flip_byte(Path(index.shard_url(int(index.sample_shard[1]))), int(index.frame_offset[row]) + 100)
    reader = FrameReader(index)
    with pytest.raises(DamagedSampleError, match=f"{index.key(1)}: frame 4 fails its checksum"):
        reader.read(1, np.arange(8))
    assert len(reader.read(1, np.array([3, 5]))) == 2
    assert len(reader.read(0, np.arange(8))) == 8


def test_a_shortened_or_vanished_shard_is_told(shards: Path) -> None:
    index = ShardIndex.open(shards)
    last = len(index) - 1
    path = Path(index.shard_url(int(index.sample_shard[last])))
    with path.open("r+b") as file:
        file.truncate(int(index.sample_offset[last]) + 10)
    with pytest.raises(DamagedSampleError, match=f"{path.name} ends before byte"):
        FrameReader(index).read(last, np.arange(4))
    path.unlink()
    with pytest.raises(DamagedSampleError, match="No such file"):
        FrameReader(index).read(last, np.arange(4))


def open_shards(shards: Path) -> list[str]:
    """Files of the shard set that this process holds open."""
    targets = []
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # closed since it was listed
            targets.append(str(link.readlink()))
    return [target for target in targets if target.startswith(str(shards)) and "index" not in target]


def test_open_files_are_bounded_and_closed(shards: Path) -> None:
    index = ShardIndex.open(shards)
    assert len(index.manifest.shards) > 2
    reader = FrameReader(index, LocalShards(index, open_shards=2))
    for sample in range(len(index)):
        reader.read(sample, np.array([0]))
    assert len(open_shards(shards)) == 2
    reader.close()
    assert not open_shards(shards)


def test_a_descriptor_that_went_stale_is_opened_again(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As NFS has it when its server put another file in the place; a file system that is gone stays told."""
    index, pread = ShardIndex.open(shards), os.pread
    reader, path = FrameReader(index), Path(index.shard_url(0))
    before = [bytes(jpeg) for jpeg in reader.read(0, np.arange(4))]
    replaced = path.stat().st_ino
    Path(shutil.copy(path, shards / "new")).replace(path)

    def read(descriptor: int, size: int, offset: int) -> bytes:
        if os.fstat(descriptor).st_ino == replaced:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return pread(descriptor, size, offset)

    monkeypatch.setattr(os, "pread", read)
    assert [bytes(jpeg) for jpeg in reader.read(0, np.arange(4))] == before
    replaced = path.stat().st_ino
    with pytest.raises(DamagedSampleError, match="Stale file handle"):
        reader.read(0, np.arange(4))


def test_a_read_that_gives_less_than_asked_goes_on(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As file systems in user space do, and Linux beyond 2 GiB."""
    index, pread = ShardIndex.open(shards), os.pread
    expected = [bytes(jpeg) for jpeg in FrameReader(index).read(0, np.arange(8))]
    monkeypatch.setattr(os, "pread", lambda descriptor, size, offset: pread(descriptor, min(size, 1000), offset))
    assert [bytes(jpeg) for jpeg in FrameReader(index).read(0, np.arange(8))] == expected
    last = len(index) - 1
    with Path(index.shard_url(int(index.sample_shard[last]))).open("r+b") as file:
        file.truncate(int(index.sample_offset[last]) + 2500)
    with pytest.raises(DamagedSampleError, match="ends before byte"):
        FrameReader(index).read(last, np.arange(4))


@pytest.mark.parametrize(
    ("column", "value"), [("frame_length", 2**31 - 1), ("frame_length", -1), ("frame_offset", 2**62)]
)
def test_a_damaged_row_of_the_index_takes_no_neighbour_along(shards: Path, column: str, value: int) -> None:
    """Frames of its own video, and the last ones of the video before it, are read along with it."""
    for row in (4, 0):
        index = ShardIndex.open(shards)
        assert index.sample_shard[0] == index.sample_shard[1]
        wrong = getattr(index, column).copy()
        wrong[index.sample_frames[1] + row] = value
        setattr(index, column, wrong)
        reader, count = FrameReader(index), index.frame_count(0)
        found = reader.read_batch(np.array([0, 1]), np.stack([np.arange(count - 3, count), np.arange(row, row + 3)]))
        assert set(found.damage) == {1}
        assert len(reader.read(1, np.array([row + 1, row + 2]))) == 2
