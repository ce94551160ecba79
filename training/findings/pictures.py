"""A figure as PNG, the accuracies side by side: for README files and slides."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture
from matplotlib.lines import Line2D

from pclkd.sharding.common.files import atomic_write
from pclkd.training.findings.figures import COLOURS, Line, Role, Series
from pclkd.training.findings.svg import Axis
from pclkd.training.report.chart_style import STYLE
from pclkd.training.report.page import INK

__all__ = ["draw_picture"]

_COLUMNS = 4  # of the legend
_STROKES: dict[Role, str | tuple[int, tuple[float, ...]]] = {
    "teacher": (0, (4.5, 2)),
    "control": (0, (1.2, 1.1)),
    "int8": (0, (4.5, 2)),
    "student": "-",
    "baseline": "-",
}


def draw_picture(path: Path, panels: Mapping[str, Sequence[tuple[Line, Series]]], axis: Axis) -> None:
    """Draw panels of the same lines side by side: a thin line a run, the median thick.

    Args:
        path: of the PNG.
        panels: lines by the panel's title.
        axis: across, of all of them.
    """
    with rc_context(STYLE):
        # Placed by hand: a layout that measures itself draws every line several times.
        picture = Picture(figsize=(11.0, 3.9), dpi=130)
        handles = [
            Line2D([], [], **_stroke(line), linewidth=2, label=line.label) for line, _ in next(iter(panels.values()))
        ]
        rows = -(-len(handles) // _COLUMNS)
        picture.subplots_adjust(left=0.05, right=0.99, top=0.92, bottom=max(0.25, 0.15 + 0.05 * rows), wspace=0.13)
        for axes, (title, lines) in zip(picture.subplots(1, len(panels)), panels.items(), strict=True):
            axes.set_title(title)
            for line, series in lines:
                _draw_line(axes, line, series, "o" if axis.dots else "")
            axes.set_xlabel(axis.title)
            axes.set_xlim(0, axis.last)
            axes.set_xticks([place for place, _ in axis.ticks], [label for _, label in axis.ticks])
        picture.axes[0].set_ylabel("test accuracy (%)")
        picture.legend(handles=handles, loc="lower center", ncols=min(len(handles), _COLUMNS), handlelength=3.2)
        with atomic_write(path) as file:
            # Without the program's version in it, the same figures give the same bytes.
            picture.savefig(file, format="png", facecolor="white", metadata={"Software": None})


def _draw_line(axes: Axes, line: Line, series: Series, marker: str) -> None:
    for _, places, values in series.runs:
        axes.plot(places, values, **_stroke(line), linewidth=0.7, alpha=0.4)
    places, median, lowest, highest = series.summary
    axes.fill_between(places, lowest, highest, color=_colour(line), alpha=0.1, linewidth=0)
    axes.plot(places, median, **_stroke(line), linewidth=2, marker=marker, markersize=4)


def _stroke(line: Line) -> dict[str, Any]:
    return {"color": _colour(line), "linestyle": _STROKES[line.role]}


def _colour(line: Line) -> str:
    return INK[0] if line.role == "teacher" else COLOURS[line.colour][0]
