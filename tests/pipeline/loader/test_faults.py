"""Damaged data: counted exactly, replaced the same way everywhere, and told when it is too much."""

import gc
import logging
import os
import shutil
import threading
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from pclkd.pipeline import UniformRecipe, clip_loader
from pclkd.pipeline.batch import ClipBatch
from pclkd.pipeline.clips.sampling import TupleSettings
from pclkd.pipeline.loader.loader import ClipLoader
from pclkd.pipeline.randomness import Purpose, integers, permutation
from pclkd.pipeline.world import World
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.shards.index import ShardIndex

TUPLES = TupleSettings(clip_frames=4, clip_stride=6, remote_distance=4)
PLAIN = UniformRecipe(views=1, clip_frames=4)


@pytest.fixture
def shards(synthetic_shards: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(synthetic_shards, tmp_path / "shards"))


def loader(shards: Path | ShardIndex, world: World | None = None, **settings: object) -> ClipLoader:
    changes = {"batch_size": 4, "crop": 32, "seed": 3, "tuples": TUPLES, "device": torch.device("cpu"), **settings}
    return clip_loader(shards, world=world or World(), **changes)


def ids(batches: list[ClipBatch]) -> list[int]:
    return [position for batch in batches for position in batch.sample_index[: batch.valid].tolist()]


def flip_bits(shards: Path, sample: int) -> None:
    """One wrong bit in each frame of a sample."""
    index = ShardIndex.open(shards)
    with Path(index.shard_url(int(index.sample_shard[sample]))).open("r+b") as file:
        for row in range(int(index.sample_frames[sample]), int(index.sample_frames[sample + 1])):
            file.seek(int(index.frame_offset[row]) + 60)
            byte = file.read(1)[0]
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte ^ 4]))


def store_nonsense(shards: Path, sample: int) -> None:
    """Frames that are no JPEG, with checksums that fit: as a packer with a fault would leave them."""
    change_frames(shards, sample, lambda row, jpeg: bytes([row % 251]) * len(jpeg))


def store_undecodable(shards: Path, sample: int) -> None:
    """JPEGs with a sound header that want a Huffman table that is not there: only the decoder finds out."""

    def spoil(_: int, jpeg: bytes) -> bytes:
        tables = jpeg.index(b"\xff\xda") + 6
        return jpeg[:tables] + b"\x33" + jpeg[tables + 1 :]

    change_frames(shards, sample, spoil)


def change_frames(shards: Path, sample: int, change: Callable[[int, bytes], bytes]) -> None:
    index = ShardIndex.open(shards)
    column = shards / "index" / "frame_crc32.npy"
    sums = np.load(column)
    with Path(index.shard_url(int(index.sample_shard[sample]))).open("r+b") as file:
        for row in range(int(index.sample_frames[sample]), int(index.sample_frames[sample + 1])):
            file.seek(int(index.frame_offset[row]))
            changed = change(row, file.read(int(index.frame_length[row])))
            file.seek(int(index.frame_offset[row]))
            file.write(changed)
            sums[row] = zlib.crc32(changed)
    np.save(column, sums)


