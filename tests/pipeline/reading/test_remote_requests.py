"""Requests to an object store, seen by stores that hold back their answers, trickle all but one of them, or refuse."""

import contextlib
import copy
import re
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import BinaryIO

import pytest
from fsspec.asyn import AsyncFileSystem

from pclkd.pipeline.config import LoaderSettings
from pclkd.pipeline.reading import remote
from pclkd.pipeline.reading.remote import RemoteShards
from pclkd.pipeline.reading.shard_bytes import ByteRange, UnreadableBytesError
from pclkd.pipeline.statistics import LoaderStatistics
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.shards.index import ShardIndex

s3fs = pytest.importorskip("s3fs")

REQUESTS = 51  # three batches of 16 samples, read ahead, with a request or so each


class Store(ThreadingHTTPServer):
    """Answers range requests for the files of a folder, or all of them with a `refusal`: HTTP status, S3's word."""

    daemon_threads = True
    request_queue_size = 2 * REQUESTS

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.folder = folder
        self.refusal: tuple[int, str] | None = None
        self.lock = threading.Lock()

    def send(self, file: BinaryIO, data: bytes) -> None:
        """Send the body of an answer."""
        file.write(data)


class HoldingStore(Store):
    """Answers once `REQUESTS` requests are waiting (or nobody else comes)."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.together = threading.Barrier(REQUESTS)
        self.waiting = self.peak = 0

    def send(self, file: BinaryIO, data: bytes) -> None:
        with self.lock:
            self.waiting += 1
            self.peak = max(self.peak, self.waiting)
        with contextlib.suppress(threading.BrokenBarrierError):
            self.together.wait(timeout=60)
        with self.lock:
            self.waiting -= 1
        file.write(data)


class NarrowStore(Store):
    """Answers one request at a time; those that come meanwhile get a byte now and then, until they hang up."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.answered = False
        self.trickling = 0

    def send(self, file: BinaryIO, data: bytes) -> None:
        with self.lock:
            if not self.answered:
                self.answered = True
                file.write(data)
                return
            self.trickling += 1
        try:
            for place in range(len(data) - 1):
                file.write(data[place : place + 1])
                time.sleep(0.05)
        except OSError:  # hung up
            pass
        with self.lock:
            self.trickling -= 1
            self.answered = self.trickling > 0


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Store

    def do_GET(self) -> None:
        if self.server.refusal is not None:
            status, code = self.server.refusal
            body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>no</Message></Error>".encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return
        content = (self.server.folder / self.path.rpartition("/")[2].partition("?")[0]).read_bytes()
        first, last = map(int, re.findall(r"\d+", self.headers["Range"]))
        self.send_response(206)
        self.send_header("Content-Length", str(last + 1 - first))
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.end_headers()
        self.server.send(self.wfile, content[first : last + 1])

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def serving(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The store at work, as the environment tells it to the client."""
    with store:
        threading.Thread(target=store.serve_forever, daemon=True).start()
        for name, value in (
            ("AWS_ENDPOINT_URL", f"http://127.0.0.1:{store.server_port}"),
            ("AWS_ACCESS_KEY_ID", "testing"),
            ("AWS_SECRET_ACCESS_KEY", "testing"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
        ):
            monkeypatch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        yield
        store.shutdown()
        s3fs.S3FileSystem.clear_instance_cache()


def remote_shards(here: ShardIndex, root: str, limit_s: float) -> RemoteShards:
    """The same set on the store."""
    there = copy.copy(here)
    there.root = root
    return RemoteShards(there, None, limit_s, LoaderStatistics())


def read(here: ShardIndex, wanted: list[ByteRange], limit_s: float) -> None:
    """Read from the set on the store, and hold what came against the files."""
    source = remote_shards(here, "s3://bucket/set", limit_s)
    found = source.read(wanted)
    source.close()
    for (shard, start, size), data in zip(wanted, found, strict=True):
        assert data == Path(here.shard_url(shard)).read_bytes()[start : start + size]


def test_all_requests_of_the_batches_read_ahead_are_under_way_at_once(
    synthetic_shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store's delay is paid once for all of them, not once for every ten, which is botocore's default."""
    here = ShardIndex.open(synthetic_shards)
    wanted = [ByteRange(number % len(here.manifest.shards), 512 * number, 100) for number in range(REQUESTS)]
    store = HoldingStore(synthetic_shards)
    with serving(store, monkeypatch):
        read(here, wanted, 300.0)
    assert store.peak == REQUESTS


def test_on_a_slow_link_what_came_is_kept_and_the_rest_asked_again(
    synthetic_shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No attempt ever has all of them."""
    monkeypatch.setattr(remote, "_REQUEST_LIMIT_S", 1.0)
    with serving(NarrowStore(synthetic_shards), monkeypatch):
        read(ShardIndex.open(synthetic_shards), [ByteRange(number, 512, 10_000) for number in range(3)], 30.0)


@pytest.mark.parametrize(
    ("scheme", "refusal", "told"),
    [
        ("s3", (403, "AccessDenied"), "no access to s3:.*AccessDenied.*credentials"),
        ("s3", (400, "InvalidToken"), "no access to s3:.*InvalidToken.*credentials"),
        ("s3", (412, "PreconditionFailed"), "no access to s3:.*PreconditionFailed"),
        ("s3", (403, "InvalidObjectState"), "s3:.* is archived .*restore it"),
        ("http", (401, ""), "no access to http:.*401.*credentials"),
        ("http", (403, ""), "no access to http:.*403.*credentials"),
    ],
)
def test_a_refusal_is_told_at_once_and_damages_nothing(
    synthetic_shards: Path, monkeypatch: pytest.MonkeyPatch, scheme: str, refusal: tuple[int, str], told: str
) -> None:
    store = Store(synthetic_shards)
    store.refusal = refusal
    root = f"http://127.0.0.1:{store.server_port}" if scheme == "http" else "s3://bucket/set"
    with serving(store, monkeypatch), pytest.raises(InputError, match=told):
        remote_shards(ShardIndex.open(synthetic_shards), root, 300.0).read([ByteRange(0, 0, 512)])


@pytest.mark.parametrize("scheme", ["s3", "http"])
@pytest.mark.parametrize(
    ("refusal", "told"),
    [((404, "NoSuchKey"), "no such object"), ((410, "Gone"), "no such object"), ((416, "InvalidRange"), "ends before")],
)
def test_what_is_not_there_damages_its_samples(
    synthetic_shards: Path, monkeypatch: pytest.MonkeyPatch, scheme: str, refusal: tuple[int, str], told: str
) -> None:
    store = Store(synthetic_shards)
    store.refusal = refusal
    root = f"http://127.0.0.1:{store.server_port}" if scheme == "http" else "s3://bucket/set"
    with serving(store, monkeypatch):
        (found,) = remote_shards(ShardIndex.open(synthetic_shards), root, 300.0).read([ByteRange(0, 0, 512)])
    assert isinstance(found, UnreadableBytesError) and told in str(found)


class GoogleError(Exception):
    """As gcsfs' HttpError."""

    def __init__(self, code: int) -> None:
        super().__init__(f"no, {code}")
        self.code = code


class Google(AsyncFileSystem):
    """Refuses as gcsfs does, which is not there to be asked."""

    cachable = False

    async def _cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: object) -> bytes:
        number = int(path[-5])
        raise (OSError(f"Forbidden: {path}\nno"), GoogleError(401), GoogleError(416))[number]


def test_googles_answers_are_understood(synthetic_shards: Path) -> None:
    source = remote_shards(ShardIndex.open(synthetic_shards), "memory://set", 300.0)
    source._fs = Google()
    for number in (0, 1):
        with pytest.raises(InputError, match="no access to"):
            source.read([ByteRange(number, 0, 512)])
    (found,) = source.read([ByteRange(2, 0, 512)])
    assert isinstance(found, UnreadableBytesError) and "ends before" in str(found)


def test_a_tilde_in_the_cache_folder_is_the_home(
    synthetic_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    there = copy.copy(ShardIndex.open(synthetic_shards))
    there.root = "memory://set"
    remote.open_source(there, LoaderSettings(cache_dir=Path("~/kept")), LoaderStatistics())
    assert (tmp_path / "kept" / "blocks" / "size").exists()
    with pytest.raises(InputError, match=r"no cache folder ~nobody-of-that-name/x .*loader\.cache_dir"):
        remote.open_source(there, LoaderSettings(cache_dir=Path("~nobody-of-that-name/x")), LoaderStatistics())
