from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pclkd.sharding import InputError
from pclkd.sharding.datasets.dataset import Dataset, Video
from pclkd.sharding.datasets.parts import PartWord, assign_parts, hold_out, part_word

SHARES = st.floats(0.01, 0.99)
VIDEOS = st.dictionaries(st.text("abcdef", min_size=1, max_size=4), st.tuples(st.integers(0, 3), st.integers(-1, 5)))


def videos(labels_and_groups: dict[str, tuple[int, int]]) -> list[Video]:
    return [Video(key, key, key, label, group, {}) for key, (label, group) in sorted(labels_and_groups.items())]


def a_set(*keys: str) -> Dataset:
    return Dataset("any", "set", ("class",), (), tuple(videos(dict.fromkeys(keys, (0, -1)))), (), ())


def held_out(dealt: tuple[Video, ...]) -> set[str]:
    assert all(video.parts in ({1: "train"}, {1: "test"}) for video in dealt)
    return {video.key for video in dealt if video.parts == {1: "test"}}


@given(VIDEOS, SHARES)
def test_groups_stay_whole(about: dict[str, tuple[int, int]], share: float) -> None:
    dealt = hold_out(videos(about), share)
    parts: dict[int, set[str]] = {}
    for video in dealt:
        parts.setdefault(video.group, set()).add(video.parts[1])
    assert all(len(of_group) == 1 for group, of_group in parts.items() if group >= 0)


@given(VIDEOS, SHARES, st.randoms())
def test_the_order_found_does_not_matter(about: dict[str, tuple[int, int]], share: float, random) -> None:
    shuffled = random.sample(videos(about), len(about))
    assert held_out(hold_out(shuffled, share)) == held_out(hold_out(videos(about), share))


@given(st.integers(1, 60), SHARES)
def test_shares_of_videos_without_groups_hold_in_each_class(count: int, share: float) -> None:
    dealt = hold_out(videos({f"{label}-{number}": (label, -1) for label in (0, 1) for number in range(count)}), share)
    shares = Counter(key[0] for key in held_out(dealt))
    for label in "01":
        assert abs(shares[label] - share * count) <= 1 or count == 1
        assert (1 <= shares[label] <= count - 1) if count > 1 else shares[label] == 0


@given(st.integers(1, 60), SHARES)
def test_share_of_groups(count: int, share: float) -> None:
    dealt = hold_out(videos({f"{group}-{n}": (n, group) for group in range(count) for n in (0, 1)}), share)
    groups = len(held_out(dealt)) / 2
    assert abs(groups - share * count) <= 1 or count == 1


def test_no_share_is_all_train() -> None:
    assert held_out(hold_out(videos({"a": (0, -1), "b": (0, 3)}), 0)) == set()


@pytest.mark.parametrize("share", [-0.1, 1, 20, float("nan")])
def test_share_out_of_range(share: float) -> None:
    with pytest.raises(InputError, match="a test share of"):
        hold_out([], share)


@pytest.mark.parametrize(
    ("words", "numbers", "parts"),
    [
        (["train", "val", None], (1,), [{1: "train"}, {1: "test"}, {}]),
        (["train", "test"], (1,), [{1: "train"}, {1: "test"}]),
        (["train"], (1,), [{1: "train"}]),
        (["test", "val", "train"], (1, 2), [{2: "test"}, {1: "test"}, {1: "train", 2: "train"}]),
        ([None, None], (1,), [{1: "train"}, {1: "train"}]),
    ],
)
def test_what_words_mean(words: list[PartWord | None], numbers: tuple[int, ...], parts: list[dict[int, str]]) -> None:
    dealt = assign_parts(a_set(*(f"v{number}" for number in range(len(words)))), words, 0)
    assert dealt.numbers == numbers
    assert [video.parts for video in dealt.videos] == parts
    assert dealt.parts_told == any(words)


def test_share_beside_words_is_refused() -> None:
    with pytest.raises(InputError, match=r"a test share of 0\.2 for a data set with parts of its own"):
        assign_parts(a_set("a"), ["train"], 0.2)


def test_words() -> None:
    known = ("train", "Training", "VAL", "valid", "validate", "validation", "test", " testing ")
    assert [part_word(word) for word in known] == ["train"] * 2 + ["val"] * 4 + ["test"] * 2
    assert [part_word(word) for word in ("", "trian", "tests")] == [None] * 3
