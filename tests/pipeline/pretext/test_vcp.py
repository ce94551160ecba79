import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pclkd.pipeline.pretext.base import Facts
from pclkd.pipeline.pretext.vcp import Vcp, VcpDraw
from pclkd.sharding.common.errors import InputError

SIZES = [(4, 2), (8, 6), (16, 8)]
ALL_KINDS = [(0, 0), (1, 0), (1, 1), (1, 2), (2, 0), *((3, v) for v in range(6)), (4, 0)]


def coordinates(batch: int, frames: int, side: int) -> torch.Tensor:
    """[B, 3, 3, T, H, W] float64 in the loader's memory order, each voxel its own number: its (b, v, c, t, y, x)."""
    plain = torch.arange(batch * 9 * frames * side * side, dtype=torch.float64).reshape(batch, 3, 3, frames, side, side)
    return plain.permute(0, 1, 3, 4, 5, 2).contiguous().permute(0, 1, 5, 2, 3, 4)


def drawn(kinds: list[tuple[int, int]]) -> VcpDraw:
    label, variant = np.array(kinds, dtype=np.int64).T
    return VcpDraw(Vcp().classes, label, variant)


def facts(has_remote: np.ndarray) -> Facts:
    return Facts(has_remote, np.ones((len(has_remote), 3), np.int64))


