import hashlib
import os
import shutil
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from fsspec.registry import _registry
from hypothesis import given
from hypothesis import strategies as st

from pclkd.sharding import InputError, Manifest, ShardIndex
from pclkd.sharding.common import storage
from pclkd.sharding.common.files import sha256_of
from pclkd.sharding.common.identity import identify
from pclkd.sharding.shards.columns import COLUMNS
from pclkd.sharding.shards.verify import verify_shards


@pytest.fixture
def memory() -> Iterator[str]:
    """An empty folder of fsspec's store in memory."""
    root = f"memory://{uuid.uuid4().hex}"
    yield root
    fs, path = storage.filesystem(root)
    if fs.exists(path):
        fs.rm(path, recursive=True)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PCLKD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "columns"


@pytest.mark.parametrize(
    ("url", "remote"),
    [
        ("out", False),
        ("/data/a b#c", False),
        ("file:///data/out", False),
        ("s3://bucket/out", True),
        ("gs://bucket", True),
        (Path("x"), False),
    ],
)
def test_what_is_remote(url: str | Path, remote: bool) -> None:
    assert storage.is_remote(url) == remote


def test_joining_keeps_the_kind_of_place() -> None:
    assert storage.join("out", "index", "a.npy") == "out/index/a.npy"
    assert storage.join("file:///data", "a") == "/data/a"
    assert storage.join("s3://bucket/out/", "index", "a.npy") == "s3://bucket/out/index/a.npy"
    assert storage.local_path("file:///data/x") == Path("/data/x")


@given(st.binary(max_size=50), st.integers(0, 60), st.integers(0, 60))
def test_ranges_are_the_same_here_and_there(tmp_path_factory, data: bytes, start: int, length: int) -> None:
    there, here = f"memory://ranges/{uuid.uuid4().hex}", tmp_path_factory.getbasetemp() / "range"
    for url in (there, here):
        storage.write_bytes(url, data)
        assert storage.read_bytes(url) == data
        assert storage.read_range(url, start, length) == data[start : start + length]
    storage.remove(there)


def test_files_in_a_folder_and_what_is_missing(memory: str, tmp_path: Path) -> None:
    for root in (memory, str(tmp_path)):
        assert not storage.exists(storage.join(root, "a"))
        with pytest.raises(FileNotFoundError):
            storage.read_bytes(storage.join(root, "a"))
        assert storage.sizes(storage.join(root, "nothing")) == {}
        storage.write_bytes(storage.join(root, "a"), b"12")
        (tmp_path / "below").mkdir(exist_ok=True)
        storage.write_bytes(storage.join(root, "below", "b"), b"345")
        assert storage.sizes(root) == {"a": 2}
        assert storage.exists(storage.join(root, "a"))
        storage.remove(storage.join(root, "a"))
        storage.remove(storage.join(root, "a"))
        assert storage.sizes(root) == {}


def test_a_copy_appears_whole_or_not_at_all(memory: str, tmp_path: Path) -> None:
    storage.write_bytes(f"{memory}/a", bytes(3_000_000))

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        storage.fetch(f"{memory}/a", tmp_path / "a", interrupt)
    with pytest.raises(FileNotFoundError):
        storage.fetch(f"{memory}/none", tmp_path / "none")
    assert list(tmp_path.iterdir()) == []
    storage.fetch(f"{memory}/a", tmp_path / "a")
    assert (tmp_path / "a").stat().st_size == 3_000_000
    with storage.local_copy(f"{memory}/a") as copy:
        assert copy.read_bytes() == bytes(3_000_000)
    assert not copy.exists()
    with storage.local_copy(tmp_path / "a") as copy:
        assert copy == tmp_path / "a"


def test_a_store_without_whole_puts_gets_a_part_that_is_moved(tmp_path: Path, monkeypatch) -> None:
    seen: list[str] = []

    class Slow(fsspec.get_filesystem_class("file")):  # type: ignore[misc]
        protocol = "slow"

        def put_file(self, lpath, rpath, **rest) -> None:
            seen.append(Path(rpath).name)
            shutil.copy(lpath, rpath)

    fsspec.register_implementation("slow", Slow, clobber=True)
    monkeypatch.setattr(storage, "filesystem", lambda url: (Slow(), str(url).removeprefix("slow://")))
    storage.write_bytes(f"slow://{tmp_path}/new/a", b"content")
    assert seen == ["a.part"]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a"]


