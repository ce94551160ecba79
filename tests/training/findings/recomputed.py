"""What a study's report says, worked out anew from study.json and metrics.jsonl alone, the long way."""

import itertools
import json
import math
from pathlib import Path
from statistics import mean, median

from scipy import stats

METRICS = ("val/pretext_top1_pct", "val/linear_top1_pct", "val/retrieval_r1_pct")


def curve(folder: Path, metric: str) -> dict[int, float]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {line["epoch"]: line[metric] for line in lines if line["kind"] == "epoch" and metric in line}


def final(values: dict[int, float]) -> float:
    ordered = [values[epoch] for epoch in sorted(values)]
    return mean(ordered[len(ordered) - math.ceil(len(ordered) / 10) :])


def passing(values: dict[int, float], goal: float) -> float:
    """By pooling neighbours until nothing falls (isotonic regression)."""
    blocks: list[tuple[float, int, int]] = []  # sum, count, first epoch
    for epoch in sorted(values):
        total, count, first = values[epoch], 1, epoch
        while blocks and blocks[-1][0] / blocks[-1][1] >= total / count:
            before = blocks.pop()
            total, count, first = total + before[0], count + before[1], before[2]
        blocks.append((total, count, first))
    return next((first for total, count, first in blocks if total / count >= goal - 1e-9), math.inf)


def first_half(values: dict[int, float], epochs: int) -> float:
    """Mean height of the trapezoids up to half of the epochs; an even number of epochs, measured each."""
    half = epochs // 2
    return sum((values[epoch] + values[epoch + 1]) / 2 for epoch in range(half)) / half


def students(study: Path) -> dict[tuple[str, str, str], float]:
    """(student's name, question, metric) -> number."""
    plan = json.loads((study / "study.json").read_text())
    epochs, found = plan["epochs"], {}
    for run, metric in itertools.product(plan["runs"], METRICS):
        if run["kind"] == "student":
            like = ("backbone", "group", "fraction", "width")
            control = next(r for r in plan["runs"] if r["kind"] == "control" and all(r[k] == run[k] for k in like))
            s, c = (curve(study / name, metric) for name in (run["name"], control["name"]))
            taught_by = [curve(study / name, metric) for name in [run["teacher"], *run["other_teachers"]] if name]
            answers = {"area": first_half(s, epochs) - first_half(c, epochs), "end": final(s) - final(c)}
            if taught_by:
                goal = max(map(final, taught_by))
                answers |= {
                    "passing": passing(s, goal) / epochs,
                    "passing_own": passing(s, goal) / max(min(passing(t, goal) for t in taught_by), 1),
                    "control_passing": passing(c, goal) / epochs,
                    "above_teacher": final(s) - goal,
                }
            found |= {(run["name"], question, metric): value for question, value in answers.items()}
    return found


def answer(groups: list[list[float]], question: str, tail: float) -> tuple[float, float, float]:
    """(value, low, high) of the numbers of each repetition.

    Of means by Student's distribution; of medians by every resample, `tail` of them cut off at each end.
    """
    if question in {"area", "end", "above_teacher"}:
        values = [mean(group) for group in groups]
        half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
        return mean(values), mean(values) - half, mean(values) + half
    values = [median(group) for group in groups]
    all_of_them = sorted(median(chosen) for chosen in itertools.product(values, repeat=len(values)))
    cut = math.ceil(tail * len(all_of_them)) - 1
    return median(values), all_of_them[cut], all_of_them[math.ceil((1 - tail) * len(all_of_them)) - 1]
