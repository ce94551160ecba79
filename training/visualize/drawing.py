"""A matrix, points and curves: each drawn as SVG for a page and as PNG for slides, from the same numbers."""

import colorsys
import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure as Picture
from numpy.typing import NDArray

from pclkd.sharding.common.files import atomic_write
from pclkd.training.findings.figures import COLOURS, Line, Series
from pclkd.training.findings.records import PlannedRun
from pclkd.training.findings.svg import Axis, draw_chart, epoch_axis
from pclkd.training.report.chart_style import STYLE

__all__ = ["Curves", "Drawing", "Matrix", "Points", "class_colour", "write_picture"]

Floats = NDArray[np.float64]
_BLUES = LinearSegmentedColormap.from_list("share", ["#ffffff", COLOURS[0][0]])
_CELL, _HEAD = 34, 20
_WRITTEN, _NAMED = 16, 40  # rows and columns, up to which values are written, and names
_LETTER, _FONT = 6.3, 11  # pixels
_SIDE = 460
_STROKES: tuple[str | tuple[int, tuple[float, ...]], ...] = ("-", (0, (1.2, 1.1)))


class Drawing(Protocol):
    """A figure."""

    @property
    def title(self) -> str:
        """Its heading."""

    def svg(self) -> str:
        """As part of a page; colours are those of findings/chart.css."""

    def paint(self, axes: Axes) -> None:
        """On white paper."""


@dataclass(frozen=True)
class Matrix:
    """Numbers by row and column.

    Attributes:
        title: what it is.
        down, across: what rows and columns are.
        rows, columns: their names.
        values: [rows, columns] from 0 to `full`; nan where there is none.
        full: value of the strongest colour.
        decimals: of the values, as written.
    """

    title: str
    down: str
    across: str
    rows: Sequence[str]
    columns: Sequence[str]
    values: Floats
    full: float
    decimals: int

    def svg(self) -> str:
        """Cells that hold more than nothing, each with its row, column and value as a tool tip."""
        named, written = self._small(_NAMED), self._small(_WRITTEN)
        cell = _CELL if written else max(4, 720 // max(self.values.shape))
        left = _HEAD + (_LETTER * max(map(len, self.rows)) + 8 if named else 0)
        top = _HEAD + (_LETTER * 0.75 * max(map(len, self.columns)) + 12 if named else 0)
        wide, high = left + cell * len(self.columns) + 44, top + cell * len(self.rows) + 8
        parts = [
            f'<svg class="chart matrix" viewBox="0 0 {wide:.0f} {high:.0f}" style="max-width:{wide:.0f}px" role="img" '
            f'aria-label="{html.escape(self.title)}" font-size="{_FONT}">',
            f'<text x="{left:.0f}" y="12">{html.escape(self.across)} →</text>',
            f'<text transform="translate(12 {top:.0f}) rotate(90)">{html.escape(self.down)} →</text>',
            f'<rect class="frame" x="{left:.0f}" y="{top:.0f}" width="{cell * len(self.columns)}" '
            f'height="{cell * len(self.rows)}"/>',
        ]
        for row, name in enumerate(self.rows if named else ()):
            y = top + cell * (row + 0.5) + 4
            parts.append(f'<text x="{left - 6:.0f}" y="{y:.0f}" text-anchor="end">{html.escape(name)}</text>')
        for column, name in enumerate(self.columns if named else ()):
            x = left + cell * (column + 0.5)
            parts.append(f'<text transform="translate({x:.0f} {top - 6:.0f}) rotate(-45)">{html.escape(name)}</text>')
        for row, column in np.argwhere(self.values != 0).tolist():
            share, x, y = self._share(row, column), left + cell * column, top + cell * row
            said = self._written(row, column)
            told = html.escape(f"{self.rows[row]} / {self.columns[column]}: {said}")
            parts.append(
                f'<g><title>{told}</title><rect x="{x:.0f}" y="{y:.0f}" width="{cell}" height="{cell}" '
                f'fill="var(--c0)" fill-opacity="{share:.2f}"/>'
            )
            if written:
                strong = ' class="strong"' if share > 0.6 else ""
                place = f'x="{x + cell / 2:.0f}" y="{y + cell / 2 + 4:.0f}" text-anchor="middle"'
                parts.append(f"<text {place}{strong}>{said}</text>")
            parts.append("</g>")
        return "\n".join([*parts, "</svg>"])

    def paint(self, axes: Axes) -> None:
        """Cells with their values, where there is room for them."""
        axes.imshow(self.values, cmap=_BLUES, vmin=0, vmax=self.full, aspect="auto")
        axes.grid(visible=False)
        axes.set_xlabel(self.across)
        axes.set_ylabel(self.down)
        if self._small(_NAMED):
            axes.set_xticks(range(len(self.columns)), self.columns, rotation=45, ha="right")
            axes.set_yticks(range(len(self.rows)), self.rows)
        if self._small(_WRITTEN):
            for row, column in np.argwhere(self.values != 0).tolist():
                colour = "white" if self._share(row, column) > 0.6 else "#24292f"
                said = self._written(row, column)
                axes.text(column, row, said, ha="center", va="center", color=colour, fontsize=8)

    def _small(self, most: int) -> bool:
        return max(len(self.rows), len(self.columns)) <= most

    def _share(self, row: int, column: int) -> float:
        value = self.values[row, column] / self.full
        return 0.0 if math.isnan(value) else min(max(float(value), 0.0), 1.0)

    def _written(self, row: int, column: int) -> str:
        value = self.values[row, column]
        return "–" if math.isnan(value) else f"{value:.{self.decimals}f}".replace("-", "−")


@dataclass(frozen=True)
class Points:
    """Points in a plane, coloured by class.

    Attributes:
        title: what they are.
        across, up: of the axes.
        places: [N, 2].
        labels: [N] classes.
        classes: their names.
        texts: [N] what each is.
    """

    title: str
    across: str
    up: str
    places: Floats
    labels: NDArray[np.int64]
    classes: Sequence[str]
    texts: Sequence[str]

    def svg(self) -> str:
        """A circle a point, in their order, with its class as `data-label`."""
        low, high = self.places.min(0), self.places.max(0)
        unit = (self.places - (low + high) / 2) / max(float((high - low).max()), 1e-12) + 0.5  # one scale for both axes
        at = 14 + (_SIDE - 28) * np.stack([unit[:, 0], 1 - unit[:, 1]], axis=1)
        parts = [
            f'<svg class="chart points" viewBox="0 0 {_SIDE} {_SIDE + 24}" role="img" tabindex="0" '
            f'aria-label="{html.escape(self.title)}. The arrow keys go from video to video.">',
            f'<rect class="frame" x="1" y="1" width="{_SIDE - 2}" height="{_SIDE - 2}"/>',
            f'<text x="2" y="{_SIDE + 16}">{html.escape(self.across)} →</text>',
            f'<text transform="translate(14 {_SIDE - 10}) rotate(-90)">{html.escape(self.up)} →</text>',
        ]
        parts += [
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" data-label="{label}"><title>{html.escape(text)}</title></circle>'
            for (x, y), label, text in zip(at.tolist(), self.labels.tolist(), self.texts, strict=True)
        ]
        return "\n".join([*parts, "</svg>"])

    def paint(self, axes: Axes) -> None:
        """The same points; a legend where it fits."""
        for label in sorted(set(self.labels.tolist())):
            chosen = self.places[self.labels == label]
            colour, _ = class_colour(label, len(self.classes))
            axes.plot(*chosen.T, "o", markersize=4.5, alpha=0.8, color=colour, label=self.classes[label])
        axes.set_aspect("equal", adjustable="datalim")
        axes.set_xlabel(self.across)
        axes.set_ylabel(self.up)
        if len(self.classes) <= _WRITTEN:
            axes.legend(loc="upper left", bbox_to_anchor=(1, 1))


@dataclass(frozen=True)
class Curves:
    """Percentages against numbers from 0 on.

    Attributes:
        title: what they are.
        across: of the axis.
        lines: by name, numbers and percentages.
    """

    title: str
    across: str
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]]

    def svg(self) -> str:
        """A chart as those of a study, with a legend below it."""
        drawn = [(_line(number, name), _series(*points)) for number, (name, points) in enumerate(self.lines.items())]
        last = max(max(numbers) for numbers, _ in self.lines.values())
        axis = epoch_axis(max(1, math.ceil(last)))
        chart = draw_chart(drawn, Axis(self.across, axis.last, axis.ticks), self.title)
        keys = "".join(
            f'<span><svg class="chart key" viewBox="0 0 26 8" aria-hidden="true"><g class="c{line.colour} {line.role}">'
            f'<polyline class="median" points="0,4 26,4"/></g></svg>{html.escape(line.label)}</span>'
            for line, _ in drawn
        )
        return f"{chart}\n<figcaption>{keys}</figcaption>"

    def paint(self, axes: Axes) -> None:
        """The same lines."""
        for number, (name, (numbers, percent)) in enumerate(self.lines.items()):
            line = _line(number, name)
            stroke = _STROKES[line.role == "control"]
            marker = "o" if len(numbers) < 12 else ""
            axes.plot(numbers, percent, marker=marker, color=COLOURS[line.colour][0], linestyle=stroke, label=name)
        axes.set_xlabel(self.across)
        axes.set_ylabel("percent")
        axes.legend(fontsize=8)


