"""A report as one HTML file that needs nothing beside it: pictures, tables, and what they were measured on."""

import base64
import html
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pclkd.training.report.comparison import Standing
from pclkd.training.runs.run_folder import RunRecord

__all__ = [
    "INK",
    "PLAIN",
    "Table",
    "colour_rules",
    "html_document",
    "render_environments",
    "render_page",
    "table_block",
]

INK = ("#24292f", "#d8dee4")
"""Colour of writing and of teachers, on white and on dark; other colours are told so too."""
PLAIN = {"--ink": INK, "--paper": ("#ffffff", "#161b22"), "--rule": ("#e6e6e6", "#30363d")}
"""Colours that charts have too, by their names in style rules."""
_STYLE = """
:root { color-scheme: light dark; --back: light-dark(#f5f6f7, #0d1117); --soft: light-dark(#57606a, #9aa4af); }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 4px; }
h2 { font-size: 18px; margin: 0 0 12px; }
h3 { font-size: 14px; line-height: 1.35; margin: 14px 0 8px; }
.lead, .note { color: var(--soft); }
.note { font-size: 13px; margin: 10px 0 0; }
section { background: var(--paper); border: 1px solid var(--rule); border-radius: 10px; padding: 20px;
  margin-top: 18px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 13.5px; font-variant-numeric: tabular-nums; }
td { white-space: nowrap; }
th, td { padding: 6px 9px; text-align: right; border-bottom: 1px solid var(--rule); }
th { color: var(--soft); vertical-align: bottom; line-height: 1.3; }
th:first-child { text-align: left; padding-left: 0; }
tbody th { color: inherit; min-width: 110px; vertical-align: middle; }
.long tbody th { min-width: 170px; font-weight: 500; }
:focus-visible { outline: 2px solid light-dark(#0969da, #58a6ff); outline-offset: 2px; }
summary { cursor: pointer; margin-top: 8px; }
pre { overflow-x: auto; font-size: 12.5px; line-height: 1.45; background: var(--back); border-radius: 6px;
  padding: 12px; }
@media (max-width: 500px) { main { padding: 18px 8px 40px; } section { padding: 14px 10px; } }
@media print { :root { color-scheme: light; } body { background: none; } section { border: 0; padding: 0; }
  figure, table { break-inside: avoid; } }
"""
_PICTURES = "img { display: block; width: 100%; height: auto; background: #fff; border-radius: 6px; }\n"
_LONG = 40  # characters of a row's name, from which on it has room to wrap

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
    sections = [
        ("Accuracy by epoch", _picture(pictures["overview"], "accuracy against epochs, a curve a run")),
        *((table.title, table_block(table)) for table in tables),
        ("Training losses", _picture(pictures["losses"], "training losses against epochs, a curve a run")),
        ("Measured on", render_environments([standing.run for standing in standings])),
        ("Settings", "".join(_settings(standing) for standing in standings)),
    ]
    return html_document(_title(standings), names, sections, style=_PICTURES)


def html_document(
    title: str, lead: str, sections: Sequence[tuple[str, str]], *, above: str = "", style: str = "", scripts: str = ""
) -> str:
    """A page that needs nothing beside it, for light, for dark and for paper.

    Args:
        title: of the page.
        lead: a line below it.
        sections: (heading, HTML) in their order.
        above: HTML before the sections.
        style: rules beside the common ones.
        scripts: HTML at the end.
    """
    body = "\n".join(f"<section>\n<h2>{_text(heading)}</h2>\n{text}\n</section>" for heading, text in sections)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(title)}</title>\n<style>\n{colour_rules(PLAIN)}{_STYLE}{style}</style>\n</head>\n"
        f'<body>\n<main>\n<h1>{_text(title)}</h1>\n<p class="lead">{_text(lead)}</p>\n{above}\n'
        f"{body}\n</main>\n{scripts}\n</body>\n</html>\n"
    )


def colour_rules(colours: Mapping[str, tuple[str, str]]) -> str:
    """Style rules that name colours, each for light and for dark."""
    rules = "".join(f"{name}: light-dark({light}, {dark}); " for name, (light, dark) in colours.items())
    return f":root {{ {rules}}}\n"


def _cell(text: str) -> str:
    """A cell that is plain text."""
    return f"<td>{_text(text)}</td>"


def table_block(table: Table, heading: str = "", *, cell: Callable[[str], str] = _cell) -> str:
    """A table with its note.

    Args:
        table: see there.
        heading: above it, where its title is not told.
        cell: makes each cell, but those of the first row and column.
    """
    first, *rows = table.rows
    cells = "".join(f'<th scope="col">{_text(text)}</th>' for text in first)
    body = "".join(f'<tr><th scope="row">{_text(row[0])}</th>{"".join(map(cell, row[1:]))}</tr>\n' for row in rows)
    note = f'\n<p class="note">{_text(table.note)}</p>' if table.note else ""
    long = ' class="long"' if max(len(row[0]) for row in rows) > _LONG else ""
    above = f"<h3>{_text(heading)}</h3>\n" if heading else ""
    # Reachable by keys, since it may have to be scrolled, and told by its name there.
    region = f'tabindex="0" role="region" aria-label="{_text(heading or table.title or first[0])}"'
    return (
        f'<div>{above}<div class="scroll" {region}><table{long}>\n<thead><tr>{cells}</tr></thead>\n'
        f"<tbody>\n{body}</tbody></table></div>{note}</div>"
    )


def _title(standings: Sequence[Standing]) -> str:
    if any(standing.role == "student" for standing in standings):
        return "Teacher and students"
    return "Training runs" if len(standings) > 1 else f"Training run {standings[0].run.name}"


def _picture(png: bytes, description: str) -> str:
    return f'<img alt="{_text(description)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'


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