def test_a_missing_package_and_an_unknown_scheme_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"nosuch://x cannot be opened .*s3:// or gs://"):
        storage.filesystem("nosuch://x")
    # fsspec keeps classes and instances that earlier tests asked for.
    monkeypatch.delitem(_registry, "s3", raising=False)
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(InputError, match=r"pip install 'pclkd\[s3\]'"):
        storage.filesystem(f"s3://bucket/{uuid.uuid4().hex}")


def test_the_cache_lies_in_a_home_that_somebody_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/homes/me")
    for told, folder in (("", "/homes/me/.cache/pclkd"), ("~/kept", "/homes/me/kept"), ("/kept", "/kept")):
        monkeypatch.setenv("PCLKD_CACHE", told)
        assert str(storage.cache_folder()) == folder
    monkeypatch.setenv("PCLKD_CACHE", "~nobody-of-that-name/kept")
    with pytest.raises(InputError, match=r"no cache folder ~nobody-of-that-name/kept .* set PCLKD_CACHE"):
        storage.cache_folder()


def test_a_changed_file_is_another_one(memory: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    storage.write_bytes(f"{memory}/a", b"1")
    folders = [str(tmp_path), f"{memory}/"]  # of frames
    paths = [str(tmp_path / "a"), f"{memory}/a", *folders, f"{memory}/none", str(tmp_path / "none")]
    before = identify(paths)
    assert before == identify(paths)
    assert before[4:] == ["", ""]
    assert all(told.startswith("1:") for told in before[:4])
    (tmp_path / "a").write_bytes(b"2")
    os.utime(tmp_path / "a", (1, 1))  # the clock of a file system has steps, and this may still be the same one
    storage.write_bytes(f"{memory}/a", b"2")
    after = identify(paths)
    assert [a == b for a, b in zip(before, after, strict=True)] == [False, False, False, False, True, True]


@pytest.fixture
def there(memory: str, synthetic_shards: Path) -> str:
    """The rendered set in memory."""
    for path in synthetic_shards.rglob("*"):
        if path.is_file():
            storage.put(path, f"{memory}/{path.relative_to(synthetic_shards)}")
    return memory


def test_a_set_opens_by_url_with_its_columns_in_a_cache(there: str, synthetic_shards: Path, cache: Path) -> None:
    here, index = ShardIndex.open(synthetic_shards), ShardIndex.open(there)
    assert Manifest.read(there) == here.manifest
    for name in COLUMNS:
        assert (getattr(index, name) == getattr(here, name)).all()
        assert not getattr(index, name).flags.writeable
    assert sorted(path.stem for path in cache.iterdir()) == sorted(set(here.manifest.columns.values()))
    assert all(hashlib.sha256(path.read_bytes()).hexdigest() == path.stem for path in cache.iterdir())
    for name in COLUMNS:
        storage.remove(f"{there}/index/{name}.npy")
    assert len(ShardIndex.open(there)) == len(here)
    assert verify_shards(synthetic_shards).damage == ()


def test_a_damaged_column_does_not_get_into_the_cache(there: str, cache: Path) -> None:
    data = storage.read_bytes(f"{there}/index/frame_crc32.npy")
    storage.write_bytes(f"{there}/index/frame_crc32.npy", data[:-1] + b"x")
    with pytest.raises(InputError, match=r"frame_crc32\.npy differs from its SHA-256"):
        ShardIndex.open(there)
    storage.remove(f"{there}/index/frame_crc32.npy")
    with pytest.raises(InputError, match=r"no index column .*frame_crc32"):
        ShardIndex.open(there)
    storage.write_bytes(f"{there}/index/frame_crc32.npy", data)
    assert len(ShardIndex.open(there)) == 16
    assert not list(cache.glob(".*"))


def test_a_folder_is_fetched_whole(memory: str, tmp_path: Path) -> None:
    for name in ("a", "b"):
        storage.write_bytes(f"{memory}/frames/{name}", name.encode())
    with storage.local_copy(f"{memory}/frames/") as folder:
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"a": b"a", "b": b"b"}
        sums = sha256_of(folder)
        (folder / "b").write_bytes(b"c")
        assert sha256_of(folder) != sums