def _line(number: int, name: str) -> Line:
    turn, colour = divmod(number, len(COLOURS))
    return Line(name, "control" if turn % 2 else "student", colour, ())


def _series(numbers: Sequence[float], percent: Sequence[float]) -> Series:
    run = PlannedRun(name="run", kind="student", backbone="r3d")  # of no study: a line of the chart
    return Series(((run, np.asarray(numbers, float), np.clip(np.asarray(percent, float), 0, 100)),))


def class_colour(label: int, classes: int) -> tuple[str, str]:
    """A colour on white and on dark: hues as far apart as the number of classes allows."""
    hue = (label / classes + 0.58) % 1
    light, dark = (colorsys.hls_to_rgb(hue, lightness, 0.75) for lightness in (0.38, 0.66))
    return _hex(light), _hex(dark)


def _hex(colour: tuple[float, float, float]) -> str:
    return "#" + "".join(f"{round(255 * part):02x}" for part in colour)


def write_picture(path: Path, drawings: Sequence[Drawing]) -> None:
    """Draw figures side by side into a PNG."""
    with rc_context(STYLE):
        picture = Picture(figsize=(6.4 * len(drawings), 5.2), dpi=130, layout="constrained")
        for axes, drawing in zip(np.ravel(picture.subplots(1, len(drawings))), drawings, strict=True):
            axes.set_title(drawing.title)
            drawing.paint(axes)
        with atomic_write(path) as file:
            picture.savefig(file, format="png", facecolor="white", metadata={"Software": None})
