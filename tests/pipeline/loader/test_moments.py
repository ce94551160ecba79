"""Another network's view shows the moment that the clip shows: a counter and a map are drawn into the pixels.

Red tells the number of a frame within its video, green how far to the right a pixel is, blue how far down.
"""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from pclkd.pipeline.clips.augment import AugmentSettings
from pclkd.pipeline.clips.moments import MEAN, STD, MomentView
from pclkd.pipeline.loader.loader import ClipLoader
from pclkd.pipeline.opening import clip_loader
from pclkd.pipeline.pixels.dali import FrameDecoder
from pclkd.pipeline.pixels.finish import ClipFinish
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.shards.index import ShardIndex

FRAMES, HEIGHT, WIDTH, CROP, STEP = 40, 56, 72, 32, 6
CLIPS = {"clip_frames": 8, "clip_stride": 10, "remote_distance": 2}
GEOMETRY = AugmentSettings(jitter_probability=0, grayscale_probability=0, blur_probability=0)
CLIP_MEAN, CLIP_STD = (0.48, 0.45, 0.40), (0.26, 0.26, 0.27)


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> ShardIndex:
    """Eight videos of 40 counted frames."""
    from pclkd.sharding.packing.pack import pack_videos, plan_packing

    root = tmp_path_factory.mktemp("counted")
    right = np.broadcast_to(np.arange(WIDTH) * 3, (HEIGHT, WIDTH))
    down = np.broadcast_to(np.arange(HEIGHT)[:, None] * 4, (HEIGHT, WIDTH))
    for video in range(8):
        folder = root / "videos" / f"class{video % 2}" / f"video{video}"
        folder.mkdir(parents=True)
        for frame in range(FRAMES):
            pixels = np.stack([np.full((HEIGHT, WIDTH), STEP * frame), right, down], axis=-1).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{frame + 1:06d}.jpg", quality=98, subsampling=0)
    plan = plan_packing(root / "videos", allow_empty_split=True, height=HEIGHT, width=WIDTH, quality=95)
    pack_videos(plan, root / "shards", workers=1)
    return ShardIndex.open(root / "shards")


def opened(index: ShardIndex, *moments: MomentView, **changes: object) -> ClipLoader:
    usual = {"tuples": CLIPS, "augment": GEOMETRY, "crop": CROP, "batch_size": 4, "modality": "rgb", "part": "all"}
    return clip_loader(index, device=torch.device("cpu"), moments=moments, **{**usual, **changes})


def levels(clips: torch.Tensor, mean: tuple[float, ...] = MEAN, std: tuple[float, ...] = STD) -> np.ndarray:
    """[B, V, C, T, H, W] in levels 0..255."""
    shape = (1, 1, 3, 1, 1, 1)
    return 255 * (clips * torch.tensor(std).view(shape) + torch.tensor(mean).view(shape)).numpy()


def counters(clips: np.ndarray) -> np.ndarray:
    """[B, V, T] the frame numbers."""
    return np.rint(clips[:, :, 0].mean(axis=(-1, -2)) / STEP).astype(int)


