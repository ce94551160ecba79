"""A result as a picture: a bar a case, with the interval of its median."""

from pathlib import Path
from typing import Any

from pclkd.benchmarks.measuring.result import BenchmarkResult, Figure
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.common.files import atomic_write
from pclkd.training.report.chart_style import STYLE

__all__ = ["tells_growth", "write_chart", "write_growth_chart"]


_NAMES = {
    "open": "open the set",
    "first_batch": "first batch",
    "open_memory": "set opened, Python included",
    "first_batch_memory": "more with the first batch",
}
_COLOURS = ("#0072B2", "#D55E00")


def tells_growth(result: BenchmarkResult) -> bool:
    """Whether it is about sizes of data sets, and nothing else."""
    return all(figure.name.partition("/")[0] in _NAMES for figure in result.results)


def write_growth_chart(result: BenchmarkResult, path: Path) -> None:
    """Draw a result of `scale` over several sizes and write it as PNG, whole or not at all.

    Raises:
        InputError: a result without sizes of data sets.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Picture
    from matplotlib.style import context

    lines: dict[str, list[tuple[int, Figure]]] = {}
    for figure in result.results:
        name, _, size = figure.name.partition("/")
        if name in _NAMES and size.isdecimal():
            lines.setdefault(name, []).append((int(size), figure))
    if not lines:
        raise InputError(
            f"a result of {result.benchmark} without sizes of data sets", remedy="measure with scale --videos"
        )
    with context(STYLE):
        picture = Picture(figsize=(9.0, 3.6), dpi=160, layout="constrained")
        FigureCanvasAgg(picture)
        for panel, unit in zip(picture.subplots(1, 2), ("s", "MiB"), strict=True):
            told = {name: line for name, line in lines.items() if line[0][1].unit == unit}
            _draw_lines(panel, told)
            panel.set_ylabel("seconds" if unit == "s" else "MiB")
            if unit == "MiB":
                index = [(size, figure.extra["index_mib"]) for size, figure in lines["open"]]
                panel.plot(*zip(*index, strict=True), color="#A8A8A8", linestyle="--", label="index files, mapped")
            panel.legend(frameon=False)
        machine = result.env
        hardware = f"{machine['cpu']}, {machine['cores']} cores, {str(machine['date_utc'])[:10]}"
        picture.suptitle(f"what more videos cost, cold page cache: {hardware}", x=0.01, ha="left")
        with atomic_write(path) as file:
            picture.savefig(file, format="png")


def _draw_lines(panel: Any, lines: dict[str, list[tuple[int, Figure]]]) -> None:
    for colour, (name, line) in zip(_COLOURS, lines.items(), strict=True):
        sizes = [size for size, _ in line]
        medians = [figure.median for _, figure in line]
        below = [figure.median - figure.low for _, figure in line]
        above = [figure.high - figure.median for _, figure in line]
        panel.errorbar(sizes, medians, yerr=[below, above], color=colour, marker="o", capsize=2.5, label=_NAMES[name])
        panel.annotate(
            f"{medians[-1]:,.3g}", (sizes[-1], medians[-1]), xytext=(6, -3), textcoords="offset points", fontsize=8.5
        )
    panel.set_xscale("log")
    panel.set_yscale("log")
    for axis in (panel.xaxis, panel.yaxis):  # the style takes no text for a formula, which powers of ten would be
        axis.set_major_formatter("{x:,.10g}")
        axis.set_minor_formatter("")
    panel.margins(x=0.1)
    panel.set_xlabel("videos")


_OURS, _PEER, _BOUND = "#0072B2", "#A8A8A8", "#E3D9C6"


def write_chart(result: BenchmarkResult, path: Path) -> None:
    """Draw one panel for each unit and write it as PNG, whole or not at all."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Picture
    from matplotlib.style import context

    units = list(dict.fromkeys(figure.unit for figure in result.results))
    groups = [[figure for figure in result.results if figure.unit == unit] for unit in units]
    with context(STYLE):
        height = sum(0.55 + 0.36 * len(group) for group in groups) + 0.75
        picture = Picture(figsize=(7.2, height), dpi=160, layout="constrained")
        FigureCanvasAgg(picture)
        panels = picture.subplots(len(groups), squeeze=False, height_ratios=[len(group) for group in groups])
        for panel, unit, group in zip(panels[:, 0], units, groups, strict=True):
            _draw(panel, unit, group, set(result.bounding))
        machine = result.env
        hardware = f"{machine['gpu'] or machine['cpu']}, {machine['cores']} cores, {str(machine['date_utc'])[:10]}"
        work = result.settings.get("recipe")
        picture.suptitle(f"{result.benchmark}{f', recipe {work}' if work else ''}: {hardware}", x=0.01, ha="left")
        with atomic_write(path) as file:
            picture.savefig(file, format="png")


def _draw(panel: Any, unit: str, group: list[Figure], bounding: set[str]) -> None:
    values = [figure.median for figure in group]
    errors = [
        [figure.median - figure.low for figure in group],
        [figure.high - figure.median for figure in group],
    ]
    alone = not any(figure.name.startswith("pclkd") for figure in group)
    colours = [_colour(figure.name, alone, figure.name in bounding) for figure in group]
    panel.barh(range(len(group)), values, color=colours, height=0.66)
    panel.errorbar(values, range(len(group)), xerr=errors, fmt="none", ecolor="#333333", elinewidth=1.1, capsize=2.5)
    for row, figure in enumerate(group):
        panel.annotate(
            f"{figure.median:,.0f}" if figure.median >= 100 else f"{figure.median:.3g}",
            (figure.high, row),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
        )
    panel.set_yticks(range(len(group)), [figure.name.replace("_", " ") for figure in group])
    panel.invert_yaxis()
    panel.grid(visible=False, axis="y")
    panel.margins(x=0.12)
    panel.set_xlim(left=0)
    panel.set_xlabel(unit)


def _colour(name: str, alone: bool, bounding: bool) -> str:
    """Ours stands out; bounds, which nobody passes, are pale."""
    if bounding:
        return _BOUND
    return _OURS if alone or name.startswith("pclkd") else _PEER
