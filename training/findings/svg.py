"""A figure as plain SVG: a thin line a run, their span as a band, and their median thick on top."""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pclkd.training.findings.arithmetic import Floats
from pclkd.training.findings.figures import COLOURS, Line, Series
from pclkd.training.report.chart_style import spread
from pclkd.training.report.page import PLAIN, colour_rules

__all__ = ["Axis", "chart_colours", "draw_chart", "epoch_axis", "standalone"]

_WIDTH, _HEIGHT = 480, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 438, 10, 278
_LABEL_GAP = 14.0
_LINES = {f"--c{number}": pair for number, pair in enumerate(COLOURS)}
_RULES = Path(__file__).with_name("chart.css").read_text()


@dataclass(frozen=True)
class Axis:
    """The axis across.

    Attributes:
        title: what it counts.
        last: its right end; it begins at 0.
        ticks: (place, label).
        dots: whether medians have a mark where they were measured.
    """

    title: str
    last: float
    ticks: Sequence[tuple[float, str]]
    dots: bool = False


def epoch_axis(epochs: int) -> Axis:
    """An axis of epochs, with a number at its end."""
    last = max(epochs, 1)
    ticks = _ticks(0, last)
    kept = [tick for tick in ticks if last - tick > (ticks[1] - ticks[0]) / 2]
    return Axis("epoch", last, [(tick, f"{tick:g}") for tick in (*kept, last)])


def draw_chart(lines: Sequence[tuple[Line, Series]], axis: Axis, description: str) -> str:
    """One panel, accuracy in percent against `axis`.

    The attributes `data-x` and `data-y` (places of two ends in the picture, then their values) let a script read
    places and draw lines anew.
    """
    low, high = _range([series for _, series in lines])
    ticks = [tick for tick in _ticks(low, high) if low <= tick <= high]

    def across(value: float) -> float:
        return _LEFT + (_RIGHT - _LEFT) * value / axis.last

    def up(value: float) -> float:
        return _BOTTOM - (_BOTTOM - _TOP) * (value - low) / (high - low)

    def points(epochs: Floats, values: Floats) -> str:
        return " ".join(f"{across(e):.1f},{up(v):.1f}" for e, v in zip(epochs, values, strict=True))

    parts = [
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'data-x="{_LEFT} {_RIGHT} 0 {axis.last:g}" data-y="{_BOTTOM} {_TOP} {low:g} {high:g}" '
        f'aria-label="{html.escape(description)}">'
    ]
    for tick in ticks:
        parts.append(f'<path class="grid" d="M{_LEFT} {up(tick):.1f}H{_RIGHT}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{up(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for place, label in axis.ticks:
        text = html.escape(label)
        parts.append(f'<text x="{across(place):.1f}" y="{_BOTTOM + 16}" text-anchor="middle">{text}</text>')
    middle = (_LEFT + _RIGHT) / 2
    parts.append(f'<text x="{middle:g}" y="{_BOTTOM + 34}" text-anchor="middle">{html.escape(axis.title)}</text>')
    ends = [series.summary[1][-1] if series.runs else math.nan for _, series in lines]
    drawn = [number for number, end in enumerate(ends) if not math.isnan(end)]
    heights = spread([up(ends[number]) for number in drawn], _LABEL_GAP, _TOP + 4, _BOTTOM)
    for number, height in zip(drawn, heights, strict=True):
        line, series = lines[number]
        epochs, median, lowest, highest = series.summary
        around = points(np.concatenate([epochs, epochs[::-1]]), np.concatenate([highest, lowest[::-1]]))
        parts.append(f'<g class="line c{line.colour} {line.role}" data-label="{html.escape(line.label)}">')
        parts.append(f'<polygon class="band" points="{around}"/>')
        for run, at, values in series.runs:
            name = html.escape(run.name)
            parts.append(
                f'<polyline class="run" data-run="{name}" data-group="{run.group}" points="{points(at, values)}"/>'
            )
        parts.append(f'<polyline class="median" points="{points(epochs, median)}"/>')
        for epoch, value in zip(epochs, median, strict=True) if axis.dots else ():
            parts.append(f'<circle class="dot" cx="{across(epoch):.1f}" cy="{up(value):.1f}" r="3.5"/>')
        parts.append(f'<text class="end" x="{_RIGHT + 6}" y="{height + 4:.1f}">{ends[number]:.1f}</text></g>')
    if not drawn:
        parts.append(f'<text x="{middle:g}" y="{(_TOP + _BOTTOM) / 2:g}" text-anchor="middle">not measured yet</text>')
    parts.append(f'<path class="cursor" d="M0 {_TOP}V{_BOTTOM}"/></svg>')
    return "\n".join(parts)


def standalone(chart: str) -> str:
    """A chart as a file of its own, with the colours of white paper."""
    colours = "".join(f"{name}:{light};" for name, (light, _) in {**PLAIN, **_LINES}.items())
    style = f"><style>.chart{{{colours}}}\n{_RULES}</style>"
    return chart.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1).replace(">", style, 1) + "\n"


def chart_colours() -> str:
    """Style rules for charts within a page, for light and for dark."""
    return colour_rules(_LINES) + _RULES


def _range(series: Sequence[Series]) -> tuple[float, float]:
    """Percentages from a little below the lowest value to a little above the highest."""
    values = [value for one in series for _, _, found in one.runs for value in (found.min(), found.max())]
    low, high = (min(values), max(values)) if values else (0.0, 100.0)
    pad = max(0.04 * (high - low), 1.0)
    return math.floor(max(low - pad, 0.0)), math.ceil(min(high + pad, 100.0))


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers within a range, about six of them."""
    step = next((s for s in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if (high - low) / s <= 7), (high - low) / 5)
    return [step * number for number in range(math.ceil(low / step), math.floor(high / step) + 1)]
