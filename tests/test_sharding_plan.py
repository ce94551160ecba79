from hypothesis import given
from hypothesis import strategies as st

from pclkd.sharding.plan import plan_shards, shard_name, videos_per_shard
from pclkd.sharding.videos import Video


def named(keys: list[str]) -> list[Video]:
    return [Video(key, key, key, 0, 0, {}) for key in keys]


@given(st.integers(1, 200_000))
def test_shard_size_is_bounded_and_small_sets_fill_up_to_16_shards(videos: int) -> None:
    size = videos_per_shard(videos)
    shards = -(-videos // size)
    assert 1 <= size <= 128
    assert shards <= 16 or size == 128


def test_shard_sizes_by_hand() -> None:
    assert [videos_per_shard(n) for n in (0, 1, 16, 17, 71, 2048, 2049, 13320)] == [1, 1, 1, 2, 5, 128, 128, 128]


@given(st.sets(st.text("abcdef", min_size=1, max_size=6), max_size=60), st.integers(1, 9), st.randoms())
def test_every_video_is_in_one_shard_whatever_the_order_found(keys: set[str], size: int, random) -> None:
    ordered = sorted(keys)
    shuffled = random.sample(ordered, len(ordered))
    plan = [[video.key for video in shard] for shard in plan_shards(named(ordered), size)]
    assert plan == [[video.key for video in shard] for shard in plan_shards(named(shuffled), size)]
    assert sorted(key for shard in plan for key in shard) == ordered
    assert all(len(shard) == size for shard in plan[:-1])


def test_shards_mix_the_classes() -> None:
    videos = named([f"{letter}{number:03d}" for letter in "ab" for number in range(200)])
    shares = [sum(video.key[0] == "a" for video in shard) / len(shard) for shard in plan_shards(videos, 100)]
    assert all(0.3 < share < 0.7 for share in shares)


def test_shard_names_sort_as_their_numbers() -> None:
    assert shard_name(7) == "shard-000007.tar"
    assert sorted(shard_name(n) for n in (10, 9, 100)) == [shard_name(n) for n in (9, 10, 100)]
