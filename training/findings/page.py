"""The page of a study: one HTML file that needs nothing beside it, and answers to pointer and keys by itself."""

import html
import json
import re
import urllib.parse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pclkd.training.findings.figures import Line
from pclkd.training.findings.records import Study
from pclkd.training.findings.svg import chart_colours
from pclkd.training.findings.tables import MARKS
from pclkd.training.report import page
from pclkd.training.report.comparison import METRICS
from pclkd.training.report.page import Table
from pclkd.training.runs.run_folder import LEARNED_PAGE

__all__ = [
    "by_metric",
    "chart_block",
    "grid",
    "html_document",
    "learned_links",
    "render_page",
    "settings_block",
    "table_block",
]

_STYLE, _SCRIPT = (Path(__file__).with_name(name).read_text() for name in ("page.css", "page.js"))
_CLASSES = dict(zip(MARKS.values(), ("held", "fell", "open"), strict=True))


def render_page(study: Study, sections: Sequence[tuple[str, str]]) -> str:
    """The page.

    Args:
        study: the study.
        sections: (heading, HTML) in their order.
    """
    done = len(study.runs) - len(list(study.unfinished()))
    repetitions = len({run.group for run in study.runs})
    lead = (
        f"{done} of {len(study.runs)} runs finished · {_counted(repetitions, 'repetition')} · "
        f"{_counted(study.epochs, 'epoch')} a run" + (f" · preset {study.preset}" if study.preset else "")
    )
    curves = json.dumps(_curves(study), separators=(",", ":")).replace("<", "\\u003c")
    scripts = f'<script type="application/json" id="curves">{curves}</script>\n<script>\n{_SCRIPT}</script>'
    return html_document("Teachers and students", lead, sections, above=_controls(study), scripts=scripts)


def html_document(
    title: str, lead: str, sections: Sequence[tuple[str, str]], *, scripts: str, above: str = "", style: str = ""
) -> str:
    """A page in the style of a study's.

    Args:
        title: of the page.
        lead: a line below it.
        sections: (heading, HTML) in their order.
        scripts: HTML at the end.
        above: HTML before the sections.
        style: rules beside the common ones.
    """
    rules = chart_colours() + _STYLE + style
    return page.html_document(title, lead, sections, above=above, style=rules, scripts=scripts)


def table_block(table: Table, heading: str = "") -> str:
    """A table with its note; cells that begin with a verdict's mark have its colour."""
    return page.table_block(table, heading, cell=_cell)


def chart_block(title: str, charts: Mapping[str, str], lines: Sequence[Line], *, live: bool) -> str:
    """A figure: the chart of each metric, and a button a line, which tells what it is also where no script runs.

    Args:
        title: its heading.
        charts: SVG by the metric's protocol.
        lines: what the buttons are about.
        live: values are shown under the pointer: the runs are the study's own.
    """
    buttons = "".join(
        f'<button type="button" disabled aria-pressed="true" data-label="{html.escape(line.label)}">'
        f'<svg class="chart key" viewBox="0 0 26 8" aria-hidden="true"><g class="c{line.colour} {line.role}">'
        f'<polyline class="median" points="0,4 26,4"/></g></svg>{html.escape(line.label)}</button>'
        for line in lines
    )
    tip = '\n<div class="tip" role="status"></div>' if live else ""
    return (
        f"<figure{' class=live' if live else ''}>\n<h3>{html.escape(title)}</h3>\n{by_metric(charts)}{tip}\n"
        f"<figcaption>{buttons}</figcaption>\n</figure>"
    )


def by_metric(blocks: Mapping[str, str]) -> str:
    """HTML of which the page shows that of the chosen metric; without the script all of it."""
    return "\n".join(f'<div data-metric="{protocol}">\n{text}\n</div>' for protocol, text in blocks.items())


def grid(blocks: Sequence[str]) -> str:
    """Blocks side by side where there is room."""
    body = "\n".join(blocks)
    return f'<div class="grid-of">\n{body}\n</div>'


