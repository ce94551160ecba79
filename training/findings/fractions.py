"""Final accuracies against the share of the training videos: students of each backbone beside it without a teacher."""

from pclkd.training.findings.arithmetic import final_accuracy
from pclkd.training.findings.figures import Line, Series, colour_of, repetition_series
from pclkd.training.findings.records import Study
from pclkd.training.findings.svg import Axis, draw_chart

__all__ = ["draw_fractions", "fraction_lines"]


def fraction_lines(study: Study) -> list[Line]:
    """Students, whoever taught them, and controls of each backbone; none where all runs have the same share."""
    trios = study.beside_main("fraction")
    if len({trio.pair.fraction for trio in trios}) < 2:
        return []
    lines = []
    for name in dict.fromkeys(trio.pair.student for trio in trios):
        own = [trio for trio in trios if trio.pair.student == name]
        controls = {trio.control.name: trio.control for trio in own if trio.control is not None}
        colour = colour_of(study, name)
        lines.append(Line(f"{name}, no teacher", "control", colour, tuple(controls.values())))
        lines.append(Line(f"{name}, students", "student", colour, tuple(trio.student for trio in own)))
    return [line for line in lines if line.runs]


def draw_fractions(study: Study, metric: str, description: str) -> str:
    """SVG; a thin line a repetition, which is the mean of its runs of one share."""
    shares = sorted({trio.pair.fraction for trio in study.beside_main("fraction")})
    axis = Axis("training videos", len(shares) - 1, [(place, f"{100 * s:g} %") for place, s in enumerate(shares)])
    lines = [(line, _series(study, line, metric, shares)) for line in fraction_lines(study)]
    return draw_chart(lines, axis, description)


def _series(study: Study, line: Line, metric: str, shares: list[float]) -> Series:
    found: dict[int, dict[float, list[float]]] = {}
    for run in line.runs:
        curve = study.curve(run, metric)
        if curve is not None and curve.length >= study.epochs:
            by_share = found.setdefault(run.group, {})
            by_share.setdefault(shares.index(run.fraction), []).append(float(final_accuracy(curve)[0]))
    return repetition_series(line.label, found)
