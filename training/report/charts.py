"""The pictures of a report: accuracies and losses against epochs, teacher beside students."""

import math
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from pclkd.sharding.common.files import atomic_write
from pclkd.training.objective.registry import BUILT_IN, legend
from pclkd.training.report.chart_style import STYLE, Look, choose_looks, spread
from pclkd.training.report.comparison import METRICS, Metric, Standing, accuracies, curve
from pclkd.training.runs.run_folder import RunRecord

__all__ = ["draw_accuracy", "draw_losses", "draw_metric", "draw_overview", "loss_points", "loss_terms"]

_DPI = 170
_MOST_MARKERS = 40  # a curve with more points is drawn as a plain line
_MOST_TERMS = 40  # panels: a settings file may tell of any number
_LABEL_PT = 8.5
_LEGEND_ROW_IN = 0.24

Floats = NDArray[np.float64]


def draw_overview(path: Path, standings: Sequence[Standing]) -> None:
    """One panel a metric, side by side, with one legend: the picture of a README."""
    with rc_context(STYLE):
        figure = Figure(figsize=(11.0, 3.6 + _legend_height(standings)), dpi=_DPI, layout="constrained")
        panels = figure.subplots(1, len(METRICS))
        looks = choose_looks(standings)
        for axes, metric in zip(panels, METRICS, strict=True):
            draw_accuracy(axes, metric, standings, looks)
        panels[0].set_ylabel("validation accuracy (%)")
        _save(figure, path, looks)


def draw_metric(path: Path, metric: Metric, standings: Sequence[Standing]) -> None:
    """One metric against epochs."""
    with rc_context(STYLE):
        figure = Figure(figsize=(7.6, 4.0 + _legend_height(standings)), dpi=_DPI, layout="constrained")
        axes = figure.subplots()
        looks = choose_looks(standings)
        draw_accuracy(axes, metric, standings, looks)
        axes.set_ylabel("validation accuracy (%)")
        _save(figure, path, looks)


