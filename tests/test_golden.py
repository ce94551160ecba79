"""The numbers that a change must not change: losses of twenty steps, bit for bit, and the bytes of packed shards.

`golden.json` holds them for the processor and the libraries that they were computed with. There they must be equal;
elsewhere arithmetic in another order moves the losses a little, and they must be close.

They are renewed by `make golden`, and only in a commit that says why its change is meant to change numbers: what the
embedded videos show, what the loader draws, what a term computes. A refactoring, a speed-up or a new option is no
reason.
"""

import hashlib
import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch

GOLDEN = Path(__file__).with_name("golden.json")
STEPS = 20
SETTINGS = (
    *("backbone.width=0.25", "tuples.clip_frames=8", "tuples.clip_stride=12", "tuples.remote_distance=8"),
    *("loader.crop=48", "loader.batch_size=4", "loader.threads=1", "pcl.negatives=8", "optimizer.lr=0.02"),
    *("evaluation.every=0", "log_every=1", "checkpoint.every_steps=0"),
    "kd.least_said=0",  # a teacher of twenty steps says little; its terms are to be held all the same
)
RUNS = {
    "pcl-r3d": ("pretrain", "r3d", "bank"),
    "pcl-kd-c3d": ("distill", "c3d", "bank"),
    "pcl-kd-r2plus1d-in-batch": ("distill", "r2plus1d", "in_batch"),
}


def machine() -> dict[str, str]:
    """What the arithmetic's order depends on."""
    libraries = {name: metadata.version(name) for name in ("torch", "nvidia-dali-cuda130", "av", "simplejpeg")}
    return {"cpu": torch.backends.cpu.get_cpu_capability(), **libraries}


def train(shards: Path, folder: Path, name: str) -> dict[str, list[str]]:
    """The losses of each step, as exact hexadecimal numbers, by term."""
    command, backbone, contrast = RUNS[name]
    teacher = ["--teacher", str(folder / "pcl-r3d")] if command == "distill" else []
    settings = [*SETTINGS, f"pcl.contrast={contrast}"]
    subprocess.run(
        [
            *(sys.executable, "-m", "pclkd.training.cli", command, "--data", str(shards), "--out", str(folder / name)),
            *("--backbone", backbone, "--epochs=20", f"--max-steps={STEPS}", *teacher),
            *(f"--set={setting}" for setting in settings),
        ],
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "ATEN_CPU_CAPABILITY": ""},
        capture_output=True,
    )
    lines = [json.loads(line) for line in (folder / name / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if line["kind"] == "step"]
    terms = [name for name in steps[0] if name in {"loss", "pretext", "contrast", "kd_pretext", "kd_contrast"}]
    return {term: [float(step[term]).hex() for step in steps] for term in terms}


def hashes(shards: Path) -> dict[str, str]:
    """SHA-256 of every file of a shard set but the manifest, which tells times."""
    files = sorted(path for path in shards.rglob("*") if path.is_file() and path.name != "manifest.json")
    return {path.relative_to(shards).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def found(synthetic_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("golden")
    return {
        "machine": machine(),
        "losses": {name: train(synthetic_shards, folder, name) for name in RUNS},
        "shards": {"synthetic": hashes(synthetic_shards)},
    }


@pytest.fixture(scope="module")
def golden(found: dict[str, Any]) -> dict[str, Any]:
    if os.environ.get("PCLKD_RENEW_GOLDEN"):
        GOLDEN.write_text(json.dumps(found, indent=1) + "\n")
    known: dict[str, Any] = json.loads(GOLDEN.read_text())
    return known


@pytest.mark.parametrize("name", RUNS)
def test_twenty_steps_give_the_losses_they_always_gave(
    found: dict[str, Any], golden: dict[str, Any], name: str
) -> None:
    now, then = found["losses"][name], golden["losses"][name]
    assert set(now) == set(then)
    assert all(len(values) == STEPS for values in now.values())
    if found["machine"] == golden["machine"]:
        assert now == then
    else:
        for term, values in then.items():
            expected = pytest.approx([float.fromhex(value) for value in values], rel=0.02)
            assert [float.fromhex(value) for value in now[term]] == expected, term


def test_packed_shards_have_the_bytes_they_always_had(found: dict[str, Any], golden: dict[str, Any]) -> None:
    if found["machine"] != golden["machine"]:
        pytest.skip("recorded with other libraries or another processor")
    assert found["shards"] == golden["shards"]
