"""Runs that differ by their seed alone, told as one: a median to draw, a median and a range to read."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

from pclkd.training.report.comparison import METRICS, Standing
from pclkd.training.report.page import Table
from pclkd.training.runs.run_folder import RunRecord

__all__ = ["SEEDS", "group_seeds", "median_run", "seed_table"]

SEEDS = "seeds"
"""In the settings of a median: how many runs it is of."""
_OF_ONE_RUN = ("seed", "teacher", "teachers")


def group_seeds(standings: Sequence[Standing]) -> list[list[Standing]]:
    """The runs by all that they are beside their seed and their teacher's; one alone is a group of its own."""
    by_name = {standing.run.name: standing for standing in standings}
    groups: dict[str, list[Standing]] = {}
    for standing in standings:
        teacher = by_name.get(standing.teacher or "")
        taught_by = standing.teacher if teacher is None else _kind(teacher)
        groups.setdefault(json.dumps([_kind(standing), taught_by]), []).append(standing)
    return list(groups.values())


def _kind(standing: Standing) -> str:
    settings = standing.run.settings
    if "seed" not in settings:
        return standing.run.name
    shared = {name: value for name, value in settings.items() if name not in _OF_ONE_RUN}
    return json.dumps([standing.role, shared], sort_keys=True)


def median_run(group: Sequence[Standing]) -> RunRecord:
    """A run whose figures are the medians of a group's, as far as all of them have come; it is named like the first.

    It has no standard errors and no evaluations. One run alone stays as it is.
    """
    first, runs = group[0].run, [standing.run for standing in group]
    if len(runs) == 1:
        return first
    return replace(
        first,
        settings={**first.settings, SEEDS: len(runs)},
        epochs=_median_lines([run.epochs for run in runs]),
        steps=_median_lines([run.steps for run in runs]),
        evals={},
    )


def _median_lines(runs: Sequence[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Lines of the same epoch and step, one a run, as one."""
    together: dict[tuple[int, int], list[Mapping[str, Any]]] = {}
    for lines in runs:
        for line in lines:
            together.setdefault((line["epoch"], line["step"]), []).append(line)
    return [_median_line(lines) for _, lines in sorted(together.items()) if len(lines) == len(runs)]


def _median_line(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    names = [name for name in lines[0] if not name.endswith("_se")]
    numbers = {
        name: median(values)
        for name in names
        if len(values := [line[name] for line in lines if isinstance(line.get(name), int | float)]) == len(lines)
    }
    return {"kind": lines[0]["kind"], **numbers}


def seed_table(groups: Sequence[Sequence[Standing]]) -> Table | None:
    """A row a group: median and range of its accuracies; None where every run is one of its kind."""
    if all(len(group) == 1 for group in groups):
        return None
    rows = [["run", "seeds", *(f"{metric.short} %" for metric in METRICS)]]
    for group in groups:
        cells = []
        for metric in METRICS:
            figure = metric.key.removeprefix("val/")
            evaluations = [standing.run.evals.get(metric.protocol, {}) for standing in group]
            evaluated = [float(found[figure]) for found in evaluations if figure in found]
            last = [standing.final[metric.key].value for standing in group if metric.key in standing.final]
            cells.append(_median_range(evaluated if len(evaluated) == len(group) else last))
        rows.append([group[0].run.name, str(len(group)), *cells])
    note = (
        "Median over the seeds, in brackets the lowest and the highest; as train-kd evaluate measured it where it "
        "measured all runs of a row, else after the last epoch. The curves and the comparison with the teacher are "
        "those of medians too."
    )
    return Table("Over seeds", note, rows)


def _median_range(values: Iterable[float]) -> str:
    """`71.4 (69.3 to 73.4)`, or the one value there is."""
    found = sorted(values)
    if len(found) < 2:
        return "".join(f"{value:.1f}" for value in found) or "–"
    return f"{median(found):.1f} ({found[0]:.1f} to {found[-1]:.1f})"