def draw_losses(path: Path, standings: Sequence[Standing]) -> None:
    """A panel for each loss term that any run has: logged steps faintly, their running mean on top."""
    with rc_context(STYLE):
        terms = loss_terms(standings)
        rows = max(1, math.ceil(len(terms) / 2))
        figure = Figure(figsize=(9.6, 2.6 * rows + _legend_height(standings)), dpi=_DPI, layout="constrained")
        panels = figure.subplots(rows, 2, squeeze=False).flatten()
        looks = choose_looks(standings)
        for axes, (name, told) in zip(panels, terms.items(), strict=False):
            axes.set_title(told["title"])
            axes.set_ylabel(f"loss ({told['unit']})")
            for standing, look in zip(standings, looks, strict=True):
                epochs, values = loss_points(standing.run, name)
                window = max(1, len(values) // 40)
                if window > 1:
                    axes.plot(epochs, values, color=look.colour, linewidth=0.5, alpha=0.18)
                axes.plot(*_running_mean(epochs, values, window), **{**look.line, "linewidth": 1.6})
            _scale_epochs(axes)
        for axes in panels[len(terms) :]:
            axes.set_axis_off()
        _save(figure, path, looks, markers=False)


def loss_terms(standings: Sequence[Standing]) -> dict[str, dict[str, str]]:
    """The terms that any of the runs has figures of: by name, title and unit."""
    terms = legend(BUILT_IN)  # for runs whose folder does not tell its terms
    for standing in standings:
        terms |= standing.run.settings.get("terms", {})
    drawn = (name for name in terms if any(len(loss_points(s.run, name)[0]) for s in standings))
    return {name: terms[name] for name in islice(drawn, _MOST_TERMS)}


def loss_points(run: RunRecord, name: str) -> tuple[Floats, Floats]:
    """(epochs, values) of a training loss: of every logged step, or of every epoch where no steps were logged.

    The logged steps of an epoch are spread evenly over it: a step number alone does not tell where an epoch ends.
    """
    steps: dict[int, list[float]] = {}
    for line in run.steps:
        if isinstance(line.get(name), int | float):
            steps.setdefault(int(line["epoch"]), []).append(float(line[name]))
    if not steps:
        points = curve(run, f"train/{name}")
        return np.array([epoch for epoch, _ in points], float), np.array([value for _, value in points], float)
    longest = max(map(len, steps.values()))  # the last epoch of a run that is not done has fewer
    epochs = [epoch + (i + 1) / longest for epoch, values in sorted(steps.items()) for i in range(len(values))]
    return np.array(epochs), np.array([value for _, values in sorted(steps.items()) for value in values])


def _running_mean(epochs: Floats, values: Floats, window: int) -> tuple[Floats, Floats]:
    """Means over `window` neighbours, at the middle of each window; none reaches beyond the data."""
    if window < 2:
        return epochs, values
    kernel = np.full(window, 1 / window)
    return np.convolve(epochs, kernel, "valid"), np.convolve(values, kernel, "valid")


def draw_accuracy(axes: Axes, metric: Metric, standings: Sequence[Standing], looks: Sequence[Look]) -> None:
    """Curves in bands of a standard error, the teacher's final value as a thin line, the final values at the end."""
    axes.set_title(metric.title)
    ends: list[tuple[int, float, Look]] = []
    for standing, look in zip(standings, looks, strict=True):
        points = accuracies(standing.run, metric.key)
        if not points:
            continue
        epochs, values = list(points), [found.value for found in points.values()]
        errors = np.array([np.nan if found.error is None else found.error for found in points.values()])
        marks = look.points if len(points) <= _MOST_MARKERS or len(points) == 1 else {"marker": ""}
        # Teachers lie below, so that a student's curve on top of its teacher's can be seen.
        axes.plot(epochs, values, **look.line, **marks, zorder=2 if standing.role == "teacher" else 3)
        axes.fill_between(
            epochs, values - errors, values + errors, color=look.colour, alpha=0.13, linewidth=0, zorder=1
        )
        if standing.role == "teacher":
            axes.axhline(values[-1], color=look.colour, linewidth=0.8, alpha=0.55, zorder=1)
        ends.append((epochs[-1], values[-1], look))
    _scale_epochs(axes)
    if ends:
        _label_ends(axes, ends)
    else:
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", va="center", color="#888888")


def _label_ends(axes: Axes, ends: Sequence[tuple[int, float, Look]]) -> None:
    """Write each curve's last value beside the panel, moved apart where they would overlap."""
    low, high = axes.get_ylim()
    pad = 0.04 * (high - low)
    axes.set_ylim(low - pad, high + pad)
    low, high = axes.get_ylim()
    panel_in = axes.get_position().height * axes.figure.get_figheight()  # type: ignore[union-attr]
    gap = 1.25 * _LABEL_PT / 72 / panel_in * (high - low)
    right = axes.get_xlim()[1]
    for (epoch, value, look), place in zip(ends, spread([v for _, v, _ in ends], gap, low, high), strict=True):
        axes.annotate(
            f"{value:.1f}",
            xy=(epoch, value),
            xytext=(right + 0.05 * (right - axes.get_xlim()[0]), place),
            color=look.colour,
            fontsize=_LABEL_PT,
            fontweight="bold",
            va="center",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": look.colour,
                "linewidth": 0.7,
                "alpha": 0.6,
                "shrinkA": 1,
                "shrinkB": 2,
            },
        )


def _scale_epochs(axes: Axes) -> None:
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7))
    left, right = axes.dataLim.intervalx if axes.has_data() else (0.0, 1.0)
    axes.set_xlim(min(0.0, left), max(right, 1.0) * 1.02)


def _legend_columns(standings: Sequence[object]) -> int:
    return 1 if len(standings) == 1 else 2


def _legend_height(standings: Sequence[object]) -> float:
    """Inches that the legend needs."""
    return 0.2 + _LEGEND_ROW_IN * math.ceil(len(standings) / _legend_columns(standings))


def _save(figure: Figure, path: Path, looks: Sequence[Look], *, markers: bool = True) -> None:
    handles = [Line2D([], [], **look.line, **(look.points if markers else {}), label=look.label) for look in looks]
    figure.legend(handles=handles, loc="outside lower center", ncols=_legend_columns(looks), handlelength=3.2)
    with atomic_write(path) as file:
        # Without the program's version in it, the same figures give the same bytes.
        figure.savefig(file, format="png", facecolor="white", metadata={"Software": None})
