"""What the trainer tells of its loader, and how a run goes on with another number of processes."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from click.testing import CliRunner

from pclkd.pipeline import clip_loader
from pclkd.pipeline.clips.sampling import TupleSettings
from pclkd.pipeline.randomness import permutation
from pclkd.pipeline.statistics import LoaderStatistics
from pclkd.pipeline.world import World
from pclkd.sharding.shards.index import ShardIndex
from pclkd.training.cli import main
from pclkd.training.loop.meter import LoaderMeter
from pclkd.training.loop.progress import TrainingProgress
from pclkd.training.runs.checkpoint import load_checkpoint

TINY = [
    *("--preset=demo", "--set=backbone.width=0.125", "--set=loader.crop=32", "--set=pcl.negatives=8"),
    *("--set=log_every=1", "--set=evaluation.every=0", "--set=optimizer.schedule=cosine"),
]


def records(run: Path, kind: str) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == kind]


def spoil(shards: Path, position: int) -> None:
    """All frames of a training video lose their first byte's worth."""
    index = ShardIndex.open(shards)
    sample = int(index.split_samples(1, "train")[position])
    with Path(index.shard_url(int(index.sample_shard[sample]))).open("r+b") as file:
        for row in range(int(index.sample_frames[sample]), int(index.sample_frames[sample + 1])):
            file.seek(int(index.frame_offset[row]) + 100)
            file.write(b"damage")


def test_a_meter_tells_of_its_own_stretch(synthetic_shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"crop": 48, "batch_size": 4, "tuples": TupleSettings(clip_frames=8, clip_stride=12, remote_distance=8)}
    with clip_loader(synthetic_shards, world=World(), device=torch.device("cpu"), **small) as loader:
        list(loader.epoch(0))
        meter = LoaderMeter(loader, torch.device("cpu"))
        list(loader.epoch(1))
        now = time.perf_counter()
        monkeypatch.setattr("pclkd.training.loop.meter.time", SimpleNamespace(perf_counter=lambda: now))
        alone, job = meter.figures(1), meter.figures(2)
    assert 0 < 2 * alone["throughput/clips_per_s"] == job["throughput/clips_per_s"]
    assert {"time/data_wait_pct", "time/loader_read_pct", "throughput/read_mib_per_s"} <= set(alone)
    assert alone["loader/starving"] in {"read", "checksum", "decode", "none"}
    assert meter.damage() == {"data/quarantined_samples": 0, "data/damaged_reads": 0} and meter.quarantined == 0


def test_a_line_names_the_starving_stage_and_the_damaged_samples(capfd: pytest.CaptureFixture[str]) -> None:
    statistics = LoaderStatistics(readers=2)
    before = statistics.as_dict()
    statistics.add(clips=30, read_s=3.8, decode_s=0.5, wait_s=0.8)
    progress = TrainingProgress("run", epochs=2, steps=10, line_seconds=0)
    with progress.showing():
        progress.step(0, 3, statistics.since(before, 2.0), processes=4, quarantined=7)
        statistics.add(wait_s=-0.8)
        progress.step(0, 4, statistics.since(before, 2.0))
    first, second = capfd.readouterr().err.splitlines()
    assert "60.0 clips/s data wait 40% (starved by read)" in first and first.endswith("quarantined=7")
    assert "starved" not in second and "quarantined" not in second


def test_two_processes_sum_their_damaged_samples_and_one_goes_on(synthetic_shards: Path, tmp_path: Path) -> None:
    shards = Path(shutil.copytree(synthetic_shards, tmp_path / "shards"))
    # 12 videos, 2 processes x batch 2: 3 steps an epoch. One damaged video for each rank in the first two steps.
    order = permutation(0, 0, 12).tolist()
    for entry in (1, 2, 6):
        spoil(shards, order[entry])
    out = tmp_path / "run"
    command = ["pretrain", "--data", str(shards), "--out", str(out), *TINY]
    job = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
    finished = subprocess.run(
        [*job, "pclkd.training.cli", *command, "--epochs=2", "--set=loader.batch_size=2", "--max-steps=2"],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=tmp_path,
    )
    assert finished.returncode == 0, finished.stderr[-2000:]
    assert [record["data/quarantined_samples"] for record in records(out, "step")] == [2, 3]
    checkpoint = load_checkpoint(out)
    assert checkpoint.processes == 2
    assert (checkpoint.loader["epoch"], checkpoint.loader["consumed"]) == (0, 8)

    refused = CliRunner().invoke(main, [*command, "--epochs=3", "--set=loader.batch_size=4", "--resume"])
    assert refused.exit_code == 2 and "epochs = 2" in refused.output  # it is still the same run
    resumed = CliRunner().invoke(main, [*command, "--epochs=2", "--set=loader.batch_size=4", "--resume"])
    assert resumed.exit_code == 0, resumed.output
    assert [record["step"] for record in records(out, "step")] == [1, 2, 3, 4, 5, 6]
    # Each epoch meets every video once, also the one that two sittings shared.
    closed = {record["epoch"]: record for record in records(out, "epoch")}
    assert [closed[epoch]["data/quarantined_samples"] for epoch in (1, 2)] == [3, 3]
    assert all(closed[epoch]["data/damaged_reads"] >= 3 for epoch in (1, 2))
    assert load_checkpoint(out).processes == 1
    # With as many processes as before, another batch size would be another run.
    refused = CliRunner().invoke(main, [*command, "--epochs=2", "--set=loader.batch_size=2", "--resume"])
    assert refused.exit_code == 2 and "loader" in refused.output
    threads = CliRunner().invoke(
        main, [*command, "--epochs=2", "--set=loader.batch_size=4", "--set=loader.threads=1", "--resume"]
    )
    assert threads.exit_code == 0, threads.output
