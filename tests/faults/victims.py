"""The commands that are disturbed: what they are given, what they leave, and what must hold of it at any moment."""

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from disturbance import Victim

from pclkd.training.runs.checkpoint import load_checkpoint

# Three steps an epoch; a save after every second one, and three more names at the end of each epoch.
TINY = (
    *("--preset=demo", "--set=backbone.width=0.0625", "--set=loader.crop=16", "--set=pcl.contrast=bank"),
    *("--set=pcl.negatives=8", "--set=log_every=1", "--set=checkpoint.every_steps=2", "--set=checkpoint.keep=1"),
    *("--set=checkpoint.best=val/pretext_top1_pct", "--set=evaluation.every=2", "--set=evaluation.clips=1"),
    *("--set=evaluation.pretext_passes=1", "--set=evaluation.features_every=9", "--epochs=2", "--resume"),
)
_BATCH = 4
_CLOCKED = ("throughput/", "time/", "loader/", "memory/")


def packing(videos: Path, lists: Path) -> Victim:
    """Two processes make four shards; any of them may be killed alone."""

    def command(out: Path) -> list[object]:
        how = ["--size=32x43", "--max-frames=25", "--workers=2"]
        return ["pack", videos, out, "--splits", lists, *how]

    return Victim("pack", "shard-ucf101", command, contents, _as_in_the_end(), spare=True)


def training(shards: Path, teacher: Path | None = None, ranks: int = 1) -> Victim:
    """Pretraining, or distillation where there is a teacher; the processes share the batch."""
    kind = "distill" if teacher else "pretrain"
    how = [f"--set=loader.batch_size={_BATCH // ranks}", *(["--teacher", teacher, "--backbone=c3d"] if teacher else [])]

    def command(out: Path) -> list[object]:
        return [kind, "--data", shards, "--out", out, *TINY, *how]

    return Victim(f"{kind} {ranks}", "train-kd", command, trained, _run_is_sound, ranks=ranks)


def evaluating(shards: Path, run: Path) -> Victim:
    """Three protocols on a copy of a run."""

    def command(out: Path) -> list[object]:
        asked = [f"--protocol={name}" for name in ("pretext", "linear", "retrieval")]
        return ["evaluate", out, "--data", shards, "--clips=1", *asked]

    def outcome(out: Path) -> dict[str, bytes]:
        return contents(out, found)

    found = "eval-*.json"
    return Victim(
        "evaluate", "train-kd", command, outcome, _as_in_the_end(found), prepare=lambda out: _copied(run, out)
    )


def reporting(run: Path) -> Victim:
    """The report of two runs."""

    def prepare(out: Path) -> None:
        for name in ("one", "two"):
            _copied(run, out / name)

    def outcome(out: Path) -> dict[str, bytes]:
        return contents(out, found)

    found = "report/*"
    return Victim("report", "train-kd", lambda out: ["report", out], outcome, _as_in_the_end(found), prepare=prepare)


def contents(root: Path, pattern: str = "**/*") -> dict[str, bytes]:
    """Every file below a folder; those that vanish meanwhile are passed over."""
    found = {}
    for path in root.glob(pattern):
        with suppress(FileNotFoundError, IsADirectoryError):
            found[str(path.relative_to(root))] = path.read_bytes()
    return found


def trained(folder: Path) -> Any:
    """All that a run recorded and saved, but for what the clock decides; tensors as numbers."""
    saved = {path.name: _plain(vars(load_checkpoint(path))) for path in folder.glob("*.pt")}
    assert set(saved) == {"last.pt", "best.pt", "epoch-0002.pt"}
    return recorded(folder), saved


def recorded(folder: Path) -> dict[str, dict[str, Any]]:
    """The lines of a run by kind, epoch and step; a step that was done twice gave the same."""
    found: dict[str, dict[str, Any]] = {}
    for text in (folder / "metrics.jsonl").read_text().splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue  # cut short
        told = {name: value for name, value in line.items() if not name.startswith(_CLOCKED)}
        key = f"{line['kind']} {line['epoch']} {line['step']}"
        assert found.setdefault(key, told) == told, f"{key} was something else before"
    return found


def _as_in_the_end(pattern: str = "**/*") -> Callable[[Path, dict[str, bytes]], None]:
    """Whatever matches and bears a final name is what it will be in the end, byte for byte."""

    def sound(folder: Path, expected: dict[str, bytes]) -> None:
        for name, data in contents(folder, pattern).items():
            if not name.startswith(".pack/") and not name.endswith(".part"):
                assert data == expected.get(name), f"{name} is not whole"

    return sound


def _run_is_sound(folder: Path, expected: Any) -> None:
    for path in folder.iterdir():
        if path.suffix == ".pt":
            load_checkpoint(path)
        elif path.suffix == ".json":
            assert json.loads(path.read_text())
    if (folder / "metrics.jsonl").exists():
        assert recorded(folder).items() <= expected[0].items()


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.tolist()
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def _copied(run: Path, out: Path) -> None:
    shutil.copytree(run, out, ignore=shutil.ignore_patterns("tensorboard"))
