"""What a check is, what it is given, and how all of them are carried out."""

import functools
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Literal

import torch

from pclkd.sharding.common.errors import InputError
from pclkd.sharding.common.files import check_place
from pclkd.sharding.packing.pack import pack_videos, plan_packing
from pclkd.sharding.synth.dataset import LISTS_FOLDER, VIDEOS_FOLDER, SynthSettings, render_dataset
from pclkd.training.compute.distributed import choose_device

__all__ = ["Check", "Finding", "Machine", "Outcome", "Verdict", "examined", "judged", "set_up"]

Verdict = Literal["ok", "warn", "FAIL"]


@dataclass(frozen=True)
class Outcome:
    """What a check has found.

    Attributes:
        verdict: warn: it works, and worse than it could; FAIL: a run would stop, or be wrong.
        figure: what was measured, with its unit.
        remedy: what helps; empty where all is well.
    """

    verdict: Verdict
    figure: str
    remedy: str = ""


def judged(figure: str, *, remedy: str, fails: bool = False, warns: bool = False) -> Outcome:
    """An outcome by two conditions; the first that holds decides."""
    verdict: Verdict = "FAIL" if fails else "warn" if warns else "ok"
    return Outcome(verdict, figure, "" if verdict == "ok" else remedy)


@dataclass(frozen=True)
class Finding(Outcome):
    """An outcome with the check's name, and the seconds that it took."""

    name: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Machine:
    """What is examined.

    Attributes:
        folder: whose file system is tried.
        scratch: a folder in it, empty at the start and gone afterwards.
        device: the first GPU, or the CPU.
        precision: as the setting of a run.
        began: (monotonic, wall) clock when the examination began, in seconds.
    """

    folder: Path
    scratch: Path
    device: torch.device
    precision: str
    began: tuple[float, float]

    @functools.cached_property
    def shards(self) -> Path:
        """A shard set of six rendered videos, with frames of 64x86."""
        settings = SynthSettings(classes=2, groups=3, clips=1, frames=48, height=64, width=86)
        render_dataset(self.scratch / "videos", settings, workers=1)
        lists = self.scratch / "videos" / LISTS_FOLDER
        plan = plan_packing(self.scratch / "videos" / VIDEOS_FOLDER, lists, height=64, width=86)
        pack_videos(plan, self.scratch / "shards", workers=1)
        return self.scratch / "shards"


Check = Callable[[Machine], Outcome]


@contextmanager
def set_up(folder: Path, precision: str = "auto") -> Iterator[Machine]:
    """A machine to examine; whatever was made in the folder, and the folder itself, is gone afterwards.

    Raises:
        InputError: a file stands at its place.
    """
    check_place(folder)
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".doctor-", dir=folder, ignore_cleanup_errors=True) as scratch:
            began = time.monotonic(), time.time()
            yield Machine(folder, Path(scratch), choose_device(), precision, began)
    finally:
        for made in missing[:1]:
            shutil.rmtree(made, ignore_errors=True)
        for made in missing[1:]:
            if made.is_dir() and not any(made.iterdir()):
                made.rmdir()


def examined(machine: Machine, checks: Mapping[str, Check]) -> Iterator[Finding]:
    """The finding of each check, as it comes; one that breaks down has failed."""
    for name, check in checks.items():
        began, chatter = time.monotonic(), StringIO()
        try:
            with redirect_stderr(chatter):
                found = check(machine)
        except InputError as error:
            found = Outcome("FAIL", error.problem, error.remedy)
        except Exception as error:
            print(chatter.getvalue(), traceback.format_exc(), sep="", file=sys.stderr)
            remedy = "the traceback above tells where; please report it"
            found = Outcome("FAIL", f"{type(error).__name__}: {error}".partition("\n")[0], remedy)
        yield Finding(found.verdict, found.figure, found.remedy, name, round(time.monotonic() - began, 2))