def pixel_by_pixel(clip: np.ndarray, label: int, variant: int) -> np.ndarray:
    """The transform of one clip [C, T, H, W], written from the words of the method: where does each pixel come from?"""
    _, frames, side, _ = clip.shape
    half, chunk = side // 2, frames // 4
    out = np.empty_like(clip)
    # Reading order of the quadrants A B C D: (row, column) of each.
    corner = {"A": (0, 0), "B": (0, half), "C": (half, 0), "D": (half, half)}
    moved = dict(zip("ABCD", "DCBA", strict=True))
    chunk_order = [0, 1, 2, 3]
    if label == 3:
        i, j = list(itertools.combinations(range(4), 2))[variant]
        chunk_order[i], chunk_order[j] = j, i
    for t, y, x in itertools.product(range(frames), range(side), range(side)):
        source = (t, y, x)
        if label == 1:
            for _ in range(variant + 1):
                # A quarter turn counter-clockwise brings the right edge to the top.
                _, sy, sx = source
                source = (t, sx, side - 1 - sy)
        elif label == 2:
            place = next(q for q, (top, left) in corner.items() if 0 <= y - top < half and 0 <= x - left < half)
            (top, left), (from_top, from_left) = corner[place], corner[moved[place]]
            source = (t, y - top + from_top, x - left + from_left)
        elif label == 3:
            source = (chunk_order[t // chunk] * chunk + t % chunk, y, x)
        out[:, t, y, x] = clip[:, source[0], source[1], source[2]]
    return out


@pytest.mark.parametrize(("frames", "side"), SIZES)
def test_apply_moves_every_pixel_where_the_method_says(frames: int, side: int) -> None:
    kinds = [*ALL_KINDS, *reversed(ALL_KINDS)]
    before = coordinates(len(kinds), frames, side)
    result = drawn(kinds).apply(before.clone())
    assert result.flatten(0, 1).is_contiguous(memory_format=torch.channels_last_3d)
    assert torch.equal(result[:, [0, 2]], before[:, [0, 2]])
    for row, (label, variant) in enumerate(kinds):
        expected = pixel_by_pixel(before[row, 1].numpy(), label, variant)
        assert np.array_equal(result[row, 1].numpy(), expected), (label, variant)


def test_every_variant_changes_the_clip_in_its_own_way() -> None:
    clips = coordinates(1, 8, 6).expand(len(ALL_KINDS), -1, -1, -1, -1, -1).clone()
    result = drawn(ALL_KINDS).apply(clips)
    for (i, a), (j, b) in itertools.combinations(enumerate(ALL_KINDS), 2):
        if {a[0], b[0]} == {0, 4}:
            assert torch.equal(result[i], result[j])
        else:
            assert not torch.equal(result[i], result[j]), (a, b)


@pytest.mark.parametrize(("frames", "side"), SIZES)
def test_invert_gives_back_what_apply_was_given(frames: int, side: int) -> None:
    clips = coordinates(len(ALL_KINDS), frames, side)
    draw = drawn(ALL_KINDS)
    assert torch.equal(draw.invert(draw.apply(clips.clone())), clips)
    assert torch.equal(draw.apply(draw.invert(clips.clone())), clips)


def test_memory_order_does_not_matter() -> None:
    kinds = [(label, 0) for label in range(5)]
    clips = coordinates(5, 8, 6)
    plain = drawn(kinds).apply(clips.contiguous())
    assert plain.is_contiguous()
    assert torch.equal(plain, drawn(kinds).apply(clips.clone()))


@pytest.mark.parametrize(
    ("shape", "problem"),
    [
        ((2, 3, 3, 6, 8, 8), "6 frames"),
        ((2, 3, 3, 8, 8, 6), "8 x 6"),
        ((2, 3, 3, 8, 7, 7), "7 x 7"),
        ((3, 3, 3, 8, 8, 8), "3 samples, but 2 draws"),
        ((2, 3, 8, 8, 8), r"\[B, V, C, T, H, W\]"),
    ],
)
def test_shapes_that_do_not_divide_are_refused(shape: tuple[int, ...], problem: str) -> None:
    for change in (drawn([(0, 0), (1, 0)]).apply, drawn([(0, 0), (1, 0)]).invert):
        with pytest.raises(ValueError, match=problem):
            change(torch.zeros(shape))


def test_clips_that_do_not_divide_are_refused_before_anything_is_read() -> None:
    with pytest.raises(InputError, match=r"tuples\.clip_frames 6"):
        Vcp().check(views=3, clip_frames=6)
    with pytest.raises(InputError, match="3 clips a sample, the recipe has 2"):
        Vcp().check(views=2, clip_frames=16)
    Vcp().check(views=3, clip_frames=12)


def within_six_deviations(count: int, n: int, chance: float) -> bool:
    return abs(count - n * chance) < 6 * np.sqrt(n * chance * (1 - chance))


def test_classes_and_variants_are_uniform_and_remote_needs_room() -> None:
    n = 20000
    has_remote = np.arange(n) % 2 == 0
    got = Vcp().draw(3, 1, np.arange(n), facts(has_remote))
    for label in range(5):
        assert within_six_deviations(int((got.label[has_remote] == label).sum()), n // 2, 1 / 5)
    for label in range(4):
        assert within_six_deviations(int((got.label[~has_remote] == label).sum()), n // 2, 1 / 4)
    assert not (got.label[~has_remote] == 4).any()
    assert np.array_equal(got.remote, got.label == 4)
    for label, variants in enumerate((1, 3, 1, 6, 1)):
        chosen = got.variant[got.label == label]
        counts = np.bincount(chosen, minlength=variants)
        assert len(counts) == variants
        assert all(within_six_deviations(int(c), len(chosen), 1 / variants) for c in counts if variants > 1)


@given(
    seed=st.integers(0, 2**64 - 1),
    epoch=st.integers(0, 1000),
    ids=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=6),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_a_draw_is_a_pure_function_of_its_sample(seed: int, epoch: int, ids: list[int], data: st.DataObject) -> None:
    remote = np.array(data.draw(st.lists(st.booleans(), min_size=len(ids), max_size=len(ids))))
    sample_ids = np.array(ids, dtype=np.int64)
    together = Vcp().draw(seed, epoch, sample_ids, facts(remote))
    alone = [Vcp().draw(seed, epoch, sample_ids[i : i + 1], facts(remote[i : i + 1])) for i in range(len(ids))]
    assert together.label.tolist() == [int(d.label[0]) for d in alone]
    assert together.variant.tolist() == [int(d.variant[0]) for d in alone]
    assert together.label.dtype == together.variant.dtype == np.int64


def test_epochs_and_seeds_draw_differently() -> None:
    ids, room = np.arange(200), facts(np.ones(200, dtype=bool))
    first = Vcp().draw(1, 0, ids, room).label
    assert (first != Vcp().draw(1, 1, ids, room).label).sum() > 100
    assert (first != Vcp().draw(2, 0, ids, room).label).sum() > 100


def test_classes_have_names_and_draws_are_told_in_words() -> None:
    assert Vcp().classes == ("original", "rotated", "quadrants", "chunks", "remote")
    draw = drawn([(0, 0), (1, 2), (2, 0), (3, 4), (4, 0)])
    assert [draw.describe(b) for b in range(5)] == [
        "original",
        "rotated by 270 degrees",
        "quadrants in the order D C B A",
        "chunks 2 and 4 swapped",
        "remote clip",
    ]


def test_the_first_and_the_third_clip_are_clean() -> None:
    assert Vcp().contrast_views(3) == (0, 2)
