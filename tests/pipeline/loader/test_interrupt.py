"""Ctrl-C: a loader ends without waiting for anything, leaves nothing behind, and can be started again."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

PATIENCE_S = 900
# Says "ready" when batches flow. In "stuck" it waits for a batch that never comes, longer than the test does.
PROGRAM = """
import signal, sys, time, torch
signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in the background ignores it
from pclkd.pipeline import World, clip_loader
from pclkd.pipeline.loader.stages import Stages
from pclkd.sharding.shards.index import ShardIndex

how, shards = sys.argv[1:]
index = ShardIndex.open(shards, check_shards=how != "stuck")
loader = clip_loader(index, world=World(), device=torch.device("cpu"), batch_size=2, crop=32, prefetch=3,
                     wait_limit_s=10_000)
def loop():
    while True:
        for batch in loader:
            print("ready", flush=True)
            if how == "training":
                time.sleep(0.05)
if how == "stuck":
    wait = Stages.next
    Stages.next = lambda stages: print("ready", flush=True) or wait(stages)
if how == "open":  # nobody closes it
    loop()
with loader:
    loop()
"""


@pytest.mark.parametrize("how", ["idle", "training", "open", "stuck"])
def test_ctrl_c_ends_without_a_wait_and_leaves_nothing(synthetic_shards: Path, tmp_path: Path, how: str) -> None:
    shards = synthetic_shards
    if how == "stuck":
        shards = tmp_path / "stuck"
        shards.mkdir()
        for path in synthetic_shards.iterdir():
            if path.suffix == ".tar":
                os.mkfifo(shards / path.name)  # opening it hangs
            else:
                (shards / path.name).symlink_to(path)
    for _ in range(2 if how == "training" else 1):  # the second time: a restart at once
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, how, str(shards)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)},
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        children = psutil.Process(process.pid).children(recursive=True)
        # The loader works with threads alone, and what a process does not have it cannot leave behind.
        assert not children and "/dev/shm" not in Path(f"/proc/{process.pid}/maps").read_text()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE_S)
        assert process.returncode in (-signal.SIGINT, 130), errors
        assert errors.rstrip().endswith("KeyboardInterrupt"), errors
    assert {path.name for path in tmp_path.iterdir()} <= {"stuck"}
