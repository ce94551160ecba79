"""Everything that can be measured on a machine, in a given time: each section in a process of its own."""

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pclkd.benchmarks.measuring.result import BenchmarkResult
from pclkd.benchmarks.suite.material import gather_material
from pclkd.benchmarks.suite.result import joined_result
from pclkd.benchmarks.suite.run import SectionFailedError, run_section
from pclkd.benchmarks.suite.sections import SECTIONS, Material, Section
from pclkd.sharding.common.errors import InputError

__all__ = ["AllBenchmark"]

_LEAST_S = 5.0  # below that no process has even imported its libraries
_OVER = 0.1  # part of the time by which the last section may pass it
_PATIENCE, _PATIENCE_S = 2.0, 30.0  # a section is ended when it takes its share so many times, and so much longer
_MOST_CORES = 16  # peers hardly use more
_NOTES = [
    "each section is a bench-throughput command in a process of its own",
    "time is dealt out by what the quick form of each command takes on 2 cores; what one leaves goes to the next",
]
_RENDERED_NOTE = "no --data: {} rendered videos of 240x320 at 25 frames/s (MPEG-4), packed at 128x171"

OnSection = Callable[[str, BenchmarkResult | str, BenchmarkResult | None], None]
"""Called after each section with its name, its result or why there is none, and all results so far."""


@dataclass(frozen=True)
class AllBenchmark:
    """What is measured.

    Attributes:
        minutes: for everything, rendering included.
        data: a shard set, or None for a rendered one.
        videos: its originals, or None.
        splits: their lists, or None.
        only: names of sections, or none for all.
        rounds: of each section, at most; None: as many as fit, up to the most that a command makes.
    """

    minutes: float
    data: str | Path | None = None
    videos: Path | None = None
    splits: Path | None = None
    only: Sequence[str] = ()
    rounds: int | None = None

    def run(
        self, on_start: Callable[[str, float], None] = lambda *_: None, on_section: OnSection = lambda *_: None
    ) -> BenchmarkResult:
        """Measure one section after the other.

        Args:
            on_start: called before each section with its name and the seconds that it is given.
            on_section: see there.

        Raises:
            InputError: data that cannot be read, or not one section gave a result.
        """
        began, total = time.monotonic(), 60 * self.minutes
        parts: dict[str, BenchmarkResult] = {}
        missing: dict[str, str] = {}
        with tempfile.TemporaryDirectory(prefix="pclkd-all-", ignore_cleanup_errors=True) as folder:
            scratch = Path(folder)
            material = gather_material(self.data, self.videos, self.splits, scratch)
            todo = [section for section in SECTIONS if not self.only or section.name in self.only]
            if material.videos is None and all(section.needs_videos for section in todo):
                names = ", ".join(section.name for section in todo)
                raise InputError(f"--only {names} with --data alone", remedy="give the originals as --videos")
            for number, section in enumerate(todo):
                left = began + total - time.monotonic()
                share = left * section.share(material) / sum(other.share(material) for other in todo[number:])
                on_start(section.name, max(0.0, share))
                limit = min(_PATIENCE * share + _PATIENCE_S, left + _OVER * total)
                found = self._measure(section, material, share, limit, scratch)
                if isinstance(found, str):
                    missing[section.name] = found
                else:
                    parts[section.name] = found
                waiting = {other.name: "not reached" for other in todo[number + 1 :]}
                so_far = self._joined(material, parts, {**missing, **waiting}, began) if parts else None
                on_section(section.name, found, so_far)
        if not parts:
            name, reason = [*missing.items()][-1]  # those that lack the originals stand first
            raise InputError(
                f"not one section gave a result; {name}: {reason}", remedy="give more --minutes, or run it alone"
            )
        return self._joined(material, parts, missing, began)

    def _measure(
        self, section: Section, material: Material, share: float, limit: float, scratch: Path
    ) -> BenchmarkResult | str:
        """The section's result, or why there is none."""
        if section.needs_videos and material.videos is None:
            return "--videos is not given"
        if limit < _LEAST_S:
            return "no time was left; give more --minutes"
        arguments = section.arguments(material, share * min(material.cores, _MOST_CORES) / 2)
        arguments += [] if self.rounds is None else ["--rounds", str(self.rounds)]
        with tempfile.TemporaryDirectory(dir=scratch, ignore_cleanup_errors=True) as folder:
            try:
                return run_section(arguments, budget_s=share, limit_s=limit, scratch=Path(folder))
            except SectionFailedError as error:
                return str(error)

    def _joined(
        self, material: Material, parts: dict[str, BenchmarkResult], missing: dict[str, str], began: float
    ) -> BenchmarkResult:
        took = (time.monotonic() - began) / 60
        notes = _NOTES + ([_RENDERED_NOTE.format(material.rendered)] if material.rendered else [])
        if took > self.minutes:
            notes.append(f"took {took:.2f} minutes, and {self.minutes:g} were given: this machine is slow for so few")
        return joined_result(parts, missing, {"minutes": self.minutes, "minutes_taken": round(took, 2)}, notes)
