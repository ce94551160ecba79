"""How many requests to an object store are under way at once, counted by a store that holds back its answers."""

import contextlib
import copy
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pclkd.pipeline.reading.remote import RemoteShards
from pclkd.pipeline.reading.shard_bytes import ByteRange
from pclkd.pipeline.statistics import LoaderStatistics
from pclkd.sharding.shards.index import ShardIndex

s3fs = pytest.importorskip("s3fs")

REQUESTS = 51  # three batches of 16 samples, read ahead, with a request or so each


class HoldingStore(ThreadingHTTPServer):
    """Answers range requests for the files of a folder, once `REQUESTS` of them are waiting (or nobody else comes)."""

    daemon_threads = True
    request_queue_size = 2 * REQUESTS

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.folder = folder
        self.together = threading.Barrier(REQUESTS)
        self.waiting = self.peak = 0
        self.lock = threading.Lock()


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HoldingStore

    def do_GET(self) -> None:
        store = self.server
        with store.lock:
            store.waiting += 1
            store.peak = max(store.peak, store.waiting)
        with contextlib.suppress(threading.BrokenBarrierError):
            store.together.wait(timeout=60)
        with store.lock:
            store.waiting -= 1
        content = (store.folder / self.path.rpartition("/")[2].partition("?")[0]).read_bytes()
        first, last = map(int, re.findall(r"\d+", self.headers["Range"]))
        self.send_response(206)
        self.send_header("Content-Length", str(last + 1 - first))
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.end_headers()
        self.wfile.write(content[first : last + 1])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def store(synthetic_shards: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HoldingStore]:
    with HoldingStore(synthetic_shards) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for name, value in (
            ("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}"),
            ("AWS_ACCESS_KEY_ID", "testing"),
            ("AWS_SECRET_ACCESS_KEY", "testing"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
        ):
            monkeypatch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        yield server
        server.shutdown()
        s3fs.S3FileSystem.clear_instance_cache()


def test_all_requests_of_the_batches_read_ahead_are_under_way_at_once(
    store: HoldingStore, synthetic_shards: Path
) -> None:
    """The store's delay is paid once for all of them, not once for every ten, which is botocore's default."""
    here = ShardIndex.open(synthetic_shards)
    there = copy.copy(here)
    there.root = "s3://bucket/set"
    source = RemoteShards(there, None, 300.0, LoaderStatistics())
    wanted = [ByteRange(number % len(here.manifest.shards), 512 * number, 100) for number in range(REQUESTS)]
    found = source.read(wanted)
    source.close()
    for (shard, start, size), data in zip(wanted, found, strict=True):
        assert data == Path(here.shard_url(shard)).read_bytes()[start : start + size]
    assert store.peak == REQUESTS
