"""The report of a study.

DIR/report/index.html                       everything, in one file
DIR/report/study.md                         the tables, for a README
DIR/report/figure-3.png, ...                each figure: the three accuracies side by side
DIR/report/figure-3-pretext.svg, ...        each figure of one accuracy
DIR/report/latency.png, ...                 accuracy against latency, where train-kd latency measured it
DIR/report/{curves,students,answers}.csv    what the figures and tables show, unrounded
"""

from pathlib import Path

from pclkd.sharding.common.files import write_text
from pclkd.training.findings.claims import Findings
from pclkd.training.findings.devices import Devices
from pclkd.training.findings.exports import answers_csv, curves_csv, students_csv
from pclkd.training.findings.figures import Figure, Line, Series, figures_of, series_of
from pclkd.training.findings.page import render_page
from pclkd.training.findings.pictures import draw_picture
from pclkd.training.findings.records import Study, read_study
from pclkd.training.findings.sections import page_sections, study_text
from pclkd.training.findings.svg import draw_chart, epoch_axis, standalone
from pclkd.training.report.comparison import METRICS, Metric

__all__ = ["write_study_report"]


def write_study_report(directory: str | Path) -> Path:
    """Draw and tabulate a study, as far as it got.

    Returns:
        The report's page, DIR/report/index.html.

    Raises:
        InputError: study.json or a run's folder is damaged, or no run has finished an epoch.
    """
    study = read_study(directory)
    findings = Findings(study)
    folder = Path(directory) / "report"
    folder.mkdir(exist_ok=True)
    figures, devices = figures_of(study), Devices(study, Path(directory))
    charts = {figure.name: _charts(study, figure) for figure in figures}
    for figure in figures:
        panels = {metric.title: _lines(study, figure, metric) for metric in METRICS}
        draw_picture(folder / f"{figure.name}.png", panels, epoch_axis(study.epochs))
    if devices:
        charts["latency"] = devices.charts()
        draw_picture(folder / "latency.png", devices.panels(), devices.axis())
    for name, found in charts.items():
        for protocol, chart in found.items():
            write_text(folder / f"{name}-{protocol}.svg", standalone(chart))
    for name, make in {"curves": curves_csv, "students": students_csv, "answers": answers_csv}.items():
        write_text(folder / f"{name}.csv", make(findings))
    write_text(folder / "study.md", study_text(findings, devices))
    page = folder / "index.html"
    write_text(page, render_page(study, page_sections(findings, figures, charts, devices)))
    return page


def _charts(study: Study, figure: Figure) -> dict[str, str]:
    """SVG by the metric's protocol."""
    return {
        metric.protocol: draw_chart(
            _lines(study, figure, metric),
            epoch_axis(study.epochs),
            f"{figure.title}. {metric.title}: percent of the test videos against epochs",
        )
        for metric in METRICS
    }


def _lines(study: Study, figure: Figure, metric: Metric) -> list[tuple[Line, Series]]:
    return [(line, series_of(study, line, metric.key)) for line in figure.lines]
