"""The fused steps against DALI's graph on real frames, and what holds for clips whatever way they are made."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from pclkd.pipeline import clip_loader
from pclkd.pipeline.batch import ClipBatch
from pclkd.pipeline.clips.augment import AugmentSettings, ClipAugment, draw
from pclkd.pipeline.clips.sampling import TupleSettings
from pclkd.pipeline.pixels.colours import MEAN, STD, colour_maps
from pclkd.pipeline.pixels.dali import Colours, FrameDecoder, FrameGraph
from pclkd.pipeline.pixels.finish import ClipFinish
from pclkd.pipeline.pixels.fused import FusedColours
from pclkd.pipeline.pretext.base import Facts, Pretext
from pclkd.pipeline.pretext.rotation import Rotation
from pclkd.pipeline.pretext.vcp import Vcp
from pclkd.pipeline.reading.reader import FrameReader
from pclkd.sharding.shards.index import ShardIndex

SAMPLES, VIEWS, FRAMES, CROP = 16, 3, 2, 48
SIZES = np.tile([64, 86], (SAMPLES, 1))
TUPLES = TupleSettings(clip_frames=8, clip_stride=12, remote_distance=8)
LEVEL = 255 * np.array(STD)


@pytest.fixture(scope="module")
def jpegs(real_shards: Path) -> list[np.ndarray]:
    """SAMPLES * VIEWS * FRAMES frames of real videos."""
    index = ShardIndex.open(real_shards)
    reader = FrameReader(index)
    frames = [jpeg for sample in range(SAMPLES) for jpeg in reader.read(sample * 4, np.arange(VIEWS * FRAMES) * 5)]
    reader.close()
    return frames


def decode(jpegs: list[np.ndarray], augment: ClipAugment, colours: Colours, threads: int = 2) -> torch.Tensor:
    """[clips, FRAMES, H, W, 3]."""
    decoder = FrameDecoder(FrameGraph(len(jpegs), (CROP, CROP), colours, "cpu", torch.device("cpu"), threads))
    clips = decoder.decode(jpegs, augment)  # [B, V, C, T, H, W]
    decoder.close()
    return clips.permute(0, 1, 3, 4, 5, 2).reshape(augment.flip.size, -1, CROP, CROP, 3)


# Two resizing filters may round a level apart, which the colours then stretch.
@pytest.mark.parametrize(("settings", "largest"), [(AugmentSettings(), 2), (AugmentSettings(crop_scale=(0.3, 1.0)), 8)])
@pytest.mark.parametrize("epoch", range(3))
def test_fused_equals_the_graph_but_for_rounding(
    jpegs: list[np.ndarray], settings: AugmentSettings, largest: float, epoch: int
) -> None:
    augment = draw(5, epoch, np.arange(SAMPLES), VIEWS, SIZES, CROP, settings)
    graph = decode(jpegs, augment, "graph").double().numpy()
    fused = decode(jpegs, augment, "fused").double().numpy()
    error = np.abs(graph - fused) * LEVEL
    assert error.max() < largest
    assert error.mean() < 0.4
    assert np.percentile(error, 99) < 2
    # The parameters did something, so that the agreement is no accident.
    assert (np.abs(graph - decode(jpegs, augment, "none").double().numpy()) * LEVEL).mean() > 5


def test_without_colour_changes_fused_is_what_crop_and_flip_give(jpegs: list[np.ndarray]) -> None:
    plain = AugmentSettings(jitter_probability=0, grayscale_probability=0, blur_probability=0)
    augment = draw(5, 0, np.arange(SAMPLES), VIEWS, SIZES, CROP, plain)
    assert 0 < augment.flip.mean() < 1
    np.testing.assert_allclose(
        decode(jpegs, augment, "fused").numpy(), decode(jpegs, augment, "none").numpy(), atol=1e-4
    )


@pytest.mark.parametrize("task", [None, Vcp(), Rotation("middle")], ids=["none", "vcp", "rotation"])
@pytest.mark.parametrize("residual", [False, True])
def test_clips_finished_in_the_threads_are_those_finished_afterwards(task: Pretext | None, residual: bool) -> None:
    """Differences are taken of bytes and of blurred frames there, before normalisation, and by the definition here."""
    frames = 8
    levels = np.random.default_rng(0).integers(0, 256, (SAMPLES * VIEWS * frames, CROP, CROP, 3), dtype=np.uint8)
    augment = draw(4, 0, np.arange(SAMPLES), VIEWS, SIZES, CROP, AugmentSettings())
    assert 0 < (augment.sigma > 0).mean() < 1
    facts = Facts(np.ones(SAMPLES, np.bool_), np.full((SAMPLES, VIEWS), 9))
    finish = ClipFinish(task.draw(1, 0, np.arange(SAMPLES), facts) if task is not None else None, residual)
    fused = FusedColours((CROP, CROP), 2)
    before, found = fused.apply(levels, augment), fused.apply(levels, augment, finish)
    fused.close()
    wanted = finish.batch(before.permute(0, 1, 5, 2, 3, 4)).permute(0, 1, 3, 4, 5, 2)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=2e-6)


def test_threads_change_no_bit(jpegs: list[np.ndarray]) -> None:
    augment = draw(1, 0, np.arange(SAMPLES), VIEWS, SIZES, CROP, AugmentSettings())
    one = decode(jpegs, augment, "fused", threads=1)
    assert torch.equal(one, decode(jpegs, augment, "fused", threads=2))
    assert torch.equal(one, decode(jpegs, augment, "fused", threads=5))


@pytest.mark.parametrize("colours", ["graph", "fused"])
@pytest.mark.parametrize("scale", [None, (0.3, 1.0)])
def test_a_clip_has_one_draw_for_all_frames_and_clips_have_their_own(
    jpegs: list[np.ndarray], colours: Colours, scale: tuple[float, float] | None
) -> None:
    settings = AugmentSettings(jitter_probability=1, grayscale_probability=0, blur_probability=1, crop_scale=scale)
    augment = draw(2, 0, np.arange(SAMPLES), VIEWS, SIZES, CROP, settings)
    clips = decode([jpegs[0]] * len(jpegs), augment, colours)
    assert torch.equal(clips[:, 0], clips[:, 1])
    for first in range(len(clips)):
        for second in range(first):
            assert (clips[first, 0] - clips[second, 0]).abs().mean() > 0.01


@pytest.mark.parametrize("colours", ["graph", "fused"])
def test_a_clip_does_not_depend_on_its_batch(jpegs: list[np.ndarray], colours: Colours) -> None:
    augment = draw(3, 0, np.arange(SAMPLES), VIEWS, SIZES, CROP, AugmentSettings(crop_scale=(0.4, 1.0)))
    whole = decode(jpegs, augment, colours)
    last = dataclasses.replace(augment, **{name: values[-2:] for name, values in vars(augment).items()})
    part = decode(jpegs[-2 * VIEWS * FRAMES :], last, colours)
    assert torch.equal(part, whole[-2 * VIEWS :])


def test_the_input_is_left_alone() -> None:
    levels = np.random.default_rng(0).integers(0, 256, (SAMPLES * VIEWS * FRAMES, CROP, CROP, 3), dtype=np.uint8)
    before = levels.copy()
    fused = FusedColours((CROP, CROP), 2)
    augment = draw(4, 0, np.arange(SAMPLES), VIEWS, SIZES, CROP, AugmentSettings())
    first = fused.apply(levels, augment)
    kept = first.clone()
    second = fused.apply(levels[::-1].copy(), augment)
    fused.close()
    np.testing.assert_array_equal(levels, before)
    assert torch.equal(first, kept)  # what was handed out is not used again
    assert not torch.equal(first, second)


def test_colour_maps_compose_the_single_operators_in_their_order() -> None:
    """From the definitions: each operator as a function of a pixel, one after the other."""
    augment = draw(9, 0, np.arange(SAMPLES), VIEWS, SIZES, CROP, AugmentSettings(jitter_probability=1))
    yiq = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.321], [0.211, -0.523, 0.311]])
    pixels = np.random.default_rng(1).uniform(0, 255, (20, 3))
    maps = colour_maps(augment)
    assert maps.shape == (SAMPLES * VIEWS, 3, 4)
    for number, (b, c, s, h) in enumerate(
        zip(*(getattr(augment, name).ravel() for name in ("brightness", "contrast", "saturation", "hue")), strict=True)
    ):
        luma, i, q = yiq @ pixels.T
        chroma = (i - 1j * q) * s * np.exp(1j * np.deg2rad(h))
        turned = np.linalg.solve(yiq, np.stack([luma, chroma.real, -chroma.imag])).T
        wanted = b * (128 + c * (turned - 128))
        found = pixels @ maps[number, :, :3].T.astype(np.float64) + maps[number, :, 3]
        np.testing.assert_allclose(found, wanted, atol=0.01)


def test_normalisation_is_that_of_imagenet() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    augment = draw(
        0,
        0,
        np.arange(1),
        1,
        np.array([[16, 16]]),
        16,
        AugmentSettings(flip_probability=0, jitter_probability=0, grayscale_probability=0, blur_probability=0),
    )
    found = FusedColours((16, 16), 1).apply(levels, augment)[0, 0]
    np.testing.assert_allclose(found, (levels / 255.0 - MEAN) / STD, atol=1e-5)


def test_a_loader_delivers_scale_jittered_clips_the_same_way_each_time(synthetic_shards: Path) -> None:
    def first(scale: tuple[float, float] | None, threads: int) -> ClipBatch:
        augment = AugmentSettings(crop_scale=scale, flip_probability=0, jitter_probability=0, grayscale_probability=0)
        settings = {"augment": augment, "tuples": TUPLES, "batch_size": 4, "crop": CROP, "threads": threads}
        with clip_loader(synthetic_shards, device=torch.device("cpu"), **settings) as loader:
            return next(iter(loader))

    jittered = first((0.3, 1.0), threads=1)
    assert jittered.clips.shape == (4, 3, 3, 8, CROP, CROP) and jittered.clips.isfinite().all()
    assert torch.equal(jittered.clips, first((0.3, 1.0), threads=2).clips)
    assert not torch.equal(jittered.clips, first(None, threads=2).clips)
