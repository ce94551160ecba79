"""Clip order, rotation and speed; VCP has a file of its own."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pclkd.pipeline.pretext.base import Facts, Pretext, PretextDraw
from pclkd.pipeline.pretext.clip_order import ORDERS, ClipOrder, ClipOrderDraw
from pclkd.pipeline.pretext.registry import PretextSettings
from pclkd.pipeline.pretext.rotation import Rotation, RotationDraw
from pclkd.pipeline.pretext.rows import change_rows
from pclkd.pipeline.pretext.speed import Speed, SpeedDraw
from pclkd.pipeline.pretext.vcp import Vcp
from pclkd.sharding.common.errors import InputError

TASKS = [Vcp(), ClipOrder(), Rotation(), Rotation("all"), Speed(), Speed((1, 3), "all")]


def coordinates(batch: int, views: int, frames: int, side: int) -> torch.Tensor:
    """[B, V, 3, T, H, W] float64 in the loader's memory order, each voxel its own number: its (b, v, c, t, y, x)."""
    plain = torch.arange(batch * views * 3 * frames * side * side, dtype=torch.float64)
    plain = plain.reshape(batch, views, 3, frames, side, side)
    return plain.permute(0, 1, 3, 4, 5, 2).contiguous().permute(0, 1, 5, 2, 3, 4)


def roomy(batch: int, views: int = 3) -> Facts:
    return Facts(np.ones(batch, np.bool_), np.full((batch, views), 8))


def in_loader_memory(clips: torch.Tensor) -> bool:
    return clips.flatten(0, 1).is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize("changed", ["middle", "all"])
@pytest.mark.parametrize("views", [1, 2, 3])
def test_rotation_moves_every_pixel_a_quarter_turn_at_a_time(changed: str, views: int) -> None:
    side, turns = 5, np.array([0, 1, 2, 3, 3, 1])
    before = coordinates(len(turns), views, 4, side)
    draw = RotationDraw(Rotation().classes, turns, "all" if changed == "all" else "middle")
    after = draw.apply(before.clone())
    assert in_loader_memory(after)
    for b, v, y, x in itertools.product(range(len(turns)), range(views), range(side), range(side)):
        from_y, from_x = y, x
        if changed == "all" or v == {1: 0, 2: 1, 3: 1}[views]:
            for _ in range(turns[b]):  # counter-clockwise: the right edge comes to the top
                from_y, from_x = from_x, side - 1 - from_y
        assert torch.equal(after[b, v, :, :, y, x], before[b, v, :, :, from_y, from_x]), (b, v, y, x)
    assert torch.equal(draw.invert(after.clone()), before)


def test_clip_order_puts_every_clip_where_its_label_says() -> None:
    # By hand, from the table in the module: which clip stands first, second, third.
    table = ["123", "132", "213", "231", "312", "321"]
    before = coordinates(len(table), 3, 4, 2)
    draw = ClipOrderDraw(ClipOrder().classes, np.arange(len(table)))
    after = draw.apply(before.clone())
    assert in_loader_memory(after)
    for b, order in enumerate(table):
        for place, clip in enumerate(order):
            assert torch.equal(after[b, place], before[b, int(clip) - 1]), (order, place)
        assert draw.describe(b) == f"clips in the order {' '.join(order)}"
    assert torch.equal(draw.invert(after), before)
    assert len(set(ORDERS)) == 6


def test_speed_is_decided_before_decoding_and_changes_nothing_after() -> None:
    strides = np.array([[1, 4, 1], [1, 1, 1]])
    draw = SpeedDraw(Speed().classes, np.array([2, 0]), strides)
    clips = coordinates(2, 3, 4, 2)
    before = clips.clone()
    assert torch.equal(draw.apply(clips), before) and torch.equal(draw.invert(clips), before)
    assert np.array_equal(draw.stride, strides)
    assert [draw.describe(b) for b in range(2)] == ["speed 4x", "speed 1x"]


@pytest.mark.parametrize("task", TASKS, ids=repr)
@pytest.mark.parametrize("contiguous", [True, False])
def test_invert_undoes_apply_and_memory_order_is_kept(task: Pretext, contiguous: bool) -> None:
    clips = coordinates(40, 3, 8, 4)
    clips = clips.contiguous() if contiguous else clips
    draw = task.draw(5, 1, np.arange(40), roomy(40))
    changed = draw.apply(clips.clone())
    assert changed.stride() == clips.stride()
    assert sorted(changed.reshape(40, -1)[3].tolist()) == sorted(clips.reshape(40, -1)[3].tolist())
    assert torch.equal(draw.invert(changed), clips)


