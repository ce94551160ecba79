"""What a data set's size costs: opening it, the first batch, and memory, from 10^3 to 10^6 videos.

Each round measures each size in a fresh process whose files were dropped from the page cache before. Every measurement
is on the disk as soon as it is known, and the same command goes on behind it; a size whose process dies is left out,
and the others go on.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import click

from pclkd.benchmarks.growth.kept import KeptRows
from pclkd.benchmarks.growth.large_set import grow_shard_set
from pclkd.benchmarks.measuring.clip_shape import ClipShape
from pclkd.benchmarks.measuring.places import local
from pclkd.benchmarks.measuring.result import BenchmarkResult, make_result, write_result
from pclkd.benchmarks.measuring.session import Session
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.shards.columns import COLUMNS
from pclkd.sharding.shards.index import ShardIndex
from pclkd.sharding.shards.manifest import MANIFEST_NAME

__all__ = ["ScaleBenchmark", "probe", "with_processes"]

_UNITS = {"open": "s", "first_batch": "s", "open_memory": "MiB", "first_batch_memory": "MiB"}
_KEYS = {
    "open": "open_s",
    "first_batch": "first_batch_s",
    "open_memory": "open_mib",
    "first_batch_memory": "first_batch_mib",
}
_LIMIT_S = 300.0
_NOTES = (
    "open: ShardIndex.open in a fresh process, its files dropped from the page cache; imports are not counted",
    "open_memory: all that the process has in RAM then, Python and NumPy included (torch is not imported yet)",
    "first_batch: from a split's sample ids through order, plan, reads and DALI's start to the first batch",
    "first_batch_memory: by how much RAM in use grows with it, DALI's buffers and the batch included",
    "the set is a small one over and over: index columns at full size, shards that are links to one real tar",
)


@dataclass(frozen=True)
class ScaleBenchmark:
    """What is measured.

    Attributes:
        data: a local shard set; the large ones hold its videos over and over.
        videos: sizes of the large ones.
        shape: of a batch.
        scratch: folder for the large ones, which are removed in the end, or None for the system's.
    """

    data: str | Path
    videos: Sequence[int]
    shape: ClipShape
    scratch: Path | None

    def run(self, session: Session) -> BenchmarkResult:
        """Measure.

        Raises:
            InputError: a shard set that cannot be read, a size too small for a batch, a crop that does not fit, too
                little room on the disk, or no size whose processes lived.
        """
        small = ShardIndex.open(local(self.data, "scale --videos"))
        shape = self.shape.fitted(small)
        sizes = sorted(set(self.videos))
        if self.scratch is not None and not self.scratch.is_dir():
            raise InputError(f"no folder {self.scratch}", remedy="give a folder that exists as --scratch")
        settings = {**shape.as_dict(), "data_fingerprint": small.fingerprint[:16]}
        kept = KeptRows(session.json_file, settings)
        found = _Found(settings, {size: [] for size in sizes})
        with ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="pclkd-scale-", dir=self.scratch))
            roots = {}
            for size in sizes:
                roots[size] = Path(folder) / str(size)
                grow_shard_set(small, roots[size], size)
                large = ShardIndex.open(roots[size])
                _refuse_few(large, shape.batch_size)
                found.facts[f"open/{size}"] = {
                    "frames": large.manifest.frames,
                    "shards": len(large.manifest.shards),
                    "index_mib": sum(path.stat().st_size for path in (roots[size] / "index").iterdir()) / 2**20,
                }
            for number in session.turns():
                for size in sizes if number % 2 == 0 else reversed(sizes):
                    if f"{size} videos" in found.missing:
                        continue
                    try:
                        row = kept.row(f"{number}/{size}", lambda size=size: probe(roots[size], shape))  # type: ignore[misc]
                        found.rows[size].append(row)
                    except subprocess.SubprocessError as error:
                        found.missing[f"{size} videos"] = f"round {number + 1}: {_why(error)}"
                        click.echo(f"{size} videos are left out: {_why(error)}", err=True)
                if session.json_file is not None:
                    write_result(found.told(kept.taken_up), session.json_file)
        kept.done()
        return found.told(kept.taken_up)


@dataclass
class _Found:
    """What is known so far.

    Attributes:
        settings: what is measured.
        rows: what each round told, by size.
        facts: about the large sets, by figure.
        missing: sizes that could not be measured, and why.
    """

    settings: Mapping[str, object]
    rows: Mapping[int, list[Mapping[str, float]]]
    facts: dict[str, dict[str, float]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def told(self, taken_up: int) -> BenchmarkResult:
        """The result of the rounds that are through.

        Args:
            taken_up: measurements of an earlier attempt.

        Raises:
            InputError: no size is left.
        """
        sizes = [size for size in self.rows if f"{size} videos" not in self.missing]
        if not sizes:
            reasons = "; ".join(f"{name}: {why}" for name, why in self.missing.items())
            raise InputError(f"nothing could be measured ({reasons})", remedy="give smaller --videos")
        again = f"{taken_up} measurements are of an earlier attempt that was ended"
        parts = [
            make_result(
                "scale",
                unit,
                {f"{name}/{size}": [row[_KEYS[name]] for row in self.rows[size]] for size in sizes},
                f"{name}/{sizes[0]}",
                self.settings,
                extra=self.facts,
                missing=self.missing,
                notes=[*_NOTES, *([again] if taken_up else [])],
            )
            for name, unit in _UNITS.items()
        ]
        figures = [figure for part in parts for figure in part.results]
        return parts[0].model_copy(update={"results": figures, "base": f"{sizes[0]} videos"})


def probe(root: Path, shape: ClipShape) -> Mapping[str, float]:
    """What `probe` tells of a shard set, measured in a fresh process on a cold page cache."""
    _forget(root)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pclkd.benchmarks.growth.probe", str(root)),
            *map(str, (shape.batch_size, shape.frames, shape.side)),
        ],
        stdout=subprocess.PIPE,
        timeout=_LIMIT_S,
        check=True,
    )
    told: dict[str, float] = json.loads(done.stdout)
    return told


def _why(error: subprocess.SubprocessError) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        code: int = error.returncode
        return f"its process was ended by {signal.Signals(-code).name}" if code < 0 else f"its process failed ({code})"
    return f"no answer within {_LIMIT_S:g} s"


def with_processes(sizes: BenchmarkResult, jobs: BenchmarkResult) -> BenchmarkResult:
    """One result of both; settings of the jobs stand behind "processes/", because shapes differ."""
    return sizes.model_copy(
        update={
            "results": sizes.results + jobs.results,
            "bounding": sizes.bounding + jobs.bounding,
            "missing": {**sizes.missing, **jobs.missing},
            "settings": {**sizes.settings, **{f"processes/{name}": value for name, value in jobs.settings.items()}},
            "notes": sizes.notes + jobs.notes,
        }
    )


def _refuse_few(index: ShardIndex, batch_size: int) -> None:
    split = int(next(iter(index.manifest.splits)))
    found = len(index.split_samples(split, "train"))
    if found < batch_size:
        raise InputError(
            f"{len(index)} videos have {found} for training in split {split}, fewer than a batch of {batch_size}",
            remedy="give larger --videos or a smaller --batch-size",
        )


def _forget(root: Path) -> None:
    """Drop the set's files from the page cache; all shards are one file."""
    for path in (
        root / MANIFEST_NAME,
        *(root / "index" / f"{name}.npy" for name in COLUMNS),
        *list(root.glob("*.tar"))[:1],
    ):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)  # what is not on the disk yet cannot be dropped
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
