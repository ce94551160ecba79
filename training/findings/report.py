"""The report of a study.

DIR/report/index.html                       everything, in one file
DIR/report/study.md                         the tables, for a README
DIR/report/figure-3.png, ...                each figure: the three accuracies side by side
DIR/report/figure-3-pretext.svg, ...        each figure of one accuracy
DIR/report/{curves,students,answers}.csv    what the figures and tables show, unrounded
"""

from pathlib import Path

from pclkd.sharding.common.files import write_text
from pclkd.training.findings.claims import Findings
from pclkd.training.findings.exports import answers_csv, curves_csv, students_csv
from pclkd.training.findings.figures import Figure, figures_of, series_of
from pclkd.training.findings.page import render_page
from pclkd.training.findings.pictures import draw_picture
from pclkd.training.findings.records import Study, read_study
from pclkd.training.findings.sections import page_sections, study_text
from pclkd.training.findings.svg import draw_chart, epoch_axis, standalone
from pclkd.training.report.comparison import METRICS

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
    figures = figures_of(study)
    charts = {figure.name: _charts(study, figure) for figure in figures}
    for figure in figures:
        draw_picture(folder / f"{figure.name}.png", study, figure)
        for protocol, chart in charts[figure.name].items():
            write_text(folder / f"{figure.name}-{protocol}.svg", standalone(chart))
    for name, make in {"curves": curves_csv, "students": students_csv, "answers": answers_csv}.items():
        write_text(folder / f"{name}.csv", make(findings))
    write_text(folder / "study.md", study_text(findings))
    page = folder / "index.html"
    write_text(page, render_page(study, page_sections(findings, figures, charts)))
    return page


def _charts(study: Study, figure: Figure) -> dict[str, str]:
    """SVG by the metric's protocol."""
    return {
        metric.protocol: draw_chart(
            [(line, series_of(study, line, metric.key)) for line in figure.lines],
            epoch_axis(study.epochs),
            f"{figure.title}. {metric.title}: percent of the test videos against epochs",
        )
        for metric in METRICS
    }
