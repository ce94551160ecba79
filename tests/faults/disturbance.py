"""Commands disturbed at random moments, over and over, and compared with an undisturbed run in the end.

What a kind of command is stands in a `Victim`. A round disturbs some runs of it in the same folder, lets a last one
finish, and compares. All choices come from one seed.
"""

import json
import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zygote import Job, Zygote

KILLS = int(os.environ.get("PCLKD_KILLS", "20"))
SEED = int(os.environ.get("PCLKD_FAULT_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)

# What is done to a command, and how often beside the others: at a random moment, or before a random one of the changes
# that it makes to its files.
WAYS = {"kill": 6, "kill at a change": 6, "terminate": 1, "interrupt": 1, "suspend": 1}
SIGNALS = {"kill": signal.SIGKILL, "terminate": signal.SIGTERM, "interrupt": signal.SIGINT}
# How a command may end that was not let go on; one that was through already has 0.
CODES = {
    "kill": {-signal.SIGKILL},
    "kill at a change": {-signal.SIGKILL},
    "terminate": {-signal.SIGTERM, os.EX_TEMPFAIL},
    "interrupt": {-signal.SIGINT, 1, 130},
    "suspend": set(),
}


@dataclass(frozen=True)
class Victim:
    """A command, and what is known of it.

    Attributes:
        name: of the case; with the seed it decides everything.
        program: as `Zygote.start` takes it.
        command: arguments for an output folder; the same ones go on where a disturbed run was stopped.
        outcome: what a folder holds in the end, to be compared.
        sound: looks at a folder at any moment, with the outcome of an undisturbed run: whatever has a final name must
            be whole.
        prepare: makes the folder before the first run of a round; by default there is none.
        ranks: processes of the job.
        spare: whether its children may be killed without the command failing.
    """

    name: str
    program: str
    command: Callable[[Path], Sequence[object]]
    outcome: Callable[[Path], Any]
    sound: Callable[[Path, Any], None]
    prepare: Callable[[Path], object] = lambda folder: None
    ranks: int = 1
    spare: bool = False


def difference(found: Any, expected: Any, at: str = "") -> str:
    """Where two outcomes differ first, "" where they do not; pytest would compare their every number in words."""
    if isinstance(found, dict) and isinstance(expected, dict):
        if lacking := found.keys() ^ expected.keys():
            return f"{at}: one alone has {sorted(map(str, lacking))}"
        return next((told for key in found if (told := difference(found[key], expected[key], f"{at}/{key}"))), "")
    if isinstance(found, list | tuple) and isinstance(expected, list | tuple) and len(found) == len(expected):
        pairs = enumerate(zip(found, expected, strict=True))
        return next((told for number, pair in pairs if (told := difference(*pair, f"{at}/{number}"))), "")
    return "" if found == expected else f"{at} differs"


@dataclass
class Tally:
    """What was done: how often in each way, and how the commands ended."""

    ways: Counter[str] = field(default_factory=Counter)
    codes: Counter[int] = field(default_factory=Counter)

    @property
    def kills(self) -> int:
        return sum(count for way, count in self.ways.items() if way.startswith("kill"))


class Disturber:
    """Disturbs one kind of command.

    Args:
        zygote: starts it.
        victim: the command.
        folder: for outputs.
    """

    def __init__(self, zygote: Zygote, victim: Victim, folder: Path) -> None:
        self._zygote, self._victim = zygote, victim
        self._out, self._diaries = folder / "out", folder / "diaries"
        self._clear()
        self._rng = random.Random(f"{SEED}/{victim.name}")
        self.tally = Tally()
        whole = self._start(at=0)
        self._takes_s = self._whole_run(whole)
        self._expected, self._samples = victim.outcome(self._out), self._taken()
        self._changes = whole.processes[0].counted()["changes"]
        self._clear()

    def disturb(self, kills: int) -> None:
        """Go on until so many processes were killed, and the last round has ended well."""
        while self.tally.kills < kills:
            for _ in range(self._rng.randint(2, 6)):
                self._disturbed_run()
                if self._out.exists():
                    self._victim.sound(self._out, self._expected)
            last = self._start()
            self._takes_s = self._whole_run(last)
            differs = difference(self._victim.outcome(self._out), self._expected)
            assert not differs, f"{differs} {last.said()}"
            assert not difference(self._taken(), self._samples)
            assert list(self._out.rglob("*.part")) == [] and self._zygote.left_behind() == []
            print(self._victim.name, self.tally, flush=True)
            if self._rng.random() < 0.9:  # else the next runs find it finished
                self._clear()

    def _whole_run(self, job: Job) -> float:
        """Let it end; how many seconds that took."""
        began = time.monotonic()
        assert job.end() == [0] * self._victim.ranks, job.said()
        return time.monotonic() - began

    def _clear(self) -> None:
        for folder in (self._out, self._diaries):
            shutil.rmtree(folder, ignore_errors=True)
        self._diaries.mkdir(parents=True)
        self._victim.prepare(self._out)

    def _start(self, at: int | None = None) -> Job:
        return Job(
            self._zygote,
            self._victim.program,
            self._victim.command(self._out),
            self._victim.ranks,
            diaries=self._diaries,
            on_change=None if at is None else {"below": str(self._out), "at": at, "do": ["kill"]},
        )

    def _disturbed_run(self) -> None:
        victim, rng = self._victim, self._rng
        way = rng.choices(list(WAYS), list(WAYS.values()))[0]
        moment, rank, pause = rng.random() * self._takes_s, rng.randrange(victim.ranks), rng.uniform(0, 1)
        alone, pick = rng.random() < 0.4, rng.random()
        at = rng.randint(1, rng.randint(1, self._changes))  # a run that goes on has fewer left
        job = self._start(at if way == "kill at a change" else None)
        hit = job.processes[0 if way == "kill at a change" else rank]
        targets = [hit] if alone else job.processes
        harmless = way == "suspend"
        if way != "kill at a change":
            hit.over.wait(moment)
        if way == "suspend":
            for number in (signal.SIGSTOP, signal.SIGCONT):
                for target in targets:
                    target.send_all(number)
                time.sleep(pause if number == signal.SIGSTOP else 0)
        elif way == "kill" and alone and victim.spare:
            harmless = hit.kill_child(pick)
        elif way in SIGNALS:
            for target in targets:
                target.send(SIGNALS[way])
        codes = job.end()
        code = codes[job.processes.index(hit)]
        allowed = CODES[way]
        if victim.ranks > 1 and "kill" not in way:  # another one may be gone first, and the launcher then ends this one
            allowed = allowed | {1, -signal.SIGTERM, os.EX_TEMPFAIL}
        assert code == 0 or (not harmless and code in allowed), (way, codes, job.said())
        self.tally.codes.update(codes)
        if code or harmless:
            self.tally.ways[way] += 1

    def _taken(self) -> dict[str, list[int]]:
        """The samples of each step of each rank; a step that was done again took the same ones."""
        found: dict[str, list[int]] = {}
        for diary in self._diaries.iterdir():
            for line in diary.read_text().splitlines():
                with suppress(ValueError):  # half a line of a killed process
                    step, samples = json.loads(line)
                    key = f"{diary.suffix} {step}"
                    assert found.setdefault(key, samples) == samples, f"step {step} took others before"
        return found
