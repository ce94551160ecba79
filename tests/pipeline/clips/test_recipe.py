from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pclkd.pipeline.clips.augment import AugmentSettings
from pclkd.pipeline.clips.covering import DenseRecipe, UniformRecipe
from pclkd.pipeline.clips.recipe import ClipPlan, Recipe, TupleRecipe, ViewsRecipe
from pclkd.pipeline.clips.sampling import TupleSettings, ViewSettings
from pclkd.pipeline.config import ClipConfig, changed
from pclkd.pipeline.opening import clip_loader
from pclkd.pipeline.pretext.base import Pretext
from pclkd.pipeline.pretext.clip_order import ORDERS, ClipOrder
from pclkd.pipeline.pretext.rotation import Rotation
from pclkd.pipeline.pretext.speed import Speed
from pclkd.pipeline.pretext.vcp import Vcp
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.shards.index import ShardIndex

TUPLES = TupleSettings(clip_frames=8, clip_stride=12, remote_distance=8)
VIEWS = ViewSettings(clip_frames=8, views=4, min_distance=5)
TASKS: list[Pretext | None] = [Vcp(), ClipOrder(), Rotation(), Speed(), Speed(changed="all"), None]
RECIPES: list[Recipe] = [
    *(TupleRecipe(seed=3, tuples=TUPLES, pretext=task) for task in TASKS),
    *(ViewsRecipe(seed=3, clips=VIEWS, pretext=task) for task in (Rotation("all"), Speed(), None)),
    UniformRecipe(views=3, clip_frames=8, jitter=4),
    DenseRecipe(views=3, clip_frames=8),
]


def short(recipe: Recipe) -> str:
    return f"{type(recipe).__name__}-{getattr(recipe, 'pretext', None)}"


def plan(recipe: Recipe, counts: np.ndarray, epoch: int = 0, ids: np.ndarray | None = None) -> ClipPlan:
    ids = np.arange(len(counts)) if ids is None else ids
    return recipe.plan(epoch, ids, counts, np.full((len(counts), 2), (64, 86)), 48)


def label(plan: ClipPlan) -> np.ndarray:
    assert plan.pretext is not None
    return plan.pretext.label


@pytest.mark.parametrize("recipe", RECIPES, ids=short)
def test_plans_have_the_promised_shape_and_stay_within_every_video(recipe: Recipe) -> None:
    counts = np.array([1, 2, 7, 8, 9, 31, 32, 33, 60, 96, 300] * 4)
    got = plan(recipe, counts)
    assert got.frames.shape == (len(counts), recipe.views, recipe.clip_frames) and got.frames.dtype == np.int64
    assert np.all((got.frames >= 0) & (got.frames < counts[:, None, None]))
    assert got.augment.flip.shape == got.frames.shape[:2]
    if got.pretext is not None:
        assert len(label(got)) == len(counts)


@given(
    recipe=st.sampled_from(RECIPES),
    epoch=st.integers(0, 50),
    samples=st.lists(st.tuples(st.integers(0, 2**31), st.integers(1, 300)), min_size=1, max_size=5),
)
@settings(max_examples=100, deadline=None)
def test_a_sample_is_planned_alike_whatever_its_batch(
    recipe: Recipe, epoch: int, samples: list[tuple[int, int]]
) -> None:
    ids, counts = np.array(samples).T
    together = plan(recipe, counts, epoch, ids)
    for b in range(len(samples)):
        alone = plan(recipe, counts[b : b + 1], epoch, ids[b : b + 1])
        assert np.array_equal(alone.frames[0], together.frames[b])
        for one, all_of_them in zip(astuple(alone.augment), astuple(together.augment), strict=True):
            assert np.array_equal(one[0], all_of_them[b])
        if together.pretext is not None and alone.pretext is not None:
            assert alone.pretext.label[0] == together.pretext.label[b]
            assert alone.pretext.describe(0) == together.pretext.describe(b)


def test_only_the_middle_clip_moves_and_only_to_a_remote_place() -> None:
    counts = np.full(400, 120)
    asked = plan(TupleRecipe(seed=3, tuples=TUPLES), counts)
    plain = plan(TupleRecipe(seed=3, tuples=TUPLES, pretext=None), counts)
    assert plain.pretext is None
    remote = label(asked) == 4
    assert 40 < remote.sum() < 120
    assert np.array_equal(asked.frames[~remote], plain.frames[~remote])
    assert np.array_equal(asked.frames[:, [0, 2]], plain.frames[:, [0, 2]])
    for b in np.flatnonzero(remote):
        clip, first, last = asked.frames[b, 1], plain.frames[b, 0, 0], plain.frames[b, 2, -1]
        assert np.all(np.diff(clip) == 1)
        assert clip[-1] + 8 < first or clip[0] > last + 8


