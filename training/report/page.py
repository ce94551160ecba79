"""A report as one HTML file that needs nothing beside it: pictures, tables, and what they were measured on."""

import base64
import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pclkd.training.report.comparison import Standing
from pclkd.training.runs.run_folder import RunRecord

__all__ = ["Table", "render_environments", "render_page"]

_CSS = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; background: #f5f6f7; color: #24292f;
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 40px 24px 64px; }
h1 { font-size: 26px; margin: 0 0 4px; letter-spacing: -0.01em; }
h2 { font-size: 17px; margin: 0 0 14px; }
p { margin: 6px 0; }
.lead { color: #57606a; margin-bottom: 24px; }
section { background: #fff; border: 1px solid #e3e6e9; border-radius: 10px; padding: 22px 24px; margin-top: 20px; }
ul { margin: 0; padding-left: 20px; }
li { margin: 4px 0; }
img { display: block; width: 100%; height: auto; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: 13.5px; }
th { color: #57606a; font-weight: 600; text-align: right; vertical-align: bottom; line-height: 1.3;
  border-bottom: 2px solid #d0d7de; padding: 6px 10px; min-width: 72px; }
td { text-align: right; padding: 7px 10px; border-bottom: 1px solid #edeff1; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
td:first-child { font-weight: 600; }
tr:last-child td { border-bottom: 0; }
.note { color: #57606a; font-size: 13px; margin-top: 12px; }
details { margin-top: 10px; }
summary { cursor: pointer; }
pre { background: #f5f6f7; border-radius: 6px; padding: 12px; overflow-x: auto; font-size: 12.5px; line-height: 1.45; }
"""

# How each entry of env.json is told; what is not here is not of interest to a reader.
_ENVIRONMENT = {
    "gpu": "{}",
    "gpu_memory_gib": "{} GiB of GPU memory",
    "gpu_driver": "driver {}",
    "cuda": "CUDA {}",
    "cpu": "{}",
    "cores": "{} cores",
    "memory_gib": "{} GiB of memory",
    "os": "{}",
    "python": "Python {}",
    "torch": "torch {}",
    "dali": "DALI {}",
    "pclkd": "pclkd {}",
    "git_commit": "commit {:.12}",
}


@dataclass(frozen=True)
class Table:
    """A table of the report.

    Attributes:
        title: its heading.
        note: how to read it.
        rows: rows of cells, the column headings first.
    """

    title: str
    note: str
    rows: list[list[str]]


def render_page(standings: Sequence[Standing], tables: Sequence[Table], pictures: Mapping[str, bytes]) -> str:
    """The page.

    Args:
        standings: the runs, in their order.
        tables: in their order.
        pictures: PNG bytes of "overview" and "losses".
    """
    names = ", ".join(standing.run.name for standing in standings)
    parts = [
        f"<h1>{_text(_title(standings))}</h1>",
        f'<p class="lead">{_text(names)}</p>',
        _section("Accuracy by epoch", _picture(pictures["overview"], "accuracy against epochs, a curve a run")),
        *(_section(table.title, _table(table)) for table in tables),
        _section("Training losses", _picture(pictures["losses"], "training losses against epochs, a curve a run")),
        _section("Measured on", render_environments([standing.run for standing in standings])),
        _section("Settings", "".join(_settings(standing) for standing in standings)),
    ]
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(_title(standings))}</title>\n<style>{_CSS}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _title(standings: Sequence[Standing]) -> str:
    if any(standing.role == "student" for standing in standings):
        return "Teacher and students"
    return "Training runs" if len(standings) > 1 else f"Training run {standings[0].run.name}"


def _section(heading: str, body: str) -> str:
    return f"<section>\n<h2>{_text(heading)}</h2>\n{body}\n</section>"


def _picture(png: bytes, description: str) -> str:
    return f'<img alt="{_text(description)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'


def _table(table: Table) -> str:
    heading, *rows = table.rows
    cells = "".join(f"<th>{_text(cell)}</th>" for cell in heading)
    body = "".join("<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>\n" for row in rows)
    scroll = f'<div class="scroll"><table>\n<thead><tr>{cells}</tr></thead>\n<tbody>\n{body}</tbody></table></div>'
    return f'{scroll}\n<p class="note">{_text(table.note)}</p>'


def render_environments(runs: Sequence[RunRecord]) -> str:
    """One line for all runs that were made on the same machine with the same versions."""
    machines: dict[str, list[str]] = {}
    for run in runs:
        machines.setdefault(_environment(run.environment), []).append(run.name)
    items = [
        f"<li><b>{_text(', '.join(names))}</b>: {_text(machine or 'not recorded')}</li>"
        for machine, names in machines.items()
    ]
    return f"<ul>{''.join(items)}</ul>"


def _environment(environment: Mapping[str, object]) -> str:
    told = [
        text.format(str(environment[key])) for key, text in _ENVIRONMENT.items() if environment.get(key) is not None
    ]
    if environment and environment.get("gpu") is None:
        told.insert(0, "no GPU")
    return " · ".join(told)


def _settings(standing: Standing) -> str:
    text = json.dumps(standing.run.settings, indent=2, ensure_ascii=False)
    name = f"{standing.run.name} ({standing.backbone})"
    return f"<details><summary>{_text(name)}</summary><pre>{_text(text)}</pre></details>"


def _text(text: str) -> str:
    return html.escape(text)
