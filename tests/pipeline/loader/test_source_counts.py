"""What the loader's source does, counted: calls of Python, range reads and bytes. No clocks."""

import gc
import os
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from pclkd.pipeline import clip_loader
from pclkd.pipeline.clips.recipe import TupleRecipe
from pclkd.pipeline.clips.sampling import TupleSettings
from pclkd.pipeline.loader.order import sequential_positions
from pclkd.pipeline.loader.prepare import BatchPreparer
from pclkd.pipeline.reading.reader import FrameReader, ReadTimes
from pclkd.pipeline.reading.shard_bytes import LocalShards
from pclkd.pipeline.world import World
from pclkd.sharding.shards.index import ShardIndex


def counted(work: Callable[[], object]) -> Counter[str]:
    """Calls of Python functions ("call") and of built-in ones ("c_call") that `work` makes.

    A collection of garbage on the way would call whoever listens to the collector: other tests' libraries do.
    """
    found: Counter[str] = Counter()
    gc.disable()
    sys.setprofile(lambda frame, event, argument: found.update([event]))
    try:
        work()
    finally:
        sys.setprofile(None)
        gc.enable()
    return found


@pytest.fixture
def index(synthetic_shards: Path) -> ShardIndex:
    return ShardIndex.open(synthetic_shards)


def test_reading_calls_no_python_function_a_frame(index: ShardIndex) -> None:
    samples = np.arange(6)
    reader = FrameReader(index)

    def read(frames: int) -> Callable[[], object]:
        wanted = np.tile(np.arange(frames), (len(samples), 1))  # one range a sample, whatever its length
        return lambda: reader.read_batch(samples, wanted)

    read(40)()  # opens the shards, knows the headers
    few, many = counted(read(4)), counted(read(40))
    reader.close()
    assert many["call"] == few["call"]
    # Built-in ones a frame: the checksum, and looking its header up.
    assert (many["c_call"] - few["c_call"]) / (len(samples) * (40 - 4)) <= 2


def test_planning_calls_nothing_a_sample_or_frame(index: ShardIndex) -> None:
    """Vectorised index arithmetic: a batch of 24 takes the calls of a batch of 3."""

    def plan(samples: int, clip_frames: int) -> Counter[str]:
        tuples = TupleSettings(clip_frames=clip_frames, clip_stride=clip_frames * 3 // 2, remote_distance=clip_frames)
        recipe = TupleRecipe(seed=0, tuples=tuples)
        ids = np.arange(samples) % len(index)
        counts, sizes = np.full(samples, 96), np.tile([64, 86], (samples, 1))
        recipe.plan(0, ids, counts, sizes, 48)
        return counted(lambda: recipe.plan(0, ids, counts, sizes, 48))

    few, many, longer = plan(3, 8), plan(24, 8), plan(3, 24)
    assert many["call"] == few["call"] == longer["call"]
    assert many["c_call"] == few["c_call"] == longer["c_call"]


def test_an_epochs_order_calls_nothing_a_sample() -> None:
    def calls(n: int) -> int:
        return counted(lambda: list(sequential_positions(n, n // 4, World())))["call"]

    assert calls(4) == calls(4000)


def test_reads_and_bytes_of_a_sample(index: ShardIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system calls that are made, what the statistics tell, and a count from the index frame by frame."""
    tuples = TupleSettings(clip_frames=8, clip_stride=12, remote_distance=8)
    recipe = TupleRecipe(seed=0, tuples=tuples)
    samples = np.arange(8)
    preads: list[int] = []
    true_pread = os.pread

    def pread(descriptor: int, size: int, start: int) -> bytes:
        preads.append(size)
        return true_pread(descriptor, size, start)

    counts = index.sample_frames[samples + 1] - index.sample_frames[samples]
    plan = recipe.plan(0, samples, counts, index.sample_sizes(samples), 48)
    monkeypatch.setattr(os, "pread", pread)
    times = ReadTimes()
    reader = FrameReader(index)
    reader.read_batch(samples, plan.frames.reshape(len(samples), -1), times)
    reader.close()

    reads = stretch = 0
    for row, sample in enumerate(samples.tolist()):
        end = -1
        for frame in sorted(set(plan.frames[row].ravel().tolist())):
            place = int(index.sample_frames[sample]) + frame
            offset, length = int(index.frame_offset[place]), int(index.frame_length[place])
            near = end >= 0 and offset - end <= LocalShards.gap
            reads += not near
            stretch += offset + length - (end if near else offset)
            end = offset + length
    # Neighbouring videos of a shard may share a read.
    assert times.reads == len(preads) <= reads
    assert times.bytes_read == sum(preads) >= stretch
    assert len(preads) <= recipe.views * len(samples)  # a clip of consecutive frames is one read at most
    # Few bytes beside those of the wanted frames: the gaps that are cheaper read than skipped.
    wanted = np.unique(index.sample_frames[samples][:, None] + plan.frames.reshape(len(samples), -1))
    frames_bytes = int(index.frame_length[wanted].sum())
    assert frames_bytes <= sum(preads) <= frames_bytes + len(wanted) * LocalShards.gap
    assert sum(preads) < 0.9 * int(index.sample_size[samples].sum())  # the rest of the videos is not touched


def test_no_frame_is_read_twice(index: ShardIndex) -> None:
    times = ReadTimes()
    reader = FrameReader(index)
    reader.read_batch(np.array([2, 2, 2]), np.tile(np.arange(10), (3, 1)), times)
    reader.close()
    rows = slice(int(index.sample_frames[2]), int(index.sample_frames[2]) + 10)
    assert (times.reads, times.bytes_read) == (1, int(index.frame_length[rows].sum()))
    assert times.frames == 30


def test_the_loader_reads_no_more_than_its_batches_take(index: ShardIndex) -> None:
    """Statistics over a whole epoch equal those of reading the same batches one by one."""
    tuples = TupleSettings(clip_frames=8, clip_stride=12, remote_distance=8)
    options = {"batch_size": 4, "crop": 48, "tuples": tuples, "world": World(), "device": torch.device("cpu")}
    with clip_loader(index.root, **options) as loader:
        positions = [batch.sample_index.numpy() for batch in loader.epoch(0)]
        told = loader.statistics
        times = ReadTimes()
        preparer = BatchPreparer(index, loader._samples, loader.recipe, 48, 0, 4, replace=True)
        found = [preparer.read(rows, 0) for rows in positions]
        reader = FrameReader(index)
        for batch in found:
            ids = loader._samples[batch.positions]
            reader.read_batch(ids, batch.plan.frames.reshape(len(ids), -1), times)
        preparer.close()
        reader.close()
        assert (told.reads, told.bytes_read) == (times.reads, times.bytes_read)
        assert told.samples == 4 * len(positions)
