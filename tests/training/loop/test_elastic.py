"""A rank that is killed comes back and training goes on from the last save; one told to stop stops them all."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from pclkd.training.runs.checkpoint import load_checkpoint

Until = Callable[..., None]
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


# The processes of the first start stay for ever before their fifth step; those of a restart go on.
HOLD = """
import os, time
from pclkd.training.compute.step import TrainStep

take, taken = TrainStep.__call__, []

def hold(step, *batches):
    if len(taken) == 4 and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        time.sleep(10_000)
    taken.append(1)
    return take(step, *batches)

TrainStep.__call__ = hold
"""


def test_a_killed_rank_comes_back_and_training_goes_on(synthetic_shards: Path, until: Until, tmp_path: Path) -> None:
    out, holding = tmp_path / "run", tmp_path / "holding.py"
    holding.write_text(HOLD)
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=4"),
        *("-m", "pclkd.training.cli", "--import", str(holding), "pretrain", "--data", str(synthetic_shards)),
        *("--out", str(out), "--epochs=16", "--max-steps=12", "--resume", *TINY),
    ]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    launcher = psutil.Process(process.pid)
    until(lambda: len(steps(out)) == 4, process)
    victim = ranks_of(launcher)["1"]
    victim.send_signal(signal.SIGKILL)
    _, told = process.communicate()
    assert process.returncode == 0, told[-3000:]
    assert load_checkpoint(out).step == 12
    # Steps after the last save were done again: the same ones, with the same losses.
    by_step: dict[int, list[float]] = {}
    for record in steps(out):
        by_step.setdefault(int(record["step"]), []).append(record["loss"])
    assert set(by_step) == set(range(1, 13))
    assert all(max(values) - min(values) < 1e-4 * abs(values[0]) for values in by_step.values())


def test_a_signal_to_one_rank_stops_all_of_them_after_the_same_step(
    synthetic_shards: Path, until: Until, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"),
        *("-m", "pclkd.training.cli", "pretrain", "--data", str(synthetic_shards), "--out", str(out)),
        *("--epochs=4000", *TINY, "--set=checkpoint.every_steps=0", "--set=checkpoint.keep=0"),
    ]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    until(lambda: len(steps(out)) >= 4, process)
    ranks_of(psutil.Process(process.pid))["1"].send_signal(signal.SIGTERM)
    _, told = process.communicate()
    assert "exitcode  : 75" in told, told[-3000:]
    # The first rank, which had no signal of its own, saved after the step that all had done, and had read its figures.
    checkpoint, last = load_checkpoint(out), steps(out)[-1]
    assert checkpoint.step == last["step"]
    assert f"stopped by a signal after step {checkpoint.step}" in told
    if checkpoint.epoch_step:
        assert checkpoint.epoch_sums["loss"][1] == 2 * checkpoint.epoch_step  # of both