@pytest.mark.parametrize("damage", [flip_bits, store_nonsense, store_undecodable])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_damaged_samples_are_counted_once_and_replaced_alike_by_any_number_of_processes(
    shards: Path, size: int, damage
) -> None:
    index = ShardIndex.open(shards)
    samples = index.split_samples(1, "train")
    bad = {1, 4, 5}
    for position in bad:
        damage(shards, int(samples[position]))
    expected, reads = [], 0
    for position in permutation(3, 0, len(samples)).tolist():
        draws = integers(3, 0, [samples[position]], Purpose.REPLACEMENT, 16, len(samples))[0].tolist()
        tried = [position, *draws] if position in bad else [position]
        chosen = next(number for number, candidate in enumerate(tried) if candidate not in bad)
        expected.append(tried[chosen])
        reads += chosen
    ranks, quarantined, found_reads = [], 0, 0
    for rank in range(size):
        with loader(shards, World(rank, size), batch_size=12 // size) as opened:
            ranks.append(list(opened.epoch(0)))
        quarantined += opened.statistics.quarantined
        found_reads += opened.statistics.damaged_reads
        assert opened.statistics.samples == 12 // size
    assert [position for step in zip(*ranks, strict=True) for position in ids(list(step))] == expected
    assert quarantined == len(bad)
    assert found_reads == reads


@pytest.mark.parametrize("damage", [flip_bits, store_nonsense, store_undecodable])
def test_evaluation_leaves_damaged_videos_out_and_nothing_else(shards: Path, damage) -> None:
    samples = ShardIndex.open(shards).split_samples(1, "train")
    for position in (0, 1, 2, 3, 6):  # a whole batch, and one of the next
        damage(shards, int(samples[position]))
    with loader(shards, shuffle=False, recipe=PLAIN) as opened:
        for _ in range(2):
            assert ids(list(opened)) == [4, 5, 7, 8, 9, 10, 11]
    assert (opened.statistics.quarantined, opened.statistics.samples) == (10, 24)


def test_shards_that_vanish_or_shrink_under_way(shards: Path) -> None:
    index = ShardIndex.open(shards)
    with loader(shards, batch_size=1) as whole:
        truth = {one.sample_index.item(): one.clips for one in whole.epoch(0)}
    with loader(index, batch_size=1, prefetch=1, threads=1) as opened:
        found = []
        for number, batch in enumerate(opened.epoch(0)):
            found.append(batch)
            if number == 0:
                first, second = (Path(index.shard_url(shard)) for shard in (0, 1))
                os.truncate(first, 100)
                second.unlink()
    order = permutation(3, 0, 12).tolist()
    replaced = [wanted for wanted, batch in zip(order, found, strict=True) if batch.sample_index.item() != wanted]
    assert opened.statistics.quarantined == len(replaced) > 0
    # Whatever was delivered is whole; replacements are other clips of the epoch, planned as their own.
    for batch in found:
        assert torch.equal(batch.clips, truth[batch.sample_index.item()])
    lost = {
        position for position, sample in enumerate(index.split_samples(1, "train")) if index.sample_shard[sample] < 2
    }
    assert set(replaced) <= lost


def test_too_many_damaged_samples_stop_the_run_with_a_remedy(shards: Path) -> None:
    samples = ShardIndex.open(shards).split_samples(1, "train")
    for position in range(3, 12):
        flip_bits(shards, int(samples[position]))
    plain = {"shuffle": False, "recipe": PLAIN, "batch_size": 1}
    with (
        loader(shards, **plain) as opened,
        pytest.raises(
            InputError,
            match=r"9 of the 12 samples drawn in epoch 0 are damaged, more than the 1 %.*shard-ucf101 verify.*"
            r"loader\.quarantine_limit_pct",
        ),
    ):
        list(opened)
    assert opened.statistics.quarantined == 9
    with loader(shards, **plain, quarantine_limit_pct=80.0) as opened:
        assert ids(list(opened)) == [0, 1, 2]
    with loader(shards, **plain, quarantine_limit_pct=100.0) as opened:
        for _ in range(3):  # each pass counts for itself
            assert len(list(opened)) == 3


def test_a_set_without_an_intact_sample_stops(shards: Path) -> None:
    for sample in range(len(ShardIndex.open(shards))):
        flip_bits(shards, sample)
    with loader(shards) as opened, pytest.raises(InputError, match=r"16 replacements in a row.*shard-ucf101 verify"):
        list(opened)


def test_an_index_of_other_shards_is_told(shards: Path) -> None:
    index = ShardIndex.open(shards)
    first = Path(index.shard_url(0))
    content = first.read_bytes()
    first.write_bytes(content + bytes(512))
    with pytest.raises(InputError, match=r"has \d+ bytes, expected \d+"):
        ShardIndex.open(shards)
    # Of the right length, but with other videos: only the checksums can tell.
    for shard, record in enumerate(index.manifest.shards):
        (shards / record.name).write_bytes((content * 3)[: record.bytes] if shard else content[::-1])
    with (
        loader(ShardIndex.open(shards), shuffle=False, recipe=PLAIN) as opened,
        pytest.raises(InputError, match="holds another video there: index and shards are not of one packing"),
    ):
        list(opened)


def test_a_wrong_or_damaged_manifest_is_refused(shards: Path) -> None:
    manifest = shards / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"frames": ', '"frames": 1'))
    with pytest.raises(InputError, match="fingerprint"):
        loader(shards)
    manifest.unlink()
    with pytest.raises(InputError, match=r"no manifest\.json"):
        loader(shards)


@pytest.mark.parametrize("column", ["frame_offset", "frame_length", "frame_crc32"])
def test_a_damaged_index_column_quarantines_and_breaks_nothing(shards: Path, column: str) -> None:
    path = shards / "index" / f"{column}.npy"
    values = np.load(path)
    values[:] = np.random.default_rng(0).integers(-(2**31), 2**31 - 1, len(values)).astype(values.dtype)
    np.save(path, values)
    with loader(shards, shuffle=False, recipe=PLAIN, quarantine_limit_pct=100.0) as opened:
        assert list(opened) == []
    assert opened.statistics.quarantined == 12


def test_a_disk_that_never_answers_is_told_and_left_behind(shards: Path) -> None:
    index = ShardIndex.open(shards)
    stuck = Path(index.shard_url(0))
    stuck.unlink()
    os.mkfifo(stuck)  # opening it waits for a writer that never comes
    opened = loader(index, wait_limit_s=5.0, batch_size=12)
    with pytest.raises(InputError, match=rf"no batch of epoch 0 for 5 s, waiting for a batch to be read from {stuck}"):
        list(opened)
    opened.close()  # does not wait for it: nobody writes before the next line
    with stuck.open("wb"):  # lets the thread that hangs come back and end
        pass


def test_no_thread_outlives_its_loader(shards: Path, until: Callable[..., None]) -> None:
    before = set(threading.enumerate())

    def fail() -> None:
        opened = loader(shards, batch_size=2)
        for _ in opened:
            raise KeyError("in the training step")

    with pytest.raises(KeyError):
        fail()  # nobody closed it: it ends with the last reference
    abandoned = loader(shards, batch_size=2)
    iterator = iter(abandoned)
    next(iterator)
    del abandoned, iterator
    once = loader(shards)
    list(once)  # which has begun to read the next epoch
    once.close()
    once.close()
    with pytest.raises(RuntimeError, match="closed"):
        next(iter(once))
    until(lambda: set(threading.enumerate()) <= before)


def test_a_second_loop_ends_the_first(shards: Path) -> None:
    with loader(shards, batch_size=2) as opened:
        first = opened.epoch(0)
        next(first)
        assert len(list(opened.epoch(1))) == 6
        with pytest.raises(RuntimeError, match="another loop"):
            list(first)


def test_ten_thousand_corrupted_reads_leave_no_trace(shards: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)  # pytest would keep ten thousand warnings in memory
    samples = ShardIndex.open(shards).split_samples(1, "train")
    for position in range(len(samples)):
        if position != 7:
            flip_bits(shards, int(samples[position]))
    process = psutil.Process()
    settings = {"shuffle": False, "recipe": PLAIN, "batch_size": 12, "quarantine_limit_pct": 100.0}
    with loader(shards, **settings) as opened:

        def passes(number: int) -> None:
            for _ in range(number):
                assert ids(list(opened)) == [7]

        passes(30)  # pools and caches fill
        gc.collect()  # files that earlier tests left to the collector must not close in between
        files, memory = process.num_fds(), process.memory_info().rss
        passes(880)
        grown = process.memory_info().rss - memory
        assert opened.statistics.quarantined == opened.statistics.damaged_reads == 910 * 11 > 10_000
        assert opened.statistics.samples == 910 * 12 and opened.statistics.clips == 910
        assert process.num_fds() <= files
        assert grown < 20e6