def halved(clips: np.ndarray) -> np.ndarray:
    """Pictures of half the side, by the mean of 2 x 2 pixels."""
    return clips.reshape(*clips.shape[:-2], clips.shape[-2] // 2, 2, clips.shape[-1] // 2, 2).mean(axis=(-1, -3))


VIEWS = (
    MomentView(size=2 * CROP, frames=4, mean=CLIP_MEAN, std=CLIP_STD),
    MomentView(size=CROP, frames=3, stride=2),
    MomentView(size=CROP, frames=1),
    MomentView(size=CROP, frames=16, colours=False),
)
SHOWN = ([1, 3, 5, 7], [1, 3, 5], [4], [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7])


def test_frames_that_a_view_shows() -> None:
    for view, wanted in zip(VIEWS, SHOWN, strict=True):
        assert view.chosen(8).tolist() == wanted
    with pytest.raises(InputError, match="reach over 9 frames, a clip has 8"):
        MomentView(frames=5, stride=2).chosen(8)


@pytest.mark.parametrize("residual", [False, True])
def test_every_view_shows_the_moment_of_its_clip(counted: ShardIndex, residual: bool) -> None:
    """Pretext transforms, windows and flips included: a view is compared with the clip itself, pixel by pixel."""
    with opened(counted) as loader:
        plain = [batch for epoch in range(3) for batch in loader.epoch(epoch)]
    with opened(counted, *VIEWS, modality="residual" if residual else "rgb") as loader:
        seen = [batch for epoch in range(3) for batch in loader.epoch(epoch)]
        shapes = loader.moment_shapes
    assert len({int(label) for batch in seen for label in batch.pretext_label}) == 5
    orders = set()
    for clip, batch in zip(plain, seen, strict=True):
        assert [moment.shape for moment in batch.moments] == [torch.Size(shape) for shape in shapes]
        assert torch.equal(clip.sample_index, batch.sample_index)
        assert torch.equal(clip.clips, batch.clips) is not residual
        wanted = levels(clip.clips)
        orders |= {tuple(order) for order in np.diff(counters(wanted)).reshape(-1, 7)}
        for view, shown, moment in zip(VIEWS, SHOWN, batch.moments, strict=True):
            found = levels(moment, view.mean, view.std)
            found = halved(found) if view.size == 2 * CROP else found
            assert np.array_equal(counters(found), counters(wanted)[:, :, shown])
            inner = np.s_[..., 1:-1, 1:-1]  # a resized picture's border has no neighbours beyond it
            assert np.abs(found - wanted[:, :, :, shown])[inner].max() < 6
    assert len(orders) > 2  # frames that were swapped are among them


def test_a_residual_view_is_the_difference_of_the_frames_that_it_shows(counted: ShardIndex) -> None:
    rgb = MomentView(size=CROP, frames=4)
    with opened(counted, rgb, rgb.model_copy(update={"modality": "residual"})) as loader:
        frames, differences = next(iter(loader)).moments
    assert torch.allclose(differences, torch.roll(frames, 1, 3) - frames, atol=1e-5)


@pytest.mark.parametrize("scaled", [False, True])
def test_the_graph_of_a_gpu_makes_the_same_views(counted: ShardIndex, scaled: bool) -> None:
    """DALI's operators, here on a CPU, beside our own: with colours, blur, and windows of any size."""
    augment = AugmentSettings(crop_scale=(0.4, 0.9) if scaled else None)
    with opened(counted, *VIEWS, augment=augment) as loader:
        graph, prepared = loader._graph("fused"), loader._first_batch()
        assert prepared is not None
    assert graph.colours == "fused"
    found = []
    for colours in ("fused", "graph"):
        decoder = FrameDecoder(dataclasses.replace(graph, colours=colours))
        decoding = decoder.begin(prepared.jpegs, prepared.plan.augment)
        decoder.wait(decoding)
        finish = ClipFinish(prepared.plan.pretext)
        found.append((decoder.finish(decoding, finish), *decoder.finish_moments(decoding, finish)))
        decoder.close()
    stds = (STD, *(view.std for view in VIEWS))
    for std, ours, theirs in zip(stds, *found, strict=True):
        assert ours.shape == theirs.shape
        assert float((ours - theirs).abs().max()) * 255 * max(std) < 4


@pytest.mark.parametrize("views", [VIEWS[3:], VIEWS[:1], VIEWS], ids=["stored colours", "the clip's", "both"])
def test_views_beside_the_kernels_are_made_by_the_graph(counted: ShardIndex, views: tuple[MomentView, ...]) -> None:
    """It has inputs for colours only where a view shows them: DALI refuses to be fed with what nothing is made of."""
    with opened(counted, *views, augment=AugmentSettings()) as loader:
        graph, prepared = loader._graph("fused"), loader._first_batch()
        assert prepared is not None
    found = []
    for colours in ("fused", "kernels"):
        decoder = FrameDecoder(dataclasses.replace(graph, colours=colours))
        decoding = decoder.begin(prepared.jpegs, prepared.plan.augment)
        decoder.wait(decoding)
        found.append(decoder.finish_moments(decoding, ClipFinish(prepared.plan.pretext)))
        decoder.close()
    for view, ours, theirs in zip(views, *found, strict=True):
        assert float((ours - theirs).abs().max()) * 255 * max(view.std) < 4


def test_views_leave_the_clips_as_they_are(counted: ShardIndex) -> None:
    with opened(counted, augment=AugmentSettings()) as loader:
        without = next(iter(loader)).clips
    with opened(counted, VIEWS[0], augment=AugmentSettings()) as loader:
        assert torch.equal(next(iter(loader)).clips, without)
    with pytest.raises(InputError, match="reach over"):
        opened(counted, MomentView(frames=8, stride=2))
