"""All sections in turn, each in a process of its own, within a number of minutes."""

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pclkd.benchmarks.gpu.rows import ROWS_NAME, Row, add_row, read_rows
from pclkd.benchmarks.gpu.sections import SECTIONS, Section
from pclkd.benchmarks.gpu.summary import show_rows
from pclkd.benchmarks.suite.run import SectionFailedError, run_command
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.common.files import write_text

__all__ = ["SUMMARY_NAME", "GpuBenchmark"]

SUMMARY_NAME, _LOG_NAME = "summary.txt", "log.txt"
_DRY_S = 3600.0  # nobody waits so long; no row may be left out for want of time
_PATIENCE, _PATIENCE_S = 1.5, 15.0  # a section is ended when it takes its share so many times, and so much longer
_LEAST_S = 8.0  # less, and a process has not even imported its libraries


@dataclass(frozen=True)
class GpuBenchmark:
    """What is found out.

    Attributes:
        minutes: for everything.
        out: folder, which is made, for the rows, their summary, pictures, profile and log.
        data: a shard set to read instead of rendered videos, or None.
        only: names of sections, or none for all.
        dry: whether all sizes are tiny and time does not matter.
    """

    minutes: float
    out: Path
    data: str | Path | None = None
    only: Sequence[str] = ()
    dry: bool = False

    def run(self, on_section: Callable[[str, list[Row]], None] = lambda *_: None) -> dict[str, Row]:
        """Find it out; the rows, by their path.

        Args:
            on_section: called after each section with its name and its rows.

        Raises:
            InputError: the folder holds rows already.
        """
        self.out.mkdir(parents=True, exist_ok=True)
        file = self.out / ROWS_NAME
        if file.exists():
            raise InputError(f"{self.out} holds the rows of another run", remedy="name another folder with --out")
        end = time.monotonic() + (_DRY_S if self.dry else 60 * self.minutes)
        todo = [section for section in SECTIONS if self._wanted(section)]
        with tempfile.TemporaryDirectory(prefix="pclkd-gpu-", ignore_cleanup_errors=True) as folder:
            for number, section in enumerate(todo):
                now = time.monotonic()
                share = (end - now) * section.weight / sum(other.weight for other in todo[number:])
                limit = min(now + _PATIENCE * share + _PATIENCE_S, end)
                self._carry_out(section, now + share, limit, Path(folder))
                rows = read_rows(file)
                write_text(self.out / SUMMARY_NAME, show_rows(rows, dry=self.dry) + "\n")
                on_section(section.name, [row for row in rows.values() if row.section == section.name])
        return read_rows(file)

    def _wanted(self, section: Section) -> bool:
        needed = section.name == "data" and any(other.needs_data for other in SECTIONS if other.name in self.only)
        return not self.only or section.name in self.only or needed

    def _carry_out(self, section: Section, until: float, limit: float, scratch: Path) -> None:
        """Take its rows; where a row ends its process, that row has failed, and another process takes the rest."""
        file = self.out / ROWS_NAME
        arguments = ["gpu-section", section.name, "--out", str(self.out), "--scratch", str(scratch)]
        arguments += ["--until", repr(until), *(["--dry-run"] if self.dry else [])]
        arguments += [] if self.data is None else ["--data", str(self.data)]
        while (left := limit - time.monotonic()) > _LEAST_S:
            try:
                run_command(arguments, limit_s=left, scratch=scratch, words=self.out / _LOG_NAME)
            except SectionFailedError as error:
                rows = [row for row in read_rows(file).values() if row.section == section.name]
                begun = [row for row in rows if row.state == "begun"]
                for row in begun or [Row(section=section.name, name="all", state="begun")]:
                    add_row(file, row.model_copy(update={"state": "failed", "error": str(error)}))
                if begun:
                    continue
            return
        if not any(row.section == section.name for row in read_rows(file).values()):
            add_row(file, Row(section=section.name, name="all", state="left out", error="no time was left"))
