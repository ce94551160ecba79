"""The whole job on a few videos: every run, every evaluation, the report; killed and stopped on the way, it goes on."""

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from pclkd.sharding.common.errors import InputError
from pclkd.training.demo import run_demo
from pclkd.training.runs.checkpoint import CHECKPOINT_NAME

TEACHER, ALONE = "baseline-r3d-f1-s0", {name: f"control-{name}-f1-s1" for name in ("r3d", "c3d")}
TAUGHT = {name: f"student-{name}-from-r3d-recipe-f1-s1" for name in ("r3d", "c3d")}
RUNS = (TEACHER, *TAUGHT.values(), *ALONE.values())
PATIENCE_S = 3600.0  # some fifteen processes that load torch, on whatever machine


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def lists(synthetic_videos: Any, tmp_path: Path) -> Path:
    """Lists of which split 2 names test videos that are not there, as a part of UCF101 has it."""
    folder = Path(shutil.copytree(synthetic_videos.splits, tmp_path / "lists"))
    for part in ("train", "test"):
        (folder / f"{part}list02.txt").write_text((folder / f"{part}list01.txt").read_text())
    test = folder / "testlist02.txt"
    test.write_text(re.sub(r"_g\d+_", "_g90_", test.read_text()))
    return folder


@pytest.fixture
def start(synthetic_videos: Any, lists: Path, tmp_path: Path) -> Iterator[Start]:
    """Start the demo in `tmp_path/demo`; what still runs after the test is ended."""
    where = ["--out", tmp_path / "demo", "--videos", synthetic_videos.videos, "--splits", lists]
    command = [sys.executable, "-P", "-m", "pclkd.training.cli", "demo", *map(str, where), "--jobs=2"]
    started: list[subprocess.Popen[str]] = []

    def begin(*options: str) -> subprocess.Popen[str]:
        started.append(subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
            process.communicate()


def until(true: Callable[[], object], running: subprocess.Popen[str]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not true():
        assert running.poll() is None and time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def test_the_demo_goes_on_to_its_report_wherever_it_was_ended(
    start: Start, synthetic_videos: Any, lists: Path, tmp_path: Path
) -> None:
    out = tmp_path / "demo"
    first = start("--epochs=1")
    until((out / TEACHER / "metrics.jsonl").exists, first)  # has begun, nothing is saved
    children = psutil.Process(first.pid).children(recursive=True)
    first.kill()
    first.communicate()
    assert children and not psutil.wait_procs(children, timeout=PATIENCE_S)[1], "an orphan goes on"

    second = start("--epochs=1")
    until((out / TAUGHT["r3d"] / "metrics.jsonl").exists, second)
    second.send_signal(signal.SIGTERM)
    _, told = second.communicate(timeout=PATIENCE_S)
    assert second.returncode == os.EX_TEMPFAIL and "the same command goes on" in told and "Traceback" not in told
    assert not (out / "report").exists()

    last = start("--epochs=1")
    _, told = last.communicate(timeout=PATIENCE_S)
    assert last.returncode == 0, told
    for name in RUNS:
        lines = [json.loads(line) for line in (out / name / "metrics.jsonl").read_text().splitlines()]
        assert {line["epoch"] for line in lines if line["kind"] == "epoch"} == {0, 1}
        assert "val/pretext_top1_pct" in lines[-1]
    for told_of in ("R3D, teacher", "R3D, taught by R3D", "C3D, taught by R3D", "R3D, no teacher", "C3D, no teacher"):
        assert told_of in told
    for control in ("hand-made motion features", "R3D, untrained", "R3D, trained with the labels"):
        assert control in told
    for name in ("motion", "untrained-r3d", "supervised-r3d"):
        assert (out / f"control-{name}" / "eval-linear.json").is_file()
    table = (out / "report" / "study.md").read_text()
    assert table.startswith("## Where each network came to") and "| R3D, taught by R3D | 1 |" in table
    assert (out / "report" / "figure-5.png").stat().st_size > 10_000 and (out / "report" / "index.html").is_file()
    settings = {name: json.loads((out / name / "settings.json").read_text()) for name in RUNS}
    # A control differs from its student in the teacher alone, and from the teacher in the seed.
    for backbone in ("r3d", "c3d"):
        taught, alone = settings[TAUGHT[backbone]], settings[ALONE[backbone]]
        assert {name for name in taught if taught[name] != alone[name]} == {"teacher", "teachers", "terms"}
    teacher, alone = settings[TEACHER], settings[ALONE["r3d"]]
    assert {name for name in teacher if teacher[name] != alone[name]} == {"seed"}

    before = {path: path.stat().st_mtime_ns for path in (*out.glob(f"*/{CHECKPOINT_NAME}"), *out.glob("*/eval-*"))}
    assert len(before) == len(RUNS) + 3 * 3 + 1  # of the controls, one is fine-tuned
    run_demo(out, videos=synthetic_videos.videos, splits=lists, epochs=1)
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_what_a_batch_and_an_epoch_of_few_videos_change_is_told(start: Start, synthetic_videos: Any) -> None:
    videos = len((synthetic_videos.splits / "trainlist01.txt").read_text().splitlines())
    running = start()
    assert running.stderr is not None
    told = next(line for line in running.stderr if " side by side; logs: " in line)
    set_to = dict(change.split("=") for change in told[told.index("(") + 1 : told.index(")")].split(", "))
    batch, epochs, warmup = (int(set_to[name]) for name in ("loader.batch_size", "epochs", "optimizer.warmup_epochs"))
    steps = videos // batch
    assert videos == 12 and 3 * batch <= videos and epochs * steps >= 240 > (epochs - 1) * steps
    # The rate is meant for the preset's batch, and rises over as many steps as on the embedded set, or a tenth of all.
    assert set_to["optimizer.reference_batch"] == "32"
    assert warmup * steps >= 24 > (warmup - 1) * steps or warmup == epochs // 10
    # Twelve times on the way, every fourth time with features, as the preset has it.
    every = math.ceil(epochs / 12)
    assert (set_to["evaluation.every"], set_to["evaluation.features_every"]) == (str(every), str(4 * every))


def test_a_split_without_one_of_its_parts_is_refused_before_and_after_packing(
    synthetic_videos: Any, lists: Path, tmp_path: Path
) -> None:
    out = tmp_path / "demo"
    for _ in range(2):
        with pytest.raises(InputError, match=r"split 2 has 12 training and 0 test videos .* --split 1 ") as refused:
            run_demo(out, videos=synthetic_videos.videos, splits=lists, split=2)
        assert str(out / "shards") in str(refused.value)
    assert (out / "shards" / "manifest.json").exists() and not (out / "logs").exists()
    with pytest.raises(InputError, match=r"no split 4 in .*use one of the splits 1 \(12 train, 4 test\)"):
        run_demo(out, split=4)


def test_videos_without_lists_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--videos .* --splits .*UCF101=.*SPLITS="):
        run_demo(tmp_path / "demo", videos=tmp_path)
    assert not (tmp_path / "demo").exists()
