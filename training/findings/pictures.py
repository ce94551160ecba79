"""A figure as PNG, the accuracies side by side: for README files and slides."""

from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from pclkd.sharding.common.files import atomic_write
from pclkd.training.findings.figures import COLOURS, INK, Figure, Line, Role, series_of
from pclkd.training.findings.records import Study
from pclkd.training.report.chart_style import STYLE
from pclkd.training.report.comparison import METRICS

__all__ = ["draw_picture"]

_STROKES: dict[Role, str | tuple[int, tuple[float, ...]]] = {
    "teacher": (0, (4.5, 2)),
    "control": (0, (1.2, 1.1)),
    "student": "-",
    "baseline": "-",
}


def draw_picture(path: Path, study: Study, figure: Figure) -> None:
    """Draw one figure: a thin line a run, the median thick."""
    with rc_context(STYLE):
        # Placed by hand: a layout that measures itself draws every line several times.
        picture = Picture(figsize=(11.0, 3.9), dpi=130)
        picture.subplots_adjust(left=0.05, right=0.99, top=0.92, bottom=0.25, wspace=0.13)
        panels = picture.subplots(1, len(METRICS))
        for axes, metric in zip(panels, METRICS, strict=True):
            axes.set_title(metric.title)
            for line in figure.lines:
                _draw_line(axes, study, line, metric.key)
            axes.set_xlabel("epoch")
            axes.set_xlim(0, max(study.epochs, 1))
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7))
        panels[0].set_ylabel("test accuracy (%)")
        handles = [Line2D([], [], **_stroke(line), linewidth=2, label=line.label) for line in figure.lines]
        picture.legend(handles=handles, loc="lower center", ncols=min(len(handles), 4), handlelength=3.2)
        with atomic_write(path) as file:
            # Without the program's version in it, the same figures give the same bytes.
            picture.savefig(file, format="png", facecolor="white", metadata={"Software": None})


def _draw_line(axes: Axes, study: Study, line: Line, metric: str) -> None:
    series = series_of(study, line, metric)
    for _, epochs, values in series.runs:
        axes.plot(epochs, values, **_stroke(line), linewidth=0.7, alpha=0.4)
    epochs, median, lowest, highest = series.summary
    axes.fill_between(epochs, lowest, highest, color=_colour(line), alpha=0.1, linewidth=0)
    axes.plot(epochs, median, **_stroke(line), linewidth=2)


def _stroke(line: Line) -> dict[str, Any]:
    return {"color": _colour(line), "linestyle": _STROKES[line.role]}


def _colour(line: Line) -> str:
    return INK[0] if line.role == "teacher" else COLOURS[line.colour][0]
