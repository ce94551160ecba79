import os
import pty
import re
import subprocess
import sys
import threading

import pytest

from pclkd.sharding.common import console as progress


@pytest.fixture
def every_line(monkeypatch) -> None:
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0.0)


def test_lines_tell_what_failed(every_line, capsys) -> None:
    with progress.show_progress("packing", 4, "videos") as step:
        step("a")
        step("b", True)
        step("c", False)
        step("d", True)
    lines = capsys.readouterr().err.splitlines()
    assert [re.sub(r"[\d.]+ videos/s, .* left", "_", line) for line in lines] == [
        "packing: 1/4 videos, _",
        "packing: 2/4 videos, _, 1 quarantined",
        "packing: 3/4 videos, _, 1 quarantined",
        "packing: 4/4 videos, _, 2 quarantined",
    ]


def test_speed_is_that_of_the_last_half_minute(every_line, monkeypatch, capsys) -> None:
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with progress.show_progress("packing", 3000, "videos") as step:
        for _ in range(1000):  # found finished, at once
            step("kept")
        for _ in range(100):
            now[0] += 0.5
            step("made")
    assert capsys.readouterr().err.splitlines()[-1] == "packing: 1100/3000 videos, 2.0 videos/s, 16 min left"


def test_lines_become_rare_in_a_long_run(monkeypatch, capsys) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with progress.show_progress("packing", 36_000, "videos") as step:
        for _ in range(36_000):
            now[0] += 1
            step("x")
    lines = capsys.readouterr().err.splitlines()
    assert 600 <= len(lines) <= 700
    assert lines[0].startswith("packing: 5/36000 videos, 1.0 videos/s, 10 h 00 min left")


@pytest.mark.parametrize(
    ("seconds", "told"), [(0, "0 s"), (99.4, "99 s"), (150, "2 min"), (3600, "60 min"), (7260, "2 h 01 min")]
)
def test_durations(seconds: float, told: str) -> None:
    assert progress.duration(seconds) == told


def test_steps_come_from_any_thread(every_line, capsys) -> None:
    with progress.show_progress("verifying", 400, "shards") as step:
        threads = [threading.Thread(target=lambda: [step("x", True) for _ in range(100)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("verifying: 400/400 shards")
    assert last.endswith("400 quarantined")


def test_a_terminal_gets_a_bar() -> None:
    code = (
        "from pclkd.sharding.common.console import show_progress\n"
        "with show_progress('packing', 3, 'videos') as step:\n"
        "    step('Class/one.avi'); step('Class/[bold]two.avi', True); step('x' * 60)\n"
    )
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": "120", "TERM": "xterm"}
    with subprocess.Popen([sys.executable, "-c", code], stderr=theirs, env=environment) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                piece = os.read(ours, 4096)
            except OSError:  # the other side is closed
                break
            if not piece:
                break
            shown += piece
    os.close(ours)
    assert process.returncode == 0
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())
    last = re.split(r"[\r\n]+", text.strip())[-1]
    assert "3/3" in last
    assert "videos/s" in last
    assert "1 quarantined" in last
    assert "..." + "x" * 29 in last
