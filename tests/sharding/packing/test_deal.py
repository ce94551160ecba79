from hypothesis import given
from hypothesis import strategies as st

from pclkd.sharding.datasets.dataset import Video
from pclkd.sharding.packing.deal import deal_videos, shard_count, shard_name


def named(keys: list[str]) -> list[Video]:
    return [Video(key, key, key, 0, 0, {}) for key in keys]


def dealt(keys: list[str], *most: int) -> dict[int, list[str]]:
    return {number: [video.key for video in shard] for number, shard in deal_videos(named(keys), *most).items()}


@given(st.integers(0, 2_000_000))
def test_a_shard_has_half_to_all_of_the_most_on_average_and_small_sets_have_up_to_16(videos: int) -> None:
    count = shard_count(videos)
    assert count.bit_count() == 1
    assert videos / count <= 128
    if count > 16:
        assert videos / count > 64
    elif count > 1:
        assert videos / count >= 4
    if videos >= 64:
        assert count >= 16


def test_shard_counts_by_hand() -> None:
    counts = [shard_count(n) for n in (0, 1, 7, 8, 16, 32, 71, 2048, 2049, 4097, 13320)]
    assert counts == [1, 1, 1, 2, 4, 8, 16, 16, 32, 64, 128]


@given(st.sets(st.text("abcdef", min_size=1, max_size=6), max_size=60), st.integers(1, 9), st.randoms())
def test_every_video_is_in_one_shard_whatever_the_order_found(keys: set[str], most: int, random) -> None:
    ordered = sorted(keys)
    shuffled = random.sample(ordered, len(ordered))
    shards = dealt(ordered, most)
    assert shards == dealt(shuffled, most)
    assert sorted(key for shard in shards.values() for key in shard) == ordered
    assert all(shards.values())
    assert list(shards) == sorted(shards)
    assert all(0 <= number < shard_count(len(keys), most) for number in shards)


def test_an_added_video_changes_the_shard_it_falls_into_alone() -> None:
    keys = [f"v{number:05d}" for number in range(3000)]
    before = dealt(keys)
    for added in ("new1", "new2", "aaaa"):
        after = dealt([*keys, added])
        changed = [number for number in after if after[number] != before.get(number)]
        assert len(changed) == 1
        assert [key for key in after[changed[0]] if key != added] == before[changed[0]]


def test_shards_are_of_similar_size_and_mix_the_classes() -> None:
    shards = deal_videos(named([f"{letter}{number:05d}" for letter in "ab" for number in range(6660)]))
    assert len(shards) == 128
    assert all(60 <= len(shard) <= 150 for shard in shards.values())
    shares = [sum(video.key[0] == "a" for video in shard) / len(shard) for shard in shards.values()]
    assert all(0.3 < share < 0.7 for share in shares)


def test_shard_names_sort_as_their_numbers() -> None:
    assert shard_name(7) == "shard-000007.tar"
    assert sorted(shard_name(n) for n in (10, 9, 100)) == [shard_name(n) for n in (9, 10, 100)]
