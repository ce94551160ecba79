"""The report of a folder of runs: pictures, a table, and one page that holds them all.

DIR/report/overview.png                             the three accuracies side by side
DIR/report/{pretext,linear,retrieval,losses}.png    one each
DIR/report/table.md                                 for a README
DIR/report/table.csv                                a row a run, every figure unrounded, for programs
DIR/report/index.html                               everything, in one file
"""

import csv
import html
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pclkd.sharding.common.errors import InputError
from pclkd.sharding.common.files import write_text
from pclkd.training.report import charts
from pclkd.training.report.comparison import METRICS, Standing, compare_runs
from pclkd.training.report.page import Table, render_page
from pclkd.training.report.seeds import group_seeds, median_run, seed_table
from pclkd.training.runs.run_folder import Measured, find_runs

__all__ = ["csv_table", "evaluation_table", "markdown_table", "run_table", "teacher_table", "write_report"]

_NOTHING = "–"
_ERROR = " ± the standard error over videos (what another seed would change is not in it)"


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
    runs = [standing for standing in standings if standing.role != "control"]
    groups = group_seeds(runs)
    medians = compare_runs([median_run(group) for group in groups])
    charts.draw_overview(folder / "overview.png", medians)
    for metric in METRICS:
        charts.draw_metric(folder / f"{metric.protocol}.png", metric, medians)
    charts.draw_losses(folder / "losses.png", medians)
    made = (seed_table(groups), run_table(runs), teacher_table(medians), evaluation_table(standings))
    tables = [table for table in made if table is not None]
    write_text(folder / "table.md", "\n".join(markdown_table(table) for table in tables))
    write_text(folder / "table.csv", csv_table(standings))
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
        f"Percent of the validation videos after the last epoch{_ERROR}; in brackets the best epoch, which was picked "
        "by looking at those same videos."
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
        "Percentage points above or below the teacher's final value, and the first measured epoch at or above it. The "
        "standard error is that of two networks measured on different videos: as a rule too large, since they saw the "
        "same ones. A run that had no teacher is held against the same value, as the yardstick."
    )
    return Table("Against the teacher", note, rows) if len(rows) > 1 else None


def evaluation_table(standings: Sequence[Standing]) -> Table | None:
    """A row a run: every percentage in its eval-<protocol>.json files, but those of single classes."""
    found = {
        standing.run.name: {
            (protocol, name): Measured.of(content, name)
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
            cells = [str(figures[column]) if column in figures else _NOTHING for column in columns]
            rows.append([run, *cells])
    note = (
        f"What train-kd evaluate found, percent of the test videos{_ERROR}; the number of clips a video may differ "
        "from above."
    )
    if any(standing.role == "control" for standing in standings):
        note += " Controls, by train-kd controls: what PCL is measured against."
    return Table("Evaluation", note, rows) if len(rows) > 1 else None


def csv_table(standings: Sequence[Standing]) -> str:
    """A row a run: the figures of all tables, unrounded, errors beside them; empty where there is none."""
    rows = [_csv_row(standing) for standing in standings]
    text = io.StringIO()
    names = dict.fromkeys(name for row in rows for name in row)
    writer = csv.DictWriter(text, list(names), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _csv_row(standing: Standing) -> dict[str, Any]:
    row: dict[str, Any] = {
        "run": standing.run.name,
        "role": standing.role,
        "backbone": standing.backbone,
        "teacher": standing.teacher,
        "against": standing.goal,
        "parameters": standing.parameters,
        "epochs": standing.epochs,
    }
    for kind, figures in (("val", standing.final), ("best", standing.best), ("ahead", standing.ahead)):
        for metric in METRICS:
            name = f"{kind}/{metric.key.removeprefix('val/')}"
            row[name], row[f"{name}_se"] = figures.get(metric.key, (None, None))
    for metric in METRICS:
        row[f"reached/{metric.key.removeprefix('val/')}"] = standing.reached.get(metric.key)
    for protocol, content in standing.run.evals.items():
        for name, value in content.items():
            if name.endswith(("_pct", "_pct_se")) and isinstance(value, int | float):
                row[f"eval/{protocol}/{name}"] = value
    return row


def markdown_table(table: Table) -> str:
    """A table as GitHub reads it, with its note below; the first column is text, the others are numbers."""
    heading, *rows = [[_plain(cell) for cell in row] for row in table.rows]
    lines = [heading, ["---", *("---:" for _ in heading[1:])], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines) + f"\n{table.note}\n"


def _plain(cell: str) -> str:
    """A cell whose text stands for itself in Markdown: no HTML, no links, no further cells."""
    return html.escape(re.sub(r"([\\`|\[\]])", r"\\\1", cell), quote=False)


def _accuracy(standing: Standing, key: str) -> str:
    if key not in standing.final:
        return _NOTHING
    return f"{standing.final[key]} ({standing.best[key].value:.1f})"


def _progress(standing: Standing, key: str) -> str:
    if key not in standing.ahead:
        return _NOTHING
    epoch = standing.reached[key]
    ahead = standing.ahead[key]
    points = ("+" if ahead.value >= 0 else "") + str(ahead).replace("-", "\u2212")
    return f"{points} ({'not reached' if epoch is None else f'epoch {epoch}'})"


def _evaluation_heading(protocol: str, name: str) -> str:
    """linear, linear_top1_pct -> "linear top1 %"; retrieval, r5_pct -> "retrieval r5 %"."""
    figure = name.removesuffix("_pct").removeprefix(f"{protocol}_").replace("_", " ")
    return f"{protocol} {figure} %"
