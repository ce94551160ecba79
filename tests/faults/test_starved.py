"""Machines that lack something: disks that are full or read-only, descriptors, memory, a clock that can be trusted."""

import errno
import os
import random
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from disturbance import KILLS, SEED, Victim, difference
from victims import evaluating, packing, reporting, training
from zygote import Zygote

CASES = max(1, KILLS // 40)  # of each kind
KINDS = ("pack", "pretrain", "evaluate", "report")[: 4 if KILLS >= 100 else 2]
ROOM = "size=64m"
SAID = 8192  # bytes: of the output of a command, at most


class Known(NamedTuple):
    """A command, what an undisturbed run of it leaves, the KiB that it adds, and the bytes of its largest file."""

    victim: Victim
    outcome: Any
    added: int
    largest: int


@pytest.fixture(scope="module", params=KINDS)
def known(
    request: pytest.FixtureRequest,
    synthetic_videos,
    shards: Path,
    run: Path,
    zygote: Zygote,
    tmp_path_factory: pytest.TempPathFactory,
) -> Known:
    victim = {
        "pack": packing(synthetic_videos.videos, synthetic_videos.splits),
        "pretrain": training(shards),
        "evaluate": evaluating(shards, run),
        "report": reporting(run),
    }[request.param]
    out = tmp_path_factory.mktemp("whole") / "out"
    victim.prepare(out)
    before, there = kib(out), set(out.rglob("*"))
    started = zygote.start(victim.program, victim.command(out))
    assert started.wait() == 0, started.said()
    made = [path.stat().st_size for path in set(out.rglob("*")) - there]
    return Known(victim, victim.outcome(out), kib(out) - before, max(made))


def kib(folder: Path) -> int:
    """As a file system of 4 KiB blocks counts them; links of one file once."""
    sizes = {path.stat().st_ino: path.stat().st_size for path in folder.rglob("*")}
    return sum(4 * -(-size // 4096) for size in sizes.values()) if folder.exists() else 0


def refused(zygote: Zygote, victim: Victim, out: Path, number: int, **how: Any) -> bool:
    """Run the command; whether it failed, which it may for this one reason, in one line."""
    started = zygote.start(victim.program, victim.command(out), **how)
    code, said = started.wait(), started.said()
    assert code in (0, 2), said
    assert code == 0 or (f"error: {os.strerror(number)}" in said and "Traceback" not in said), said
    assert zygote.left_behind() == []
    return code == 2


def goes_on(zygote: Zygote, victim: Victim, out: Path, seen: Path, expected: Any) -> None:
    started = zygote.start(victim.program, victim.command(out))
    assert started.wait() == 0, started.said()
    assert not difference(victim.outcome(seen), expected)
    assert list(seen.rglob("*.part")) == [] and zygote.left_behind() == []


@pytest.mark.parametrize("how", ["a small disk", "a limit on files"])
def test_a_disk_that_fills_up(how: str, known: Known, zygote: Zygote, tmp_path: Path) -> None:
    if how == "a small disk" and not zygote.private:
        pytest.skip("this machine allows no mounts")
    victim, expected, needed, largest = known
    if how == "a limit on files" and largest < SAID:
        pytest.skip("what it says takes more than what it writes")
    rng = random.Random(f"{SEED}/{how}/{victim.name}")
    failed = 0
    for number in range(CASES):
        disk = tmp_path / str(number)
        disk.mkdir()
        seen = zygote.mount(disk, ROOM) if how == "a small disk" else disk
        victim.prepare(seen / "out")
        room = kib(seen) + round(rng.uniform(0.02, 0.9) * needed)
        if how == "a small disk":
            zygote.mount(disk, f"remount,size={room}k")
            failed += refused(zygote, victim, disk / "out", errno.ENOSPC)
            zygote.mount(disk, f"remount,{ROOM}")
        else:
            limits = {"FSIZE": rng.randint(SAID, largest - 1)}
            failed += refused(zygote, victim, disk / "out", errno.EFBIG, limits=limits)
        if (seen / "out").exists():
            victim.sound(seen / "out", expected)
        goes_on(zygote, victim, disk / "out", seen / "out", expected)
    assert failed  # a disk with a tenth too little


def test_a_disk_that_is_read_only(known: Known, zygote: Zygote, tmp_path: Path) -> None:
    if not zygote.private:
        pytest.skip("this machine allows no mounts")
    victim, expected, _, _ = known
    disk = tmp_path / "disk"
    disk.mkdir()
    seen = zygote.mount(disk, ROOM)
    victim.prepare(seen / "out")
    before = {path: path.stat().st_mtime_ns for path in seen.rglob("*")}
    zygote.mount(disk, "remount,ro")
    assert refused(zygote, victim, disk / "out", errno.EROFS)
    assert {path: path.stat().st_mtime_ns for path in seen.rglob("*")} == before
    zygote.mount(disk, "remount,rw")
    goes_on(zygote, victim, disk / "out", seen / "out", expected)


def test_a_clock_that_jumps(known: Known, zygote: Zygote, tmp_path: Path) -> None:
    victim, expected, _, _ = known
    rng = random.Random(f"{SEED}/clock/{victim.name}")
    for number in range(CASES):
        out = tmp_path / str(number)
        victim.prepare(out)
        seconds = rng.choice([-1, 1]) * rng.choice([90, 86_400, 40 * 365 * 86_400])
        started = zygote.start(
            *(victim.program, victim.command(out)),
            on_change={"below": str(out), "at": rng.randint(1, 12), "do": ["jump", seconds]},
        )
        assert started.wait() == 0, started.said()
        assert not difference(victim.outcome(out), expected)


def test_little_memory(known: Known, zygote: Zygote, tmp_path: Path) -> None:
    victim, expected, _, _ = known
    rng = random.Random(f"{SEED}/memory/{victim.name}")
    for number in range(CASES):
        out = tmp_path / str(number)
        victim.prepare(out)
        started = zygote.start(victim.program, victim.command(out), limits={"DATA": rng.randint(1, 100) << 20})
        code = started.wait()  # however it ends, it does
        print(f"{victim.name}: exit code {code} with little memory")
        if out.exists():
            victim.sound(out, expected)
        goes_on(zygote, victim, out, out, expected)


def test_shared_memory_of_1_mb(zygote: Zygote) -> None:
    if not zygote.private:
        pytest.skip("this machine allows no mounts")
    asked = zygote.start("code", ["import os; told = os.statvfs('/dev/shm'); print(told.f_blocks * told.f_frsize)"])
    assert asked.wait() == 0 and asked.said().split() == [str(1 << 20)]  # all commands of this suite have no more
