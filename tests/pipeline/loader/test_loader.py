import contextlib
import io
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pclkd.pipeline.batch import ClipBatch
from pclkd.pipeline.clips.covering import UniformRecipe
from pclkd.pipeline.clips.recipe import TupleRecipe
from pclkd.pipeline.clips.sampling import TupleSettings
from pclkd.pipeline.config import LoaderSettings
from pclkd.pipeline.loader.loader import ClipLoader
from pclkd.pipeline.pixels.colours import MEAN, STD
from pclkd.pipeline.pixels.dali import FrameDecoder
from pclkd.pipeline.reading.reader import FrameReader
from pclkd.pipeline.world import World
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.shards.index import ShardIndex

TUPLES = TupleSettings(clip_frames=8, clip_stride=12, remote_distance=8)
SMALL = {"batch_size": 4, "crop": 48}


@pytest.fixture(scope="module")
def index(synthetic_shards: Path) -> ShardIndex:
    return ShardIndex.open(synthetic_shards)


def tuples(index: ShardIndex, *, seed: int = 3, world: World | None = None, **settings: object) -> ClipLoader:
    samples = index.split_samples(1, "train")
    recipe = TupleRecipe(seed=seed, tuples=TUPLES)
    return ClipLoader(
        index, samples, recipe, LoaderSettings.model_validate({**SMALL, **settings}), seed=seed, world=world
    )


def batches(loader: ClipLoader, epoch: int = 0, first_step: int = 0) -> list[ClipBatch]:
    with loader:
        return list(loader.epoch(epoch, first_step))


def assert_same(a: list[ClipBatch], b: list[ClipBatch]) -> None:
    assert len(a) == len(b) > 0
    for one, other in zip(a, b, strict=True):
        for name in ("clips", "pretext_label", "sample_index", "label"):
            assert torch.equal(getattr(one, name), getattr(other, name)), name


def pillow_clip(index: ShardIndex, sample: int, frames: np.ndarray, top: int, left: int) -> np.ndarray:
    """[C, T, H, W] float64: the frames by Pillow, cropped and normalised."""
    pixels = [np.asarray(Image.open(io.BytesIO(jpeg.tobytes()))) for jpeg in FrameReader(index).read(sample, frames)]
    crop = np.stack(pixels)[:, top : top + 48, left : left + 48].astype(np.float64)
    return ((crop / 255 - MEAN) / STD).transpose(3, 0, 1, 2)


