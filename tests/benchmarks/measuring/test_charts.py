from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Picture
from matplotlib.style import context

from pclkd.benchmarks.measuring.charts import _draw_lines
from pclkd.benchmarks.measuring.result import Figure, make_result
from pclkd.training.report.chart_style import STYLE


def test_sizes_and_seconds_are_written_as_numbers() -> None:
    """Powers of ten would stand there as the source of a formula."""
    values = {
        f"{name}/{10**power}": [0.01 * 10 ** (power - 3), 0.012 * 10 ** (power - 3)]
        for name in ("open", "first_batch")
        for power in range(3, 7)
    }
    lines: dict[str, list[tuple[int, Figure]]] = {"open": [], "first_batch": []}
    for figure in make_result("scale", "s", values, "open/1000", {}).results:
        name, _, size = figure.name.partition("/")
        lines[name].append((int(size), figure))
    with context(STYLE):
        picture = Picture()
        canvas = FigureCanvasAgg(picture)
        panel = picture.subplots()
        _draw_lines(panel, lines)
        canvas.draw()
    sizes, seconds = ({label.get_text() for label in axis.get_ticklabels()} for axis in (panel.xaxis, panel.yaxis))
    assert {"1,000", "1,000,000"} <= sizes and {"0.1", "1"} <= seconds
    assert not any("$" in text for text in sizes | seconds)
