"""`bench-throughput all`."""

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pclkd.benchmarks.measuring.session import check_places
from pclkd.benchmarks.options import PATH
from pclkd.benchmarks.suite.sections import SECTIONS
from pclkd.training.options import Finite

if TYPE_CHECKING:
    from pclkd.benchmarks.measuring.result import BenchmarkResult

__all__ = ["measure_all"]


@click.command("all")
@click.option(
    "--minutes",
    type=Finite(min=0, min_open=True),
    default=8.0,
    show_default=True,
    help="For everything. 2 idle cores need 5 for all sections; with fewer the last ones are left out, and named.",
)
@click.option("--data", default=None, help="Shard set of shard-ucf101 pack, or its URL.  [default: a rendered one]")
@click.option("--videos", type=PATH, default=None, help="The originals that --data was packed from.")
@click.option("--splits", type=PATH, default=None, help="The lists that belong to --videos, where they have some.")
@click.option(
    "--only",
    type=click.Choice([section.name for section in SECTIONS]),
    multiple=True,
    help="A section; may be given several times.  [default: all]",
)
@click.option("--rounds", type=click.IntRange(min=1), default=None, help="Turns of each case, at most.  [default: 20]")
@click.option(
    "--json", "json_file", type=PATH, default=None, help="Write all figures to this file, after each section."
)
@click.option("--chart", "chart", type=PATH, default=None, help="Draw them: one sheet (x.png), or a folder.")
def measure_all(
    minutes: float,
    data: str | None,
    videos: Path | None,
    splits: Path | None,
    only: tuple[str, ...],
    rounds: int | None,
    json_file: Path | None,
    chart: Path | None,
) -> None:
    """Everything that this machine can show, with or without a GPU, within --minutes; works without any data.

    Packing, loading and its peers with both recipes, the step with its peers and its choices, the teacher, training end
    to end, larger data sets, more processes. A section that fails is named, and the rest goes on.
    """
    check_places(json_file, chart / "x.png" if chart is not None and chart.is_dir() else chart)
    from pclkd.benchmarks.measuring.result import show_result, write_result
    from pclkd.benchmarks.suite.benchmark import AllBenchmark
    from pclkd.benchmarks.suite.result import show_summary, write_charts

    parts: dict[str, BenchmarkResult] = {}

    def on_start(name: str, seconds: float) -> None:
        click.echo(f"{name}: {seconds:.0f} s", err=True)

    def on_section(name: str, found: "BenchmarkResult | str", so_far: "BenchmarkResult | None") -> None:
        if isinstance(found, str):
            click.echo(f"\n== {name} is missing: {found}")
        else:
            parts[name] = found
            click.echo(f"\n== {name}\n{show_result(found)}")
        if so_far is not None and json_file is not None:
            write_result(so_far, json_file)  # a run that is ended early leaves what it has

    # Ended politely, it takes its processes and folders with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    result = AllBenchmark(minutes, data, videos, splits, only, rounds).run(on_start, on_section)
    click.echo(f"\n{show_summary(result)}")
    if json_file is not None:
        write_result(result, json_file)
    if chart is not None:
        write_charts(parts, chart)
