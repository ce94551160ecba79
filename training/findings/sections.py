"""What a study's page and its text are made of, in their order."""

from collections.abc import Callable, Mapping, Sequence

from pclkd.training.findings import page, tables
from pclkd.training.findings.claims import Findings
from pclkd.training.findings.devices import Devices
from pclkd.training.findings.figures import Figure
from pclkd.training.findings.finetuned import finetuned_table
from pclkd.training.findings.fractions import draw_fractions, fraction_lines
from pclkd.training.findings.published import published_table
from pclkd.training.findings.standing import standing_table
from pclkd.training.report.comparison import METRICS, Metric
from pclkd.training.report.page import Table, render_environments
from pclkd.training.report.report import markdown_table

__all__ = ["page_sections", "study_text"]

_HOW_TO_READ = (
    "Percent of the test videos. A thin line is a run; the thick one is the median over the repetitions measured by "
    "then, its last value at the right; the band goes from the lowest to the highest, or shows the standard error of "
    "the test videos where there is but one run. Dashed: teacher; dotted: the network without a teacher. Point at a "
    "figure for values, or move with the arrow keys; the buttons below it switch its lines."
)

_NO_HEAD = "What is exported is the backbone, which answers no pretext question: choose another accuracy above."

_OTHER_WAYS = {
    "What is distilled": tables.ablation_table,
    "Several teachers at once": tables.teachers_table,
    "Smaller and larger students": tables.width_table,
}
"""What studies may have beside the common plan, by heading."""


def page_sections(
    findings: Findings,
    figures: Sequence[Figure],
    charts: Mapping[str, Mapping[str, str]],
    devices: Devices,
) -> list[tuple[str, str]]:
    """(heading, HTML) of the page.

    Args:
        findings: the answers.
        figures: in their order.
        charts: SVG by the figure's name and the metric's protocol.
        devices: what was measured in ONNX Runtime.
    """
    study = findings.study
    standing = standing_table(findings)
    sections = [(standing.title, page.table_block(standing))]
    if study.main:
        verdicts = tables.verdict_table(findings)
        numbers = _blocks(lambda metric: [tables.claim_table(findings, metric)])
        sections.append((verdicts.title, page.table_block(verdicts) + numbers))
    if (missing := tables.missing_table(study)) is not None:
        which = f"<details><summary>Which</summary>{page.table_block(missing)}</details>"
        sections.append((missing.title, which))
    drawn = [page.chart_block(figure.title, charts[figure.name], figure.lines, live=True) for figure in figures]
    sections.append(("Accuracy by epoch", f'{page.grid(drawn)}<p class="note">{_HOW_TO_READ}</p>'))
    if study.main:
        body = _blocks(lambda metric: tables.matrices(findings, metric))
        sections.append(("Every teacher with every student", body))
    for heading, make in _OTHER_WAYS.items():
        if found := _blocks(_where_any(make, findings)):
            sections.append((heading, found))
    if fractions := _blocks(_where_any(tables.fraction_table, findings)):
        heading = "Final accuracy by share of the training videos"
        curves: dict[str, str] = {m.protocol: draw_fractions(study, m.key, f"{heading}. {m.title}") for m in METRICS}
        chart = page.chart_block(heading, curves, fraction_lines(study), live=False)
        sections.append(("Fewer training videos", chart + fractions))
    if (finetuned := finetuned_table(study)) is not None:
        sections.append((finetuned.title, page.table_block(finetuned)))
    if devices:
        table = devices.table()
        drawn_of = {METRICS[0].protocol: f'<p class="note">{_NO_HEAD}</p>', **charts["latency"]}
        chart = page.chart_block("Accuracy against latency", drawn_of, devices.lines(), live=False)
        sections.append((table.title, chart + page.table_block(table)))
    ends = [*_some(published_table(study)), tables.run_table(study)]
    sections += [(table.title, page.table_block(table)) for table in ends]
    if seen := page.learned_links(study):
        sections.append(("What the networks have learned", seen))
    sections.append(("Measured on", render_environments(list(study.records.values()))))
    sections.append(("Settings", page.settings_block(study)))
    return sections


def study_text(findings: Findings, devices: Devices) -> str:
    """All tables as Markdown."""
    study = findings.study
    verdicts = [tables.verdict_table(findings)] if study.main else []
    parts = [standing_table(findings), *verdicts, *_some(tables.missing_table(study))]
    for metric in METRICS if study.main else ():
        parts.append(tables.claim_table(findings, metric))
        for matrix in tables.matrices(findings, metric):
            parts.append(Table(f"{metric.title}: {matrix.title}", matrix.note, matrix.rows))
    for make in (*_OTHER_WAYS.values(), tables.fraction_table):
        parts += [table for metric in METRICS for table in _some(make(findings, metric))]
    parts += [*_some(finetuned_table(study)), *([devices.table()] if devices else [])]
    parts += [*_some(published_table(study)), tables.run_table(study)]
    return "\n".join(f"## {table.title}\n\n{markdown_table(table)}" for table in parts)


def _blocks(make: Callable[[Metric], Sequence[Table]]) -> str:
    """The tables of each metric side by side, of which the page shows those of the chosen one; empty without any."""
    found = {metric.protocol: make(metric) for metric in METRICS}
    if not any(found.values()):
        return ""
    return page.by_metric(
        {
            protocol: page.grid([page.table_block(table, table.title) for table in made])
            for protocol, made in found.items()
        }
    )


def _where_any(
    make: Callable[[Findings, Metric], Table | None], findings: Findings
) -> Callable[[Metric], Sequence[Table]]:
    return lambda metric: _some(make(findings, metric))


def _some(table: Table | None) -> list[Table]:
    return [] if table is None else [table]
