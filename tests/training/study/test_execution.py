"""Real processes: order, sharing, failures, and what happens to all of them when the one that started them ends."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from pclkd.sharding.common.processes import available_cpus
from pclkd.training.study.execution import Job, run_jobs

PATIENCE_S = 300.0


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


def until(true: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def test_jobs_wait_for_what_they_need_and_run_side_by_side(tmp_path: Path) -> None:
    # The first two can only end when both of them run.
    meet = (
        "import pathlib, time; pathlib.Path({mine!r}).touch()\n"
        "while not pathlib.Path({other!r}).exists(): time.sleep(0.01)"
    )
    a, b, c = (str(tmp_path / name) for name in "abc")
    jobs = [
        Job("a", python(meet.format(mine=a, other=b))),
        Job("b", python(meet.format(mine=b, other=a))),
        Job("c", python(f"import pathlib; assert pathlib.Path({a!r}).exists(); pathlib.Path({c!r}).touch()"), ("a",)),
        Job("d", python(f"import pathlib; assert pathlib.Path({c!r}).exists()"), ("b", "c")),
        Job("there", python("raise SystemExit('was done')"), done=lambda: True),
    ]
    assert run_jobs(jobs, 2, tmp_path / "logs") == dict.fromkeys(("a", "b", "c", "d", "there"), "done")
    with pytest.raises(ValueError, match="c is listed twice, or before what it needs: a"):
        run_jobs(jobs[2:], 2, tmp_path / "logs")


def test_at_once_bounds_the_processes_and_shares_out_the_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    code = (
        f"import json, os, time; began = time.monotonic(); time.sleep(0.2); folder = {str(tmp_path)!r}\n"
        "told = [began, time.monotonic(), os.environ.get('OMP_NUM_THREADS'), os.environ.get('OMP_WAIT_POLICY')]\n"
        "json.dump(told, open(f'{folder}/{os.getpid()}.json', 'w'))"
    )
    for at_once in (1, 2):
        run_jobs([Job(str(number), python(code)) for number in range(4)], at_once, tmp_path / "logs")
        told = [json.loads(file.read_text()) for file in tmp_path.glob("*.json")]
        for file in tmp_path.glob("*.json"):
            file.unlink()
        assert len(told) == 4
        together = [sum(begin <= moment < end for begin, end, *_ in told) for moment, *_ in told]
        assert max(together) <= at_once
        share = [None, None] if at_once == 1 else [str(max(1, available_cpus() // 2)), "passive"]
        assert all(row[2:] == share for row in told)


def test_a_failed_job_is_told_and_the_rest_goes_on(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    jobs = [
        Job("bad", python("print('warning: it smells'); raise SystemExit('error: it broke')")),
        Job("good", python("print('fine')")),
        Job("student", python("pass"), ("good", "bad")),
        Job("grandchild", python("pass"), ("student",)),
        Job("killed", python("import os; print('last words', end='', flush=True); os.kill(os.getpid(), 9)")),
        Job("preempted", python("raise SystemExit(75)")),
    ]
    assert run_jobs(jobs, 1, tmp_path) == {
        "bad": "failed",
        "good": "done",
        "student": "skipped",
        "grandchild": "skipped",
        "killed": "failed",
        "preempted": "stopped",
    }
    told = capfd.readouterr().err
    assert "bad: warning: it smells\n" in told
    assert f"bad: failed with exit code 1; the end of {tmp_path}/bad.log:\n" in told
    assert "    error: it broke\n" in told and "    last words\n" in told
    assert "student: skipped, since it needs bad failed\n" in told
    assert "grandchild: skipped, since it needs student skipped\n" in told
    assert "killed: failed with signal SIGKILL" in told and "fine" not in told
    assert (tmp_path / "good.log").read_text() == "fine\n"


def test_a_job_that_another_process_has_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pclkd.training.study.execution._CLAIM_S", 0.05)
    asked: list[str] = []
    freed: list[str] = []

    def claim_later() -> Callable[[], None] | None:
        asked.append("theirs")
        return None

    def claim_at_last() -> Callable[[], None] | None:
        asked.append("abandoned")
        return (lambda: freed.append("abandoned")) if asked.count("abandoned") > 2 else None

    ran = tmp_path / "ran"
    jobs = [
        Job("theirs", python("raise SystemExit(1)"), claim=claim_later, done=lambda: asked.count("theirs") > 3),
        Job("abandoned", python(f"open({str(ran)!r}, 'x')"), claim=claim_at_last),
        Job("after", python(f"open({str(ran)!r})"), ("theirs", "abandoned")),
    ]
    assert set(run_jobs(jobs, 2, tmp_path / "logs").values()) == {"done"}
    assert asked.count("theirs") == 4 and freed == ["abandoned"]


# A job that saves when asked, or refuses to.
STUBBORN = "import signal, time, pathlib; signal.signal(signal.SIGTERM, signal.SIG_IGN); {ready}; time.sleep(600)"
SAVING = (
    "import signal, time, pathlib\n"
    "def save(*_): pathlib.Path({saved!r}).touch(); raise SystemExit(75)\n"
    "signal.signal(signal.SIGTERM, save)\n"
    "{ready}\n"
    "time.sleep(600)"
)
PARENT = """\
import sys
from pathlib import Path
from pclkd.training.study.execution import Job, StoppedError, run_jobs
folder = Path(sys.argv[1])
jobs = [Job(str(i), (sys.executable, "-c", code)) for i, code in enumerate(sys.argv[2:])]
try:
    run_jobs(jobs, 2, folder / "logs")
except StoppedError as stopped:
    print(stopped)
    sys.exit(stopped.exit_code)
"""


def started(folder: Path, codes: list[str]) -> tuple[subprocess.Popen[str], list[psutil.Process]]:
    """The parent, and its two children once both are ready."""
    ready = [f"pathlib.Path({str(folder / f'ready-{i}')!r}).touch()" for i in range(len(codes))]
    saved = str(folder / "saved")
    filled = [code.format(ready=told, saved=saved) for code, told in zip(codes, ready, strict=True)]
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(folder), *filled], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    until(lambda: len(list(folder.glob("ready-*"))) == 2)
    children = psutil.Process(parent.pid).children(recursive=True)
    assert len(children) == 2
    return parent, children


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_the_jobs_save(number: int, tmp_path: Path) -> None:
    parent, children = started(tmp_path, [SAVING, SAVING, SAVING])
    parent.send_signal(number)
    told, errors = parent.communicate(timeout=PATIENCE_S)
    assert parent.returncode == os.EX_TEMPFAIL and "the same command goes on" in told
    assert "stopping; 0, 1 may save before" in errors
    assert (tmp_path / "saved").exists() and not (tmp_path / "ready-2").exists()
    assert not any(child.is_running() for child in children)


def test_a_second_signal_waits_for_nobody(tmp_path: Path) -> None:
    parent, children = started(tmp_path, [STUBBORN, STUBBORN])
    assert parent.stderr is not None
    parent.send_signal(signal.SIGINT)
    assert "stopping" in parent.stderr.readline()
    assert all(child.is_running() for child in children)
    parent.send_signal(signal.SIGINT)
    parent.communicate(timeout=PATIENCE_S)
    assert parent.returncode == os.EX_TEMPFAIL and not any(child.is_running() for child in children)


def test_jobs_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    parent, children = started(tmp_path, [STUBBORN, STUBBORN])
    parent.kill()
    parent.communicate(timeout=PATIENCE_S)
    _, alive = psutil.wait_procs(children, timeout=PATIENCE_S)
    assert not alive
