"""Shards on an object store: a real S3 server on loopback, and a proxy before it that fails as told."""

import fcntl
import select
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from pclkd.pipeline import clip_loader
from pclkd.pipeline.batch import ClipBatch
from pclkd.pipeline.clips.sampling import TupleSettings
from pclkd.pipeline.loader.loader import ClipLoader
from pclkd.pipeline.world import World
from pclkd.sharding.cli import main
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.shards.index import ShardIndex

moto_server = pytest.importorskip("moto.server")
s3fs = pytest.importorskip("s3fs")

TUPLES = TupleSettings(clip_frames=8, clip_stride=12, remote_distance=8)
FORBIDDEN = b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>no</Message></Error>"


class Proxy:
    """Passes connections on to a server, or fails as `mode` tells: "pass", "refuse", "stall", "forbid"."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.mode = "pass"
        self.connections = self.refused = 0
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def fail(self, mode: str) -> None:
        """Change the mode; open connections end."""
        self.mode = mode
        for connection in self._open:
            with_no_error(connection.shutdown, socket.SHUT_RDWR)
        self._open.clear()

    def close(self) -> None:
        self.fail("refuse")
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(client)
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            if self.mode == "refuse":
                self.refused += 1
                return
            if self.mode == "stall":
                while client.recv(65536):
                    pass
                return
            if self.mode == "forbid":
                client.recv(65536)
                client.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Type: application/xml\r\nContent-Length: ")
                client.sendall(str(len(FORBIDDEN)).encode() + b"\r\nConnection: close\r\n\r\n" + FORBIDDEN)
                return
            with socket.create_connection(self._target) as server:
                self._open.append(server)
                pair = {client: server, server: client}
                while True:
                    for source in select.select(list(pair), [], [])[0]:
                        data = source.recv(65536)
                        if not data:
                            return
                        pair[source].sendall(data)
        except (OSError, ValueError):
            return
        finally:
            client.close()


def with_no_error(call, *arguments) -> None:
    try:
        call(*arguments)
    except OSError:
        return


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, int]]:
    running = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    yield running.get_host_and_port()
    running.stop()


@pytest.fixture
def store(server: tuple[str, int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Proxy]:
    """An S3 store behind a proxy, as the environment tells it to everybody."""
    proxy = Proxy(server)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.port}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("PCLKD_CACHE", str(tmp_path / "cache"))
    s3fs.S3FileSystem.clear_instance_cache()
    yield proxy
    proxy.close()
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def shards(store: Proxy, synthetic_shards: Path, tmp_path: Path) -> str:
    """The rendered data set on that store."""
    fs = s3fs.S3FileSystem(skip_instance_cache=True)
    bucket = f"bucket-{tmp_path.name.replace('_', '-').lower()}"
    fs.mkdir(bucket)
    fs.put(f"{synthetic_shards}/", f"{bucket}/set/", recursive=True)
    return f"s3://{bucket}/set"


def loader(shards: str | Path | ShardIndex, **settings: object) -> ClipLoader:
    changes = {"batch_size": 4, "crop": 48, "tuples": TUPLES, "seed": 3, "storage_limit_s": 20.0, **settings}
    return clip_loader(shards, world=World(), device=torch.device("cpu"), **changes)


def batches(opened: ClipLoader) -> list[ClipBatch]:
    with opened:
        return list(opened.epoch(0))  # which reads nothing of another epoch ahead


def assert_same(a: list[ClipBatch], b: list[ClipBatch]) -> None:
    assert len(a) == len(b) > 0
    for one, other in zip(a, b, strict=True):
        assert torch.equal(one.sample_index, other.sample_index)
        assert torch.equal(one.clips, other.clips)


def held(folder: Path) -> int:
    with (folder / "blocks" / "size").open() as size:
        fcntl.flock(size, fcntl.LOCK_EX)  # readers may be at work: nobody adds or removes a block meanwhile
        return sum(path.stat().st_size for path in folder.glob("blocks/??/*"))


def remove(shards: str, name: str) -> None:
    s3fs.S3FileSystem(skip_instance_cache=True).rm_file(f"{shards.removeprefix('s3://')}/{name}")


def test_shards_packed_straight_to_the_store_load_from_it(
    store: Proxy, synthetic_videos, synthetic_shards: Path
) -> None:
    s3fs.S3FileSystem(skip_instance_cache=True).mkdir("packed")
    url = "s3://packed/sets/synthetic"
    arguments = [synthetic_videos.videos, url, "--splits", synthetic_videos.splits, "--size", "64x86", "--workers", "1"]
    result = CliRunner().invoke(main, ["pack", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    assert_same(batches(loader(url)), batches(loader(synthetic_shards)))


@pytest.mark.parametrize("cache_gib", [10.0, 0.0])
def test_batches_are_those_from_disk(shards: str, synthetic_shards: Path, cache_gib: float) -> None:
    opened = loader(shards, cache_gib=cache_gib)
    assert_same(batches(opened), batches(loader(synthetic_shards)))
    assert opened.statistics.bytes_fetched > 0 and opened.statistics.quarantined == 0


def test_what_was_fetched_once_is_not_fetched_again(shards: str, tmp_path: Path) -> None:
    first, second = loader(shards, threads=1), loader(shards)
    assert_same(batches(first), batches(second))
    assert first.statistics.bytes_fetched == held(tmp_path / "cache") > 0
    assert second.statistics.bytes_fetched == 0 < second.statistics.bytes_read


def test_the_cache_keeps_its_bound(shards: str, synthetic_shards: Path, tmp_path: Path) -> None:
    bound = 600_000  # two blocks
    found = []
    with loader(shards, cache_gib=bound / 2**30, cache_dir=tmp_path / "small", threads=2) as opened:
        for batch in opened:
            assert held(tmp_path / "small") <= bound
            found.append(batch)
    assert held(tmp_path / "small") > 0
    assert_same(found, batches(loader(synthetic_shards)))


def test_two_processes_share_a_cache(shards: str, tmp_path: Path) -> None:
    program = (
        "import sys, torch\n"
        "from pclkd.pipeline import World, clip_loader\n"
        "from pclkd.pipeline.clips.sampling import TupleSettings\n"
        "loader = clip_loader(sys.argv[1], world=World(), device=torch.device('cpu'), batch_size=4, crop=48, seed=3,\n"
        "    tuples=TupleSettings(clip_frames=8, clip_stride=12, remote_distance=8))\n"
        "with loader: steps = len(list(loader.epoch(0)))\n"
        "print(steps, loader.statistics.quarantined, loader.statistics.bytes_fetched)\n"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", program, shards], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    answers = [process.communicate()[0].split() for process in running]
    assert [answer[:2] for answer in answers] == [["3", "0"]] * 2
    again = loader(shards)
    batches(again)
    assert again.statistics.bytes_fetched == 0


@pytest.mark.parametrize("length", [0, 1000, None])
def test_a_kept_block_that_goes_bad_is_fetched_again(
    shards: str, synthetic_shards: Path, tmp_path: Path, length: int | None
) -> None:
    """Short after a power cut, or of the right length with wrong bytes."""
    batches(loader(shards))
    for block in (tmp_path / "cache").glob("blocks/??/*"):
        block.write_bytes(block.read_bytes()[:length] if length is not None else bytes(block.stat().st_size))
    again = loader(shards)
    assert_same(batches(again), batches(loader(synthetic_shards)))
    assert again.statistics.quarantined == 0 and again.statistics.bytes_fetched > 0


def test_a_vanished_object_damages_its_videos_alone(shards: str, synthetic_shards: Path, tmp_path: Path) -> None:
    index = ShardIndex.open(shards)
    remove(shards, index.manifest.shards[0].name)
    copy = Path(shutil.copytree(synthetic_shards, tmp_path / "copy"))
    local = ShardIndex.open(copy)
    (copy / local.manifest.shards[0].name).unlink()
    far, near = loader(index), loader(local)
    assert_same(batches(far), batches(near))
    lost = set(index.split_samples(1, "train").tolist()) & set((index.sample_shard[:] == 0).nonzero()[0].tolist())
    assert far.statistics.quarantined == near.statistics.quarantined == len(lost) > 0


def test_a_truncated_object_damages_its_videos_alone(shards: str, synthetic_shards: Path) -> None:
    index = ShardIndex.open(shards)
    name = index.manifest.shards[1].name
    whole = (synthetic_shards / name).read_bytes()
    s3fs.S3FileSystem(skip_instance_cache=True).pipe_file(f"{shards.removeprefix('s3://')}/{name}", whole[:700])
    opened = loader(index)
    batches(opened)
    lost = set(index.split_samples(1, "train").tolist()) & set((index.sample_shard[:] == 1).nonzero()[0].tolist())
    assert opened.statistics.quarantined == len(lost) > 0


def test_a_store_that_fails_for_a_moment_is_waited_for(
    shards: str, synthetic_shards: Path, store: Proxy, until: Callable[..., None]
) -> None:
    expected = batches(loader(synthetic_shards))
    opened = loader(shards, storage_limit_s=10_000.0)
    store.fail("refuse")

    def heal() -> None:
        until(lambda: store.refused >= 3)
        store.mode = "pass"

    healer = threading.Thread(target=heal)
    healer.start()
    assert_same(batches(opened), expected)
    healer.join()
    assert opened.statistics.quarantined == 0


@pytest.mark.parametrize("mode", ["refuse", "stall"])
def test_a_store_that_stays_away_is_told_within_the_limit(shards: str, store: Proxy, mode: str) -> None:
    opened = loader(shards, storage_limit_s=2.0)
    store.fail(mode)
    with pytest.raises(InputError, match=r"s3://.*could not be read for \d+ s, \d+ attempts.*storage_limit_s"):
        batches(opened)
    assert opened.statistics.quarantined == 0


def test_a_store_that_refuses_is_told_at_once(shards: str, store: Proxy) -> None:
    opened = loader(shards)
    store.fail("forbid")
    with pytest.raises(InputError, match=r"no access to s3://.*check the credentials"):
        batches(opened)


def test_closing_does_not_wait_for_a_store_that_stays_away(
    shards: str, store: Proxy, until: Callable[..., None]
) -> None:
    opened = loader(shards, storage_limit_s=10_000.0)
    store.fail("refuse")
    consumer = iter(opened)
    failed: list[BaseException] = []

    def consume() -> None:
        try:
            next(consumer)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=consume)
    thread.start()
    until(lambda: store.refused)
    opened.close()
    until(lambda: not thread.is_alive())
    assert "closed" in str(failed[0])