@pytest.mark.parametrize("task", TASKS, ids=repr)
def test_clean_clips_come_through_untouched_and_do_not_tell_the_label(task: Pretext) -> None:
    n = 60
    clips = coordinates(n, 3, 8, 4)
    draw = task.draw(5, 1, np.arange(n), roomy(n))
    after = draw.apply(clips.clone())
    for view in task.contrast_views(3):
        for b in range(n):
            # Its content is that of some clip of the same sample, at the recipe's own speed.
            assert any(torch.equal(after[b, view], clips[b, v]) for v in range(3))
            assert draw.stride is None or draw.stride[b, view] == 1
            assert draw.remote is None or not draw.remote[b] or view != 1


def within_six_deviations(count: int, n: int, chance: float) -> bool:
    return abs(count - n * chance) < 6 * np.sqrt(n * chance * (1 - chance))


@pytest.mark.parametrize("task", TASKS, ids=repr)
def test_classes_are_uniform_where_there_is_room(task: Pretext) -> None:
    n = 20_000
    draw = task.draw(3, 1, np.arange(n), roomy(n))
    assert draw.label.dtype == np.int64 and draw.label.shape == (n,)
    assert draw.classes == task.classes and len(set(task.classes)) == len(task.classes)
    for label in range(len(task.classes)):
        assert within_six_deviations(int((draw.label == label).sum()), n, 1 / len(task.classes))
    assert set(draw.label.tolist()) == set(range(len(task.classes)))
    assert not np.array_equal(draw.label, task.draw(3, 2, np.arange(n), roomy(n)).label)
    assert not np.array_equal(draw.label, task.draw(4, 1, np.arange(n), roomy(n)).label)


def test_speeds_are_uniform_over_those_that_fit() -> None:
    n = 12_000
    longest = np.ones((n, 3), np.int64)
    longest[:, 1] = np.arange(n) % 3 + 2  # 2, 3, 4
    middle = Speed().draw(0, 0, np.arange(n), Facts(np.zeros(n, np.bool_), longest))
    for room, classes in ((2, {0, 1}), (3, {0, 1}), (4, {0, 1, 2})):
        labels = middle.label[longest[:, 1] == room]
        assert set(labels.tolist()) == classes
        assert all(within_six_deviations(int((labels == c).sum()), n // 3, 1 / len(classes)) for c in classes)
    assert np.array_equal(middle.stride[:, 1], 2**middle.label)
    assert np.all(middle.stride[:, [0, 2]] == 1)
    # The last clip, or the one with least room, decides where all play alike; the smallest speed is always allowed.
    alike = Speed((2, 4), "all").draw(0, 0, np.arange(n), Facts(np.zeros(n, np.bool_), longest))
    assert np.all(alike.label == 0) and np.all(alike.stride == 2)


@given(
    task=st.sampled_from(TASKS),
    seed=st.integers(0, 2**64 - 1),
    epoch=st.integers(0, 1000),
    ids=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=6),
    data=st.data(),
)
@settings(max_examples=120, deadline=None)
def test_a_draw_does_not_depend_on_the_batch(
    task: Pretext, seed: int, epoch: int, ids: list[int], data: st.DataObject
) -> None:
    n = len(ids)
    remote = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    longest = np.array(data.draw(st.lists(st.lists(st.integers(1, 9), min_size=3, max_size=3), min_size=n, max_size=n)))
    together = task.draw(seed, epoch, np.array(ids), Facts(remote, longest))
    clips = coordinates(n, 3, 4, 2)
    after = together.apply(clips.clone())
    for b in range(n):
        alone = task.draw(seed, epoch, np.array(ids[b : b + 1]), Facts(remote[b : b + 1], longest[b : b + 1]))
        assert alone.label.tolist() == together.label[b : b + 1].tolist()
        assert alone.describe(0) == together.describe(b)
        assert torch.equal(alone.apply(clips[b : b + 1].clone())[0], after[b])
        if together.stride is not None:
            assert alone.stride is not None and np.array_equal(alone.stride[0], together.stride[b])
        if together.remote is not None:
            assert alone.remote is not None and alone.remote[0] == together.remote[b]


def test_which_clips_are_clean() -> None:
    assert ClipOrder().contrast_views(3) == (0, 1, 2)
    for task in (Rotation(), Speed()):
        assert [task.contrast_views(views) for views in (1, 2, 3, 4)] == [(), (0,), (0, 2), (0, 1, 3)]
    assert Rotation("all").contrast_views(3) == Speed(changed="all").contrast_views(3) == ()


@pytest.mark.parametrize(
    ("draw", "shape", "problem"),
    [
        (RotationDraw(Rotation().classes, np.array([1]), "all"), (1, 3, 3, 4, 4, 6), "4 x 6 pixels are not square"),
        (ClipOrderDraw(ClipOrder().classes, np.array([1])), (1, 2, 3, 4, 4, 4), "2 clips a sample, not 3"),
        (ClipOrderDraw(ClipOrder().classes, np.array([1])), (2, 3, 3, 4, 4, 4), "2 samples, but 1 draws"),
        (SpeedDraw(Speed().classes, np.array([1]), np.ones((1, 3))), (2, 3, 3, 4, 4, 4), "2 samples, but 1 draws"),
        (PretextDraw(("plain",), np.array([0])), (3, 3, 4, 4, 4), r"\[B, V, C, T, H, W\]"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(draw: PretextDraw, shape: tuple[int, ...], problem: str) -> None:
    for change in (draw.apply, draw.invert):
        with pytest.raises(ValueError, match=problem):
            change(torch.zeros(shape))


@pytest.mark.parametrize("strides", [(1,), (2, 1), (1, 1, 2), (0, 1), (1, 9)])
def test_speeds_that_are_none_are_refused(strides: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"pretext\.strides"):
        Speed(strides)


def test_clips_that_a_task_cannot_ask_about_are_refused() -> None:
    with pytest.raises(InputError, match="clip_frames 1"):
        Speed().check(views=3, clip_frames=1)
    with pytest.raises(InputError, match="order asks about 3 clips a sample, the recipe has 4"):
        ClipOrder().check(views=4, clip_frames=16)
    Rotation().check(views=1, clip_frames=1)


def test_settings_build_every_task() -> None:
    def build(**values: object) -> Pretext | None:
        return PretextSettings.model_validate(values).build()

    assert [build(task=task) for task in ("vcp", "order", "rotation", "speed", "none")] == [
        Vcp(),
        ClipOrder(),
        Rotation(),
        Speed(),
        None,
    ]
    assert build() == Vcp()
    assert build(task="rotation", changed="all") == Rotation("all")
    assert build(task="speed", strides=[1, 2], changed="all") == Speed((1, 2), "all")
    assert {task.name for task in TASKS} == {"vcp", "order", "rotation", "speed"}


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"task": "jigsaw"}, "task"),
        ({"changed": "all"}, "changed"),
        ({"task": "order", "changed": "all"}, "changed"),
        ({"task": "rotation", "changed": "first"}, "changed"),
        ({"task": "order", "strides": [1, 2]}, "strides"),
        ({"task": "speed", "strides": [1]}, "strides"),
        ({"task": "speed", "strides": [4, 2]}, "strides"),
        ({"task": "speed", "strides": [2, 16]}, "strides"),
    ],
)
def test_settings_that_mean_nothing_are_refused_by_name(values: dict[str, object], field: str) -> None:
    with pytest.raises(ValidationError) as refused:
        PretextSettings.model_validate(values)
    assert {error["loc"] for error in refused.value.errors()} == {(field,)}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])  # numpy's way, torch's way
