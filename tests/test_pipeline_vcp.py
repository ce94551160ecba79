import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pclkd.pipeline.vcp import CLASS_NAMES, VcpDraw, apply, draw

SIZES = [(4, 2), (8, 6), (16, 8)]
ALL_KINDS = [(0, 0), (1, 0), (1, 1), (1, 2), (2, 0), *((3, v) for v in range(6)), (4, 0)]


def random_clips(batch: int, frames: int, side: int) -> torch.Tensor:
    return torch.randn(batch, 3, frames, side, side, generator=torch.Generator().manual_seed(frames + side))


def drawn(kinds: list[tuple[int, int]]) -> VcpDraw:
    label, variant = np.array(kinds, dtype=np.int64).T
    return VcpDraw(label, variant)


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
    clips = random_clips(len(kinds), frames, side)
    before = clips.clone()
    result = apply(clips, drawn(kinds))
    assert torch.equal(clips, before)
    assert result.shape == clips.shape
    for row, (label, variant) in enumerate(kinds):
        expected = pixel_by_pixel(clips[row].numpy(), label, variant)
        assert np.array_equal(result[row].numpy(), expected), (label, variant)


def test_every_variant_changes_the_clip_in_its_own_way() -> None:
    clips = random_clips(1, 8, 6).expand(len(ALL_KINDS), -1, -1, -1, -1)
    result = apply(clips, drawn(ALL_KINDS))
    for (i, a), (j, b) in itertools.combinations(enumerate(ALL_KINDS), 2):
        if {a[0], b[0]} == {0, 4}:
            assert torch.equal(result[i], result[j])
        else:
            assert not torch.equal(result[i], result[j]), (a, b)


# Which kind undoes which.
INVERSES = [((1, 0), (1, 2)), ((1, 1), (1, 1)), ((2, 0), (2, 0)), *(((3, v), (3, v)) for v in range(6))]


@pytest.mark.parametrize(("frames", "side"), SIZES)
def test_every_transform_is_undone_by_its_inverse(frames: int, side: int) -> None:
    clips = random_clips(len(INVERSES), frames, side)
    there = apply(clips, drawn([kind for kind, _ in INVERSES]))
    back = apply(there, drawn([inverse for _, inverse in INVERSES]))
    assert torch.equal(back, clips)


def test_memory_layout_does_not_matter_and_a_view_of_a_tuple_is_accepted() -> None:
    kinds = [(label, 0) for label in range(5)]
    tuples = torch.stack([random_clips(5, 8, 6)] * 3, dim=1)
    plain = apply(tuples[:, 1].contiguous(), drawn(kinds))
    # The loader's memory is [B, V, T, H, W, C].
    frames_last = tuples.permute(0, 1, 3, 4, 5, 2).contiguous().permute(0, 1, 5, 2, 3, 4)
    assert torch.equal(apply(frames_last[:, 1], drawn(kinds)), plain)


@pytest.mark.parametrize(
    ("shape", "problem"),
    [
        ((2, 3, 6, 8, 8), "6 frames"),
        ((2, 3, 8, 8, 6), "8 x 6"),
        ((2, 3, 8, 7, 7), "7 x 7"),
        ((3, 3, 8, 8, 8), "3 clips"),
    ],
)
def test_sizes_that_do_not_divide_are_refused(shape: tuple[int, ...], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        apply(torch.zeros(shape), drawn([(0, 0), (1, 0)]))


def within_six_deviations(count: int, n: int, chance: float) -> bool:
    return abs(count - n * chance) < 6 * np.sqrt(n * chance * (1 - chance))


def test_classes_and_variants_are_uniform_and_remote_needs_room() -> None:
    n = 20000
    has_remote = np.arange(n) % 2 == 0
    got = draw(3, 1, np.arange(n), has_remote)
    for label in range(5):
        assert within_six_deviations(int((got.label[has_remote] == label).sum()), n // 2, 1 / 5)
    for label in range(4):
        assert within_six_deviations(int((got.label[~has_remote] == label).sum()), n // 2, 1 / 4)
    assert not (got.label[~has_remote] == 4).any()
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
    together = draw(seed, epoch, sample_ids, remote)
    alone = [draw(seed, epoch, sample_ids[i : i + 1], remote[i : i + 1]) for i in range(len(ids))]
    assert together.label.tolist() == [int(d.label[0]) for d in alone]
    assert together.variant.tolist() == [int(d.variant[0]) for d in alone]
    assert together.label.dtype == together.variant.dtype == np.int64


def test_epochs_and_seeds_draw_differently() -> None:
    ids, room = np.arange(200), np.ones(200, dtype=bool)
    first = draw(1, 0, ids, room).label
    assert (first != draw(1, 1, ids, room).label).sum() > 100
    assert (first != draw(2, 0, ids, room).label).sum() > 100


def test_there_are_five_class_names() -> None:
    assert CLASS_NAMES == ("original", "rotated", "quadrants", "chunks", "remote")
