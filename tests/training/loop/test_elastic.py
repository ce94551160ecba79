"""A rank that is killed comes back and training goes on from the last save; one told to stop stops them all."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

from pclkd.training.runs.checkpoint import load_checkpoint

TINY = [
    "--preset=demo", "--set=backbone.width=0.125", "--set=loader.crop=32", "--set=loader.batch_size=2",
    "--set=pcl.negatives=8", "--set=log_every=1", "--set=evaluation.every=0", "--set=checkpoint.every_steps=1",
]  # fmt: skip


def steps(run: Path) -> list[dict[str, float]]:
    lines = (run / "metrics.jsonl").read_text().splitlines() if (run / "metrics.jsonl").exists() else []
    return [record for record in map(json.loads, lines) if record["kind"] == "step"]


def ranks_of(launcher: psutil.Process) -> dict[str, psutil.Process]:
    found = {}
    for child in launcher.children(recursive=True):
        with suppress(psutil.Error):  # it ended while it was looked at
            environment = child.environ()
            if "RANK" in environment and "pretrain" in child.cmdline():
                found[environment["RANK"]] = child
    return found


def test_a_killed_rank_comes_back_and_training_goes_on(synthetic_shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=4"),
        *("-m", "pclkd.training.cli", "pretrain", "--data", str(synthetic_shards), "--out", str(out)),
        *("--epochs=16", "--max-steps=24", "--resume", *TINY),
    ]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    launcher = psutil.Process(process.pid)
    deadline = time.monotonic() + 120
    while len(steps(out)) < 4 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    victim = ranks_of(launcher)["1"]
    victim.send_signal(signal.SIGKILL)
    _, told = process.communicate(timeout=400)
    assert process.returncode == 0, told[-3000:]
    assert load_checkpoint(out).step == 24
    # Steps after the last save were done again: the same ones, with the same losses.
    by_step: dict[int, list[float]] = {}
    for record in steps(out):
        by_step.setdefault(int(record["step"]), []).append(record["loss"])
    assert set(by_step) == set(range(1, 25))
    assert all(max(values) - min(values) < 1e-4 * abs(values[0]) for values in by_step.values())


def test_a_signal_to_one_rank_stops_all_of_them_after_the_same_step(synthetic_shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"),
        *("-m", "pclkd.training.cli", "pretrain", "--data", str(synthetic_shards), "--out", str(out)),
        *("--epochs=4000", *TINY, "--set=checkpoint.every_steps=0", "--set=checkpoint.keep=0"),
    ]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    deadline = time.monotonic() + 120
    while len(steps(out)) < 4 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    ranks_of(psutil.Process(process.pid))["1"].send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=120)
    assert "exitcode  : 75" in told, told[-3000:]
    # The first rank, which had no signal of its own, saved after the step that all had done, and had read its figures.
    checkpoint, last = load_checkpoint(out), steps(out)[-1]
    assert checkpoint.step == last["step"]
    assert f"stopped by a signal after step {checkpoint.step}" in told
    if checkpoint.epoch_step:
        assert checkpoint.epoch_sums["loss"][1] == 2 * checkpoint.epoch_step  # of both