def test_rows_are_changed_by_kind_and_others_left_alone(dtype: torch.dtype) -> None:
    steps: list[tuple[int, int]] = []

    def change(rows: torch.Tensor, kind: int) -> torch.Tensor:
        steps.append((kind, len(rows)))
        return rows + 16 * kind

    rows = torch.arange(7.0, dtype=dtype)
    change_rows(rows, np.array([2, -1, 0, 2, 5, -1, 0]), change)
    assert rows.tolist() == [32, 1, 2, 35, 84, 5, 6]
    if dtype is torch.bfloat16:
        assert steps == [(0, 2), (2, 2), (5, 1)]  # as many steps as kinds
    else:
        assert steps == [(2, 1), (0, 1), (2, 1), (5, 1), (0, 1)]
    done = len(steps)
    change_rows(rows, np.full(7, -1), change)
    assert len(steps) == done


@pytest.mark.parametrize("task", TASKS, ids=repr)
@pytest.mark.parametrize("contiguous", [True, False])
def test_torch_and_numpy_change_clips_alike(task: Pretext, contiguous: bool) -> None:
    clips = coordinates(40, 3, 8, 4) % 251  # whole numbers that bfloat16 holds exactly
    clips = clips.contiguous() if contiguous else clips
    draw = task.draw(5, 1, np.arange(40), roomy(40))
    by_numpy, by_torch = draw.apply(clips.clone()), draw.apply(clips.to(torch.bfloat16))
    assert torch.equal(by_torch.double(), by_numpy)
    assert torch.equal(draw.invert(by_torch).double(), clips)


@pytest.mark.gpu
@pytest.mark.parametrize("task", TASKS, ids=repr)
def test_a_gpu_changes_clips_alike(task: Pretext) -> None:
    clips = coordinates(40, 3, 8, 4)
    draw = task.draw(5, 1, np.arange(40), roomy(40))
    on_gpu = draw.apply(clips.cuda())
    assert torch.equal(on_gpu.cpu(), draw.apply(clips.clone())) and in_loader_memory(on_gpu)
    assert torch.equal(draw.invert(on_gpu).cpu(), clips)
