"""The report of a folder of runs: pictures, a table, and one page that holds them all.

DIR/report/overview.png                             the three accuracies side by side
DIR/report/{pretext,linear,retrieval,losses}.png    one each
DIR/report/table.md                                 for a README
DIR/report/index.html                               everything, in one file
"""

from collections.abc import Sequence
from pathlib import Path

from pclkd.sharding.common.errors import InputError
from pclkd.sharding.common.files import write_text
from pclkd.training.report import charts
from pclkd.training.report.comparison import METRICS, Standing, compare_runs
from pclkd.training.report.page import Table, render_page
from pclkd.training.runs.run_folder import find_runs

__all__ = ["evaluation_table", "markdown_table", "run_table", "teacher_table", "write_report"]

_NOTHING = "–"


def write_report(directory: str | Path) -> Path:
    """Draw and tabulate the run that `directory` is, or the runs in it.

    Returns:
        The report's page, DIR/report/index.html.

    Raises:
        InputError: no run there, a damaged one, or none that has finished an epoch.
    """
    directory = Path(directory)
    standings = compare_runs(find_runs(directory))
    if not any(standing.run.epochs for standing in standings):
        raise InputError(
            f"no run in {directory} has finished an epoch", remedy="wait for the first epoch, or train longer"
        )
    folder = directory / "report"
    folder.mkdir(exist_ok=True)
    charts.draw_overview(folder / "overview.png", standings)
    for metric in METRICS:
        charts.draw_metric(folder / f"{metric.protocol}.png", metric, standings)
    charts.draw_losses(folder / "losses.png", standings)
    tables = [table for make in (run_table, teacher_table, evaluation_table) if (table := make(standings)) is not None]
    write_text(folder / "table.md", "\n".join(markdown_table(table) for table in tables))
    page = folder / "index.html"
    pictures = {name: (folder / f"{name}.png").read_bytes() for name in ("overview", "losses")}
    write_text(page, render_page(standings, tables, pictures))
    return page


def run_table(standings: Sequence[Standing]) -> Table:
    """A row a run: what it is and its accuracies, final and (best)."""
    rows = [["run", "backbone", "teacher", "parameters", "epochs", *(f"{metric.short} %" for metric in METRICS)]]
    for standing in standings:
        parameters = _NOTHING if standing.parameters is None else f"{standing.parameters:,}"
        what = [standing.run.name, standing.backbone, standing.teacher or _NOTHING, parameters, str(standing.epochs)]
        rows.append(what + [_accuracy(standing, metric.key) for metric in METRICS])
    note = (
        "Percent of the validation videos after the last epoch; in brackets the best epoch, which was picked by "
        "looking at those same videos."
    )
    return Table("Runs", note, rows)


def teacher_table(standings: Sequence[Standing]) -> Table | None:
    """A row a run that has something to reach: points above the teacher's final value, and epochs to reach it."""
    rows = [["run", "against", *(f"{metric.short}: points (reached)" for metric in METRICS)]]
    for standing in standings:
        if standing.goal is not None:
            own = "" if standing.role == "student" else " (not its teacher)"
            rows.append([standing.run.name, standing.goal + own, *(_progress(standing, m.key) for m in METRICS)])
    note = (
        "Percentage points above or below the teacher's final value, and the first measured epoch at or above it. A "
        "run that had no teacher is held against the same value, as the yardstick."
    )
    return Table("Against the teacher", note, rows) if len(rows) > 1 else None


def evaluation_table(standings: Sequence[Standing]) -> Table | None:
    """A row a run: every percentage in its eval-<protocol>.json files, but those of single classes."""
    found = {
        standing.run.name: {
            (protocol, name): float(value)
            for protocol, content in standing.run.evals.items()
            for name, value in content.items()
            if name.endswith("_pct") and "_class" not in name and isinstance(value, int | float)
        }
        for standing in standings
    }
    columns = list(dict.fromkeys(column for figures in found.values() for column in figures))
    rows = [["run", *(_evaluation_heading(*column) for column in columns)]]
    for run, figures in found.items():
        if figures:
            cells = [f"{figures[column]:.1f}" if column in figures else _NOTHING for column in columns]
            rows.append([run, *cells])
    note = (
        "What train-kd evaluate found, percent of the test videos; the number of clips a video may differ from above."
    )
    return Table("Evaluation", note, rows) if len(rows) > 1 else None


def markdown_table(table: Table) -> str:
    """A table as GitHub reads it, with its note below; the first column is text, the others are numbers."""
    heading, *rows = [[cell.replace("|", "\\|") for cell in row] for row in table.rows]
    lines = [heading, ["---", *("---:" for _ in heading[1:])], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines) + f"\n{table.note}\n"


def _accuracy(standing: Standing, key: str) -> str:
    if key not in standing.final:
        return _NOTHING
    return f"{standing.final[key]:.1f} ({standing.best[key]:.1f})"


def _progress(standing: Standing, key: str) -> str:
    if key not in standing.ahead:
        return _NOTHING
    epoch = standing.reached[key]
    points = f"{standing.ahead[key]:+.1f}".replace("-", "\u2212")
    return f"{points} ({'not reached' if epoch is None else f'epoch {epoch}'})"


def _evaluation_heading(protocol: str, name: str) -> str:
    """linear, linear_top1_pct -> "linear top1 %"; retrieval, r5_pct -> "retrieval r5 %"."""
    figure = name.removesuffix("_pct").removeprefix(f"{protocol}_").replace("_", " ")
    return f"{protocol} {figure} %"
