import fcntl
import multiprocessing
import os
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pclkd.pipeline.reading.block_cache import BlockCache
from pclkd.sharding.common.errors import InputError


def held(folder: Path) -> int:
    """Bytes of all blocks, by looking."""
    return sum(path.stat().st_size for path in folder.glob("??/*"))


def test_a_block_comes_back_until_it_is_dropped(tmp_path: Path) -> None:
    cache = BlockCache(tmp_path / "new" / "cache", 1000)
    assert cache.get("a") is None
    cache.put("a", b"12345")
    cache.put("b", b"")
    assert cache.get("a") == b"12345" and cache.get("b") == b""
    assert BlockCache(tmp_path / "new" / "cache", 1000).get("a") == b"12345"
    cache.drop("a")
    cache.drop("a")
    assert cache.get("a") is None
    assert int((tmp_path / "new" / "cache" / "size").read_text()) == 0


def test_the_longest_unused_blocks_go_first(tmp_path: Path) -> None:
    cache = BlockCache(tmp_path, 1000)
    long_ago = time.time() - 1e6
    for number in range(5):
        cache.put(str(number), bytes(200))
        os.utime(cache._path(str(number)), (long_ago + number, long_ago + number))
    assert cache.get("0") == bytes(200)  # used now: 1 is the longest unused
    cache.put("new", bytes(200))
    assert [number for number in range(5) if cache.get(str(number)) is not None] == [0, 3, 4]
    assert cache.get("new") == bytes(200)


@settings(max_examples=30, deadline=None)
@given(sizes=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 130)), max_size=40))
def test_the_bound_is_kept_and_what_is_held_is_right(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[tuple[int, int]]
) -> None:
    folder = tmp_path_factory.mktemp("cache")
    cache = BlockCache(folder, 300)
    last: dict[str, bytes] = {}
    for key, size in sizes:
        data = bytes([key]) * size
        cache.put(str(key), data)
        last[str(key)] = data
        assert held(folder) <= 300
        assert int((folder / "size").read_text() or 0) == held(folder)
        assert cache.get(str(key)) == data
    for key, data in last.items():
        assert cache.get(key) in (None, data)
    assert not list(folder.glob(".new-*"))


def test_a_block_larger_than_the_cache_is_not_held(tmp_path: Path) -> None:
    cache = BlockCache(tmp_path, 100)
    cache.put("small", bytes(90))
    cache.put("large", bytes(101))
    assert cache.get("large") is None and cache.get("small") == bytes(90)


def fill(folder: str, limit: int, name: int, rounds: int) -> None:
    cache = BlockCache(Path(folder), limit)

    def work(thread: int) -> None:
        for number in range(rounds):
            key = f"{(number * 7 + name + thread) % 60}"
            found = cache.get(key)
            assert found is None or found == key.encode() * 100
            cache.put(key, key.encode() * 100)

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_processes_and_threads_share_it_and_keep_the_bound(tmp_path: Path) -> None:
    BlockCache(tmp_path, 4000)  # whose lock is there before the first worker is
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=fill, args=(str(tmp_path), 4000, name, 200)) for name in range(3)]
    for worker in workers:
        worker.start()
    while any(worker.is_alive() for worker in workers):
        with (tmp_path / "size").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # a sum over files that come and go would be none
            assert held(tmp_path) <= 4000
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert 2000 < held(tmp_path) == int((tmp_path / "size").read_text())
    assert not list(tmp_path.glob(".new-*"))


def test_a_damaged_size_is_counted_anew_and_abandoned_blocks_go(tmp_path: Path) -> None:
    cache = BlockCache(tmp_path, 1000)
    for number in range(4):
        cache.put(str(number), bytes(200))
    (tmp_path / "size").write_text("")
    abandoned = tmp_path / ".new-killed"
    abandoned.write_bytes(bytes(50))
    os.utime(abandoned, (0, 0))
    cache.put("4", bytes(200))
    assert int((tmp_path / "size").read_text()) == held(tmp_path) == 1000
    assert not abandoned.exists()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cache folder .*file/cache.*loader\.cache_dir"):
        BlockCache(tmp_path / "file" / "cache", 1000)