@pytest.mark.parametrize("base", [1, 3])
def test_speed_plays_the_middle_clip_faster_and_leaves_the_others(base: int) -> None:
    counts = np.full(300, 250)
    tuples = TupleSettings(clip_frames=8, frame_stride=base, clip_stride=12)
    got = plan(TupleRecipe(seed=3, tuples=tuples, pretext=Speed()), counts)
    steps = np.diff(got.frames, axis=2)
    assert np.all(steps[:, [0, 2]] == base)
    assert np.all(steps[:, 1] == base * np.array([1, 2, 4, 8])[label(got)][:, None])
    assert np.all(np.diff(got.frames[:, :, 0], axis=1) == 12)
    assert set(label(got).tolist()) == {0, 1, 2, 3}


@pytest.mark.parametrize("base", [1, 2])
def test_no_video_is_asked_about_a_speed_it_has_no_room_for(base: int) -> None:
    counts = np.repeat(np.arange(1, 200), 20)
    recipe = ViewsRecipe(seed=1, clips=ViewSettings(clip_frames=8, frame_stride=base), pretext=Speed(changed="all"))
    got = plan(recipe, counts)
    stride = base * np.array([1, 2, 4, 8])[label(got)]
    fits = 7 * stride + 1 <= counts
    assert np.all(fits | (label(got) == 0))
    assert np.all(np.diff(got.frames[fits], axis=2) == stride[fits][:, None, None])  # and so nothing loops
    for k in range(4):
        roomy = counts >= 7 * 8 * base + 1
        assert abs((label(got)[roomy] == k).mean() - 0.25) < 0.05


def test_frame_stride_and_short_videos_reach_the_frames() -> None:
    tuples = TupleSettings(clip_frames=4, frame_stride=3, clip_stride=10, short="edge")
    got = plan(TupleRecipe(seed=0, tuples=tuples, pretext=None), np.array([8, 200]))
    assert got.frames[0].tolist() == [[0, 3, 6, 7], [7, 7, 7, 7], [7, 7, 7, 7]]
    assert np.all(np.diff(got.frames[1], axis=1) == 3)
    views = ViewSettings(clip_frames=4, frame_stride=3, views=1, short="edge")
    assert plan(ViewsRecipe(seed=0, clips=views), np.array([8])).frames.tolist() == [[[0, 3, 6, 7]]]
    uniform = UniformRecipe(views=2, clip_frames=4, frame_stride=3, short="loop")
    assert plan(uniform, np.array([8, 12])).frames.tolist() == [
        [[0, 3, 6, 1], [0, 3, 6, 1]],
        [[0, 3, 6, 9], [2, 5, 8, 11]],
    ]


def test_views_are_independent_and_keep_their_distance() -> None:
    got = plan(ViewsRecipe(seed=3, clips=VIEWS), np.full(500, 60))
    starts = got.frames[:, :, 0]
    gaps = np.abs(starts[:, :, None] - starts[:, None, :])[:, ~np.eye(4, dtype=bool)]
    assert gaps.min() == 5
    assert np.all(np.diff(got.frames, axis=2) == 1)
    assert len({tuple(row) for row in np.argsort(starts, axis=1).tolist()}) == 24  # in no order of time
    assert not np.array_equal(got.augment.left[:, 0], got.augment.left[:, 1])


def test_jitter_changes_with_the_epoch_and_nothing_else_does() -> None:
    counts, still = np.full(20, 100), UniformRecipe(views=3, clip_frames=8)
    assert np.array_equal(plan(still, counts).frames, plan(still, counts, epoch=1).frames)
    moved = UniformRecipe(views=3, clip_frames=8, jitter=4)
    assert not np.array_equal(plan(moved, counts).frames, plan(moved, counts, epoch=1).frames)
    assert np.abs(plan(moved, counts).frames - plan(still, counts).frames).max() == 4


def test_a_dense_walk_shows_every_window_of_every_video_once() -> None:
    counts = np.array([5, 8, 12, 40, 61])
    recipe = DenseRecipe(every=4, views=3, clip_frames=8)
    found: list[set[int]] = [set() for _ in counts]
    for part in range(recipe.passes(counts)):
        starts, fresh = plan(recipe, counts, epoch=part).frames[:, :, 0], recipe.fresh(part, counts)
        for b in range(len(counts)):
            new = starts[b][fresh[b]].tolist()
            assert not found[b] & set(new)
            found[b] |= set(new)
    assert found == [{0}, {0}, {0, 4}, set(range(0, 33, 4)), set(range(0, 54, 4))]
    assert recipe.windows(counts).tolist() == [len(windows) for windows in found]


