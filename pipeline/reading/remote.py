"""Bytes out of shards in an object store: range requests, side by side, in blocks that are kept on the local disk.

    wanted          |   xxxx  xx |        | xx         |        bytes of a shard
    blocks          [     0      ][   1   ][     2     ]        256 KiB each
    held already                                  yes
    one request     [------------]                              neighbouring blocks come with one request

All requests of a batch are under way at once; the loader reads several batches ahead, so that the store's latency is
paid once and not once a video. A request that fails is made again, ever more slowly, until a limit, and what came
beside it is kept; a shard that the store does not have, or that is too short, damages the samples in it alone.
"""

import asyncio
import errno
import logging
import random
import threading
import time
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from pclkd.pipeline.config import LoaderSettings
from pclkd.pipeline.reading.block_cache import BlockCache
from pclkd.pipeline.reading.shard_bytes import ByteRange, LocalShards, ShardBytes, UnreadableBytesError
from pclkd.pipeline.statistics import LoaderStatistics
from pclkd.sharding.common import storage
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.shards.index import ShardIndex

__all__ = ["RemoteShards", "open_source"]

_BLOCK = 256 * 1024
_REQUEST = 8 * 2**20  # bytes a request at most
_REQUEST_LIMIT_S = 30.0
_CONNECTIONS = 64  # for three batches of 16 samples at once; botocore's 10 make them wait for each other
_FIRST_DELAY_S, _LONGEST_DELAY_S = 0.1, 10.0
_REFUSALS = ("Credential", "Token", "ParamValidation")  # by name: botocore's and google-auth's are not imported here
_log = logging.getLogger(__name__)

Found = bytes | UnreadableBytesError
_Block = tuple[int, int]  # shard, number of the block in it


def open_source(index: ShardIndex, settings: LoaderSettings, statistics: LoaderStatistics) -> ShardBytes:
    """Where the bytes of a shard set come from: its folder, or an object store behind a local cache.

    Raises:
        InputError: the cache folder cannot be written, or its `~` leads to nobody's home.
    """
    if not storage.is_remote(index.root):
        return LocalShards(index)
    cache = None
    if settings.cache_gib > 0:
        try:  # here and not in the settings: a run may go on where the home is another
            home = settings.cache_dir.expanduser() if settings.cache_dir else storage.cache_folder()
        except RuntimeError as error:
            raise InputError(
                f"no cache folder {settings.cache_dir} ({error})",
                remedy="--set loader.cache_dir to a folder without ~, or loader.cache_gib=0",
            ) from None
        cache = BlockCache(home / "blocks", int(settings.cache_gib * 2**30))
    return RemoteShards(index, cache, settings.storage_limit_s, statistics)


