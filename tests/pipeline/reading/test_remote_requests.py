"""Requests to an object store, seen by stores that hold back their answers, or trickle all but one of them."""

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

from pclkd.pipeline.reading import remote
from pclkd.pipeline.reading.remote import RemoteShards
from pclkd.pipeline.reading.shard_bytes import ByteRange
from pclkd.pipeline.statistics import LoaderStatistics
from pclkd.sharding.shards.index import ShardIndex

s3fs = pytest.importorskip("s3fs")

REQUESTS = 51  # three batches of 16 samples, read ahead, with a request or so each


class Store(ThreadingHTTPServer):
    """Answers range requests for the files of a folder."""

    daemon_threads = True
    request_queue_size = 2 * REQUESTS

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.folder = folder
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


def read(here: ShardIndex, wanted: list[ByteRange], limit_s: float) -> None:
    """Read from the same set on the store, and hold what came against the files."""
    there = copy.copy(here)
    there.root = "s3://bucket/set"
    source = RemoteShards(there, None, limit_s, LoaderStatistics())
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