def test_recipes_tell_their_classes_and_clean_clips() -> None:
    assert TupleRecipe(seed=0).pretext_classes == Vcp().classes
    assert TupleRecipe(seed=0).contrast_views == (0, 2)
    assert ViewsRecipe(seed=0, clips=VIEWS).pretext_classes == ()
    assert ViewsRecipe(seed=0, clips=VIEWS).contrast_views == (0, 1, 2, 3)
    assert ViewsRecipe(seed=0, clips=VIEWS, pretext=Rotation()).contrast_views == (0, 1, 3)
    plain = AugmentSettings(jitter_probability=0, grayscale_probability=0, blur_probability=0)
    assert TupleRecipe(seed=0).colours and not TupleRecipe(seed=0, augment=plain).colours
    assert not ViewsRecipe(seed=0, augment=None).colours


def test_tasks_that_do_not_fit_the_clips_are_refused() -> None:
    with pytest.raises(InputError, match=r"tuples\.clip_frames 6"):
        TupleRecipe(seed=0, tuples=TupleSettings(clip_frames=6))
    for task in (Vcp(), ClipOrder()):
        with pytest.raises(InputError, match=f"{task.name} asks about clips in temporal order"):
            ViewsRecipe(seed=0, pretext=task)
    with pytest.raises(InputError, match="clip_frames 1"):
        ViewsRecipe(seed=0, clips=ViewSettings(clip_frames=1), pretext=Speed())
    for recipe in (UniformRecipe, DenseRecipe):
        with pytest.raises(InputError, match="views 0"):
            recipe(views=0)
    with pytest.raises(InputError, match="jitter -1"):
        UniformRecipe(jitter=-1)
    with pytest.raises(InputError, match="every 0"):
        DenseRecipe(every=0)


def test_a_clip_loader_is_told_its_task_by_name() -> None:
    config = changed(ClipConfig(seed=5, tuples=TUPLES), {"pretext": {"task": "rotation", "changed": "all"}})
    assert config.chosen_recipe() == TupleRecipe(seed=5, tuples=TUPLES, pretext=Rotation("all"))
    assert ClipConfig(seed=5).chosen_recipe() == TupleRecipe(seed=5, pretext=Vcp())
    with pytest.raises(InputError, match="pretext"):
        changed(ClipConfig(), {"pretext": {"task": "jigsaw"}})


@pytest.fixture(scope="module")
def index(synthetic_shards: Path) -> ShardIndex:
    return ShardIndex.open(synthetic_shards)


def loaded(index: ShardIndex, recipe: Recipe) -> tuple[torch.Tensor, torch.Tensor]:
    """All clips of the test part, and their pretext labels."""
    how = {"recipe": recipe, "batch_size": 4, "crop": 48, "modality": "rgb"}
    with clip_loader(index, device=torch.device("cpu"), part="test", **how) as clips:
        batches = list(clips.epoch(0))
    assert all(b.clips.flatten(0, 1).is_contiguous(memory_format=torch.channels_last_3d) for b in batches)
    return (torch.cat([b.clips[: b.valid] for b in batches]), torch.cat([b.pretext_label[: b.valid] for b in batches]))


def test_the_loader_delivers_what_each_task_did_to_plain_clips(index: ShardIndex) -> None:
    plain, none = loaded(index, TupleRecipe(seed=3, tuples=TUPLES, pretext=None))
    assert not none.any()
    ordered, orders = loaded(index, TupleRecipe(seed=3, tuples=TUPLES, pretext=ClipOrder()))
    turned, turns = loaded(index, TupleRecipe(seed=3, tuples=TUPLES, pretext=Rotation("all")))
    for b in range(len(plain)):
        assert torch.equal(ordered[b], plain[b][list(ORDERS[int(orders[b])])])
        assert torch.equal(turned[b], torch.rot90(plain[b], int(turns[b]), dims=(3, 4)))
    assert len(set(orders.tolist())) > 1 and len(set(turns.tolist())) > 1


def test_the_loader_delivers_fast_clips_frame_by_frame(index: ShardIndex) -> None:
    recipe = TupleRecipe(
        seed=3, tuples=TupleSettings(clip_frames=4, clip_stride=4), augment=None, pretext=Speed((1, 2))
    )
    fast, labels = loaded(index, recipe)
    samples = index.split_samples(1, "test")
    counts = np.array([index.frame_count(int(sample)) for sample in samples])
    frames = plan(recipe, counts, ids=samples).frames
    # Whole videos, frame by frame, in clips of 4.
    whole, _ = loaded(index, UniformRecipe(views=24, clip_frames=4))
    assert set(counts.tolist()) == {96} and set(labels.tolist()) == {0, 1}
    videos = whole.transpose(1, 2).flatten(2, 3)
    for b in range(len(fast)):
        assert torch.equal(fast[b, 1], videos[b][:, frames[b, 1]])


@pytest.mark.parametrize("recipe", RECIPES, ids=short)
def test_the_loader_takes_every_recipe(index: ShardIndex, recipe: Recipe) -> None:
    clips, labels = loaded(index, recipe)
    assert clips.shape[1:4] == (recipe.views, 3, 8) and len(labels) == len(clips) == 4
    assert clips.isfinite().all()