@pytest.mark.parametrize("modality", ["rgb", "residual"])
def test_a_validation_tuple_equals_one_made_by_hand(index: ShardIndex, modality: str) -> None:
    samples = index.split_samples(1, "test")
    recipe = TupleRecipe(seed=11, tuples=TUPLES, augment=None)
    settings = LoaderSettings.model_validate({**SMALL, "modality": modality})
    found = batches(ClipLoader(index, samples, recipe, settings, training=False))
    height, width = index.smallest_frame
    counts = np.array([index.frame_count(int(s)) for s in samples])
    plan = recipe.plan(0, samples, counts, np.array([(height, width)] * len(samples)), 48)
    assert plan.pretext is not None
    checked = set()
    for row in range(len(samples)):
        batch, place = found[row // 4], row % 4
        label = int(plan.pretext.label[row])
        assert int(batch.pretext_label[place]) == label
        assert int(batch.label[place]) == int(index.sample_label[samples[row]])
        for view in range(3):
            if view == 1 and label not in {0, 4}:
                continue  # the transforms have their own tests
            clip = pillow_clip(index, int(samples[row]), plan.frames[row, view], (height - 48) // 2, (width - 48) // 2)
            if modality == "residual":
                clip = np.stack([clip[:, t - 1] - clip[:, t] for t in range(8)], axis=1)
            difference = np.abs(batch.clips[place, view].double().numpy() - clip)
            assert difference.mean() < 0.02 and difference.max() < 0.4, (row, view)
            checked.add((view, label))
    assert len(checked) >= 4


def test_batches_have_the_promised_shapes_and_memory(index: ShardIndex) -> None:
    first = batches(tuples(index))[0]
    assert first.clips.shape == (4, 3, 3, 8, 48, 48) and first.clips.dtype == torch.float32
    assert first.valid == 4 and first.epoch == 0
    assert first.clips.flatten(0, 1).is_contiguous(memory_format=torch.channels_last_3d)
    assert first.clips.isfinite().all() and first.clips.std() > 0.01


def test_pixels_do_not_depend_on_threads_prefetch_or_restart(index: ShardIndex) -> None:
    reference = batches(tuples(index, threads=1, prefetch=1), epoch=2)
    assert_same(reference, batches(tuples(index, threads=2, prefetch=3), epoch=2))
    assert_same(reference[1:], batches(tuples(index), epoch=2, first_step=1))
    again = tuples(index)
    list(again.epoch(0))
    assert_same(reference, batches(again, epoch=2))  # nothing is carried over from another epoch


def test_two_processes_share_the_steps_of_one(index: ShardIndex) -> None:
    whole = batches(tuples(index, batch_size=4))
    parts = [batches(tuples(index, batch_size=2, world=World(rank=rank, size=2))) for rank in range(2)]
    for step, batch in enumerate(whole):
        for name in ("clips", "pretext_label", "sample_index"):
            joined = torch.cat([getattr(part[step], name) for part in parts])
            assert torch.equal(joined, getattr(batch, name)), name


def test_epochs_and_seeds_give_other_clips(index: ShardIndex) -> None:
    assert not torch.equal(batches(tuples(index))[0].clips, batches(tuples(index), epoch=1)[0].clips)
    assert not torch.equal(batches(tuples(index))[0].clips, batches(tuples(index, seed=4))[0].clips)


def test_evaluation_sees_every_video_once_in_order(index: ShardIndex) -> None:
    samples = index.split_samples(1, "train")
    with ClipLoader(
        index,
        samples,
        UniformRecipe(views=2, clip_frames=8),
        LoaderSettings(batch_size=5, crop=48),
        training=False,
    ) as loader:
        seen = [row for batch in loader.epoch(0) for row in batch.sample_index[: batch.valid].tolist()]
        valid = [batch.valid for batch in loader.epoch(0)]
    assert seen == list(range(len(samples)))
    assert valid == [5] * (len(samples) // 5) + ([len(samples) % 5] if len(samples) % 5 else [])


def damage(shards: Path, sample: int) -> None:
    index = ShardIndex.open(shards)
    for row in range(int(index.sample_frames[sample]), int(index.sample_frames[sample + 1])):
        with Path(index.shard_url(int(index.sample_shard[sample]))).open("r+b") as file:
            file.seek(int(index.frame_offset[row]) + 50)
            file.write(b"damage")


def test_a_damaged_sample_is_counted_and_replaced_the_same_way_each_time(
    synthetic_shards: Path, tmp_path: Path
) -> None:
    shards = Path(shutil.copytree(synthetic_shards, tmp_path / "shards"))
    index = ShardIndex.open(shards)
    healthy = batches(tuples(index))
    bad = 2
    damage(shards, int(index.split_samples(1, "train")[bad]))
    runs = []
    for _ in range(2):
        loader = tuples(index)
        runs.append(batches(loader))
        assert loader.statistics.quarantined == 1
    assert_same(*runs)
    before = torch.cat([batch.sample_index for batch in healthy])
    after = torch.cat([batch.sample_index for batch in runs[0]])
    assert before.tolist().count(bad) == 1 and bad not in after
    assert (before != after).sum() == 1
    untouched = before == after
    clips = [torch.cat([batch.clips for batch in run]) for run in (healthy, runs[0])]
    assert torch.equal(clips[0][untouched], clips[1][untouched])


def test_evaluation_leaves_a_damaged_video_out(synthetic_shards: Path, tmp_path: Path) -> None:
    shards = Path(shutil.copytree(synthetic_shards, tmp_path / "shards"))
    index = ShardIndex.open(shards)
    samples = index.split_samples(1, "train")
    damage(shards, int(samples[1]))
    with ClipLoader(
        index, samples, UniformRecipe(views=1, clip_frames=8), LoaderSettings(**SMALL), training=False
    ) as loader:
        seen = [row for batch in loader.epoch(0) for row in batch.sample_index[: batch.valid].tolist()]
        assert seen == [row for row in range(len(samples)) if row != 1]
        assert loader.statistics.quarantined == 1


def test_a_set_that_is_damaged_all_over_stops_with_the_remedy(synthetic_shards: Path, tmp_path: Path) -> None:
    shards = Path(shutil.copytree(synthetic_shards, tmp_path / "shards"))
    index = ShardIndex.open(shards)
    for sample in range(len(index)):
        damage(shards, sample)
    with pytest.raises(InputError, match=r"shard-ucf101 verify"):
        batches(tuples(index))


def test_a_crop_larger_than_the_frames_is_refused(index: ShardIndex) -> None:
    with pytest.raises(InputError, match="64x86"):
        tuples(index, crop=112)


def test_nvjpeg_without_a_gpu_is_refused(index: ShardIndex) -> None:
    with pytest.raises(InputError, match="decode=auto"):
        batches(tuples(index, decode="mixed"))
    with pytest.raises(InputError, match="operators=auto"):
        batches(tuples(index, operators="kernels"))


def test_leaving_an_epoch_early_leaves_no_thread(index: ShardIndex, until: Callable[..., None]) -> None:
    before = set(threading.enumerate())
    with tuples(index) as loader:
        for _ in loader.epoch(0):
            break
    until(lambda: set(threading.enumerate()) <= before)


def test_statistics_count_the_work(index: ShardIndex) -> None:
    loader = tuples(index)
    found = batches(loader)
    statistics = loader.statistics
    assert statistics.clips == len(found) * 4 * 3
    assert statistics.bytes_read > 0 and statistics.decode_s > 0 and statistics.read_s > 0


def test_a_pass_that_is_slow_to_leave_the_decoder_is_waited_for(
    index: ShardIndex, monkeypatch: pytest.MonkeyPatch, until: Callable[..., None]
) -> None:
    """Two threads in one decoder would get each other's frames."""
    expected = batches(tuples(index), 1)
    finish, within, leave = FrameDecoder.finish, threading.Event(), threading.Event()

    def slow(*given: Any) -> torch.Tensor:
        within.set()
        leave.wait()
        return finish(*given)

    monkeypatch.setattr(FrameDecoder, "finish", slow)
    with tuples(index, wait_limit_s=1.0) as opened:

        def begun() -> bool:
            with pytest.raises(InputError, match="no batch of epoch 0 for 1 s"):
                next(opened.epoch(0))
            return within.is_set()

        until(begun)

        def held_up() -> bool:
            with pytest.raises(InputError, match="no batch of epoch 1 for 1 s") as told:
                next(opened.epoch(1))
            return "the pass before to leave the decoder" in str(told.value)

        until(held_up)
        leave.set()
        found: list[ClipBatch] = []

        def gone_through() -> bool:
            found.clear()
            with contextlib.suppress(InputError):  # a busy machine may take longer than the limit
                found.extend(opened.epoch(1))
            return len(found) == len(expected)

        until(gone_through)
    assert_same(found, expected)
