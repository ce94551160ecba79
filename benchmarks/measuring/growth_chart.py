"""Growth as a picture: what more videos cost in seconds and in memory, both axes logarithmic."""

from pathlib import Path
from typing import Any

from pclkd.benchmarks.measuring.result import BenchmarkResult, Figure
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.common.files import atomic_write
from pclkd.training.report.chart_style import STYLE

__all__ = ["tells_growth", "write_growth_chart"]

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
            _draw(panel, told)
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


def _draw(panel: Any, lines: dict[str, list[tuple[int, Figure]]]) -> None:
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
    panel.margins(x=0.1)
    panel.set_xlabel("videos")