class RemoteShards:
    """Shards behind a URL.

    Args:
        index: the shard set.
        cache: keeps blocks, or None.
        limit_s: seconds to try again when the store fails.
        statistics: where fetched bytes are counted.
    """

    gap = 64 * 1024

    def __init__(
        self, index: ShardIndex, cache: BlockCache | None, limit_s: float, statistics: LoaderStatistics
    ) -> None:
        self._index, self._cache, self._limit_s, self._statistics = index, cache, limit_s, statistics
        self._fs, self._root = _impatient(index.root)
        self._stopped = threading.Event()
        self._now: dict[int, tuple[float, int]] = {}  # by thread: since when, which shard

    def read(self, ranges: Sequence[ByteRange]) -> list[Found]:
        """See `ShardBytes.read`.

        Raises:
            InputError: the store fails for longer than the limit, or refuses.
        """
        if self._cache is None:
            return self._fetch(ranges)
        blocks: dict[_Block, Found] = {}
        for wanted in ranges:
            for number in range(wanted.start // _BLOCK, (wanted.start + wanted.size - 1) // _BLOCK + 1):
                blocks.setdefault((wanted.shard, number), b"")
        missing = []
        for block in sorted(blocks):
            held = self._cache.get(self._key(block))
            if held is None:
                missing.append(block)
            else:
                blocks[block] = held
        blocks |= self._fetch_blocks(missing, self._cache)
        return [self._cut(wanted, blocks) for wanted in ranges]

    def forget(self, ranges: Sequence[ByteRange]) -> bool:
        """See `ShardBytes.forget`."""
        if self._cache is None:
            return False
        for shard, start, size in ranges:
            for number in range(start // _BLOCK, (start + size - 1) // _BLOCK + 1):
                self._cache.drop(self._key((shard, number)))
        return True

    def busy(self) -> str:
        """See `ShardBytes.busy`."""
        now = sorted(self._now.copy().values())
        return f" from {self._index.shard_url(now[0][1])} (for {time.monotonic() - now[0][0]:.0f} s)" if now else ""

    def close(self) -> None:
        """Try no more."""
        self._stopped.set()

    def _key(self, block: _Block) -> str:
        # By content: sets that hold the same shard share its blocks, and a shard packed anew is another one.
        record = self._index.manifest.shards[block[0]]
        return f"{record.sha256}/{record.name}/{_BLOCK}/{block[1]}"

    def _cut(self, wanted: ByteRange, blocks: dict[_Block, Found]) -> Found:
        """A range out of its blocks."""
        shard, start, size = wanted
        first, last = start // _BLOCK, (start + size - 1) // _BLOCK
        parts: list[bytes] = []
        for number in range(first, last + 1):
            block = blocks[shard, number]
            if isinstance(block, UnreadableBytesError):
                return block
            parts.append(block)
        data = b"".join(parts)[start - first * _BLOCK : start + size - first * _BLOCK]
        return data if len(data) == size else self._too_short(wanted)

    def _fetch_blocks(self, missing: list[_Block], cache: BlockCache) -> dict[_Block, Found]:
        """Fetch blocks, neighbours with one request, and keep them."""
        runs: list[list[_Block]] = []
        # Neighbours have the same shard and the same distance from their place in the list.
        for _, group in groupby(enumerate(missing), key=lambda item: (item[1][0], item[1][1] - item[0])):
            run = [block for _, block in group]
            runs += [run[at : at + _REQUEST // _BLOCK] for at in range(0, len(run), _REQUEST // _BLOCK)]
        wanted = []
        for run in runs:
            length = self._index.manifest.shards[run[0][0]].bytes
            start = run[0][1] * _BLOCK
            wanted.append(ByteRange(run[0][0], start, min(start + len(run) * _BLOCK, length) - start))
        blocks: dict[_Block, Found] = {}
        for run, data in zip(runs, self._fetch(wanted), strict=True):
            for place, block in enumerate(run):
                if isinstance(data, UnreadableBytesError):
                    blocks[block] = data
                    continue
                blocks[block] = piece = data[place * _BLOCK : (place + 1) * _BLOCK]
                cache.put(self._key(block), piece)
        return blocks

    def _fetch(self, ranges: Sequence[ByteRange]) -> list[Found]:
        """Request ranges, all at once; those that fail are requested again until the limit."""
        found: dict[int, Found] = {}
        began, delay, attempts = time.monotonic(), _FIRST_DELAY_S, 0
        patience = min(_REQUEST_LIMIT_S, self._limit_s)
        left = [number for number, wanted in enumerate(ranges) if wanted.size > 0]
        found |= {n: self._too_short(wanted) for n, wanted in enumerate(ranges) if wanted.size <= 0}
        while left:
            attempts += 1
            answers = self._request([ranges[number] for number in left], patience)
            if any(isinstance(answer, TimeoutError) for answer in answers):
                patience = min(2 * patience, self._limit_s)
            again: list[int] = []
            last: Exception | None = None
            for number, answer in zip(left, answers, strict=True):
                judged = self._judge(ranges[number], answer)
                if isinstance(judged, bytes | UnreadableBytesError):
                    found[number] = judged
                else:
                    again.append(number)
                    last = judged
            if again:
                url = self._index.shard_url(ranges[again[0]].shard)
                spent = time.monotonic() - began
                if len(again) < len(left):  # a store that is slow does not fail
                    began, attempts = time.monotonic(), 0
                elif spent + delay > self._limit_s:
                    raise InputError(
                        f"{url} could not be read for {spent:.0f} s, {attempts} attempts; the last: {_told(last)}",
                        remedy="check the object store and the network; where it is only slow, raise "
                        "--set loader.storage_limit_s",
                    )
                _log.warning("%s: %s; trying again in %.1f s", url, _told(last), delay)
                # Jitter: the processes of a job that failed together must not come back together.
                if self._stopped.wait(delay * random.uniform(0.5, 1.0)):
                    raise InputError(f"reading {url} was given up: the loader was closed", remedy="open a new loader")
                delay = min(2 * delay, _LONGEST_DELAY_S)
            left = again
        return [found[number] for number in range(len(ranges))]

    def _request(self, ranges: Sequence[ByteRange], limit_s: float) -> list[Any]:
        """One attempt at each range: bytes, or the exception that came instead; `limit_s` seconds for each."""
        names = [f"{self._root}/{self._index.manifest.shards[wanted.shard].name}" for wanted in ranges]
        starts, ends = [wanted.start for wanted in ranges], [wanted.start + wanted.size for wanted in ranges]
        thread = threading.get_ident()
        self._now[thread] = time.monotonic(), ranges[0].shard
        try:
            if getattr(self._fs, "async_impl", False):
                from fsspec.asyn import sync  # type: ignore[import-untyped]

                async def attempt() -> list[Any]:
                    requests = (
                        asyncio.wait_for(self._fs._cat_file(name, start=start, end=end), limit_s)
                        for name, start, end in zip(names, starts, ends, strict=True)
                    )
                    return await asyncio.gather(*requests, return_exceptions=True)

                answers = sync(self._fs.loop, attempt)
            else:
                answers = self._fs.cat_ranges(names, starts, ends, on_error="return")
        except Exception as error:  # what a store raises is its own affair; `_judge` sorts it
            return [error] * len(ranges)
        finally:
            del self._now[thread]
        self._statistics.add(bytes_fetched=sum(len(answer) for answer in answers if isinstance(answer, bytes)))
        return list(answers)

    def _judge(self, wanted: ByteRange, answer: Any) -> Found | Exception:
        """The bytes; what damages the samples; or an exception that is worth another attempt.

        Raises:
            InputError: the store refuses us.
        """
        url = self._index.shard_url(wanted.shard)
        if isinstance(answer, bytes):
            return answer if len(answer) == wanted.size else self._too_short(wanted)
        status, code = _said(answer)
        if isinstance(answer, FileNotFoundError) or status in ("404", "410"):
            return UnreadableBytesError(f"cannot read {url}: no such object")
        if status == "416":
            return self._too_short(wanted)
        name = type(answer).__name__
        if code == "InvalidObjectState":
            raise InputError(f"{url} is archived ({_told(answer)})", remedy="restore it from its storage class first")
        if (
            isinstance(answer, PermissionError)
            or status in ("401", "403")
            or (code and getattr(answer, "errno", None) == errno.EINVAL)  # s3fs, of a request that is wrong in itself
            or str(answer).startswith("Forbidden")  # gcsfs
            or any(refusal in name for refusal in _REFUSALS)
        ):
            raise InputError(f"no access to {url} ({_told(answer)})", remedy="check the credentials and their rights")
        if isinstance(answer, Exception):
            return answer
        return OSError(f"an answer of type {name}")

    def _too_short(self, wanted: ByteRange) -> UnreadableBytesError:
        return UnreadableBytesError(
            f"{self._index.shard_url(wanted.shard)} ends before byte {wanted.start + wanted.size}"
        )


def _impatient(root: str) -> tuple[Any, str]:
    """The file system of a URL, without attempts of its own: ours have a limit and are told."""
    fs, path = storage.filesystem(root)
    if "s3" in (fs.protocol if isinstance(fs.protocol, tuple) else (fs.protocol,)):
        options = dict(fs.storage_options)
        own: dict[str, Any] = {"connect_timeout": 10, "read_timeout": _REQUEST_LIMIT_S, "retries": {"max_attempts": 0}}
        own["max_pool_connections"] = _CONNECTIONS
        options["config_kwargs"] = {**own, **(options.get("config_kwargs") or {})}
        fs = type(fs)(**options, skip_instance_cache=True)
        fs.retries = 1
    return fs, path.rstrip("/")


def _said(answer: Any) -> tuple[str, str]:
    """The HTTP status in an exception and S3's word for it; each client keeps them elsewhere, and some keep none."""
    response = getattr(getattr(answer, "__cause__", None), "response", None)
    if isinstance(response, dict):  # s3fs
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", "")
        return str(status), str(response.get("Error", {}).get("Code", ""))
    # aiohttp, gcsfs, Azure
    return str(next(filter(None, (getattr(answer, name, None) for name in ("status", "code", "status_code"))), "")), ""


def _told(error: Exception | None) -> str:
    name = " ".join(filter(None, (type(error).__name__, _said(error)[1])))
    text = str(error).splitlines()[0] if str(error) else ""
    return f"{name}: {text}" if text else name
