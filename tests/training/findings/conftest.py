"""Studies with made-up curves, written as train-kd writes them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

KEYS = {"val/pretext_top1_pct": 80.0, "val/linear_top1_pct": 50.0, "val/retrieval_r1_pct": 45.0}


def plan(backbones: list[str], repetitions: int, epochs: int) -> dict[str, Any]:
    """Baselines, every pair, and controls."""
    runs = []
    for group in range(repetitions):
        for kind in ("baseline", "control"):
            seed = group + (100 if kind == "control" else 0)
            runs += [
                {"name": f"{kind}-{name}-s{seed}", "kind": kind, "backbone": name, "seed": seed, "group": group}
                for name in backbones
            ]
        runs += [
            {
                "name": f"{student}-from-{teacher}-s{group + 100}",
                "kind": "student",
                "backbone": student,
                "teacher": f"baseline-{teacher}-s{group}",
                "seed": group + 100,
                "group": group,
            }
            for teacher in backbones
            for student in backbones
        ]
    common = {"teacher": None, "other_teachers": [], "fraction": 1.0, "terms": "pretext", "width": 1.0}
    runs = [{**common, **run} for run in runs]
    seeds = list(range(repetitions))
    return {"version": 1, "epochs": epochs, "preset": "demo", "seeds": seeds, "runs": runs}


def write_run(folder: Path, run: dict[str, Any], epochs: int, *, videos: int, lead: float, random: Any) -> None:
    """Curves that rise to a plateau with noise; a student's rise `lead` times as fast."""
    folder.mkdir()
    teacher = run["teacher"] and str(folder.parent / run["teacher"])
    settings = {"backbone": {"name": run["backbone"], "width": 0.25}, "seed": run["seed"], "teacher": teacher}
    (folder / "settings.json").write_text(json.dumps({**settings, "data": "set", "epochs": epochs}))
    speed = (lead if run["kind"] == "student" else 1.0) * random.uniform(6, 9) / max(epochs, 1)
    ends = {key: top + random.normal(0, 1.5) for key, top in KEYS.items()}
    lines, answers = [], []
    ease = np.random.default_rng(3).normal(size=videos)  # of each test video, for all runs alike
    for epoch in range(epochs + 1):
        marks: dict[str, Any] = {"epoch": epoch, "step": 9 * epoch}
        line: dict[str, Any] = {"kind": "epoch", "epoch": epoch, "step": 9 * epoch, "train/loss": 5.0 - 0.01 * epoch}
        for key, end in ends.items():
            line[key] = float(np.clip(20 + (end - 20) * (1 - np.exp(-speed * epoch)) + random.normal(0, 2), 0, 100))
            if videos:
                rank = np.argsort(np.argsort(-ease - random.normal(0, 0.3, videos)))
                told = rank < round(videos * line[key] / 100)
                line[key], marks[key] = 100 * float(told.mean()), ["".join("01"[hit] for hit in told.astype(int))]
        lines.append(json.dumps(line))
        answers.append(json.dumps(marks))
    if videos:
        (folder / "answers.jsonl").write_text("\n".join(answers) + "\n")
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="session")
def write_study() -> Callable[..., Path]:
    """A function that writes a study and returns its folder."""

    def write(
        folder: Path,
        *,
        backbones: tuple[str, ...] = ("c3d", "r3d", "r2plus1d"),
        repetitions: int = 5,
        epochs: int = 20,
        videos: int = 0,
        lead: float = 2.0,
        change: Callable[[dict[str, Any]], None] = lambda told: None,
    ) -> Path:
        folder.mkdir(parents=True)
        told = plan(list(backbones), repetitions, epochs)
        change(told)
        (folder / "study.json").write_text(json.dumps(told))
        random = np.random.default_rng(7)
        for run in told["runs"]:
            write_run(folder / run["name"], run, epochs, videos=videos, lead=lead, random=random)
        return folder

    return write