def learned_links(study: Study) -> str:
    """Links to what `train-kd visualize` made of the runs, as seen from the report's folder; empty without any."""
    names = [name for name, record in study.records.items() if (record.path / LEARNED_PAGE).is_file()]
    links = "".join(
        f'<li><a href="../{urllib.parse.quote(name)}/{LEARNED_PAGE.as_posix()}">{html.escape(name)}</a></li>'
        for name in names
    )
    note = "Pages beside the runs, by train-kd visualize: they are not in this file."
    return f'<ul>{links}</ul>\n<p class="note">{note}</p>' if names else ""


def settings_block(study: Study) -> str:
    """The settings that all runs share, and a table of those that differ; teachers are told by their names."""
    flat = {name: dict(_flat(record.settings)) for name, record in study.records.items()}
    names = list(dict.fromkeys(name for settings in flat.values() for name in settings))

    def told(value: Any) -> str:
        text = json.dumps(value, ensure_ascii=False)
        return re.sub(r'"[^"]*[/\\]([^"/\\]+)"', lambda found: f'"{found[1]}"' if found[1] in flat else found[0], text)

    values = {name: [told(settings.get(name)) for settings in flat.values()] for name in names}
    shared = [name for name in names if len(set(values[name])) == 1]
    differing = [name for name in names if len(set(values[name])) > 1]
    text = html.escape("\n".join(f"{name} = {values[name][0]}" for name in shared))
    rows = [["run", *differing]]
    rows += [[run, *(values[name][number] for name in differing)] for number, run in enumerate(flat)]
    table = table_block(Table("Settings that differ", "", rows)) if differing else ""
    return (
        f"<details><summary>{len(shared)} settings that all runs share</summary><pre>{text}</pre></details>\n"
        f"<details><summary>Settings that differ</summary>{table}</details>"
    )


def _flat(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in settings.items():
        if prefix + name == "terms":
            continue  # how terms are told, which is no setting
        found += _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else [(prefix + name, value)]
    return found


def _controls(study: Study) -> str:
    metrics = "".join(
        f'<label><input type="radio" name="metric" value="{metric.protocol}"{" checked" if not number else ""}> '
        f"{html.escape(metric.title)}</label>"
        for number, metric in enumerate(METRICS)
    )
    boxes = (("runs", "each run"), ("spread", "spread"), ("controls", "no teacher"))
    shown = "".join(f'<label><input type="checkbox" name="{name}" checked> {text}</label>' for name, text in boxes)
    groups = "".join(
        f'<label><input type="checkbox" name="group" value="{group}" checked> {group}</label>'
        for group in sorted({run.group for run in study.runs})
    )
    return (
        f'<form id="controls" hidden>\n<fieldset><legend>Accuracy</legend>{metrics}</fieldset>\n'
        f"<fieldset><legend>Show</legend>{shown}</fieldset>\n"
        f"<fieldset><legend>Repetitions</legend>{groups}</fieldset>\n</form>"
    )


def _curves(study: Study) -> dict[str, dict[str, list[list[float]]]]:
    """By metric and run: epochs and percentages, as the script reads them."""
    found: dict[str, dict[str, list[list[float]]]] = {}
    for metric in METRICS:
        curves = {run.name: study.curve(run, metric.key) for run in study.runs}
        found[metric.protocol] = {
            name: [[int(epoch) for epoch in curve.epochs], [round(float(value), 2) for value in curve.values[0]]]
            for name, curve in curves.items()
            if curve is not None
        }
    return found


def _cell(text: str) -> str:
    kind, (value, bracket, more) = _CLASSES.get(text[:1]), text.partition(" (")
    interval = f" <small>({html.escape(more)}</small>" if bracket else ""
    return f"<td{f' class={kind}' if kind else ''}>{html.escape(value)}{interval}</td>"


def _counted(count: int, thing: str) -> str:
    return f"{count} {thing}{'' if count == 1 else 's'}"
