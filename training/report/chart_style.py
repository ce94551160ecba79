"""How the pictures of a report look: colours, line styles, and labels that keep out of each other's way.

Colours are those of Okabe and Ito (https://jfly.uni-koeln.de/color/), which colour-blind readers tell apart; line
styles and markers say the same once more.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pclkd.training.report.comparison import Standing
from pclkd.training.report.seeds import SEEDS

__all__ = ["STYLE", "Look", "choose_looks", "spread"]

_STUDENTS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#8C6D31")
_ALONE = ("#A87400", "#8E5A7A", "#3F7F93", "#5F5F1A")
_TEACHERS = ("#6E6E6E", "#A8A8A8", "#3A3A3A")
_INK = "#333333"
_DASHED, _DOTTED = (0, (4.5, 2)), (0, (1.2, 1.1))

STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.parse_math": False,  # names are no formulas
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": "#B0B0B0",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.8,
    "xtick.color": "#B0B0B0",
    "ytick.color": "#B0B0B0",
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "figure.constrained_layout.h_pad": 0.09,
    "figure.constrained_layout.w_pad": 0.09,
    "legend.frameon": False,
    "legend.fontsize": 9,
}
"""Matplotlib settings of every picture; set explicitly, so that a user's own style does not change a report."""


@dataclass(frozen=True)
class Look:
    """How a run is drawn, and what the legend calls it.

    Attributes:
        line: keyword arguments of a line: colour, style, width.
        points: the same for its markers.
        label: for the legend.
    """

    line: dict[str, Any]
    points: dict[str, Any]
    label: str

    @property
    def colour(self) -> str:
        """Colour of the line."""
        return str(self.line["color"])


def choose_looks(standings: Sequence[Standing]) -> list[Look]:
    """One look a run: teachers dashed grey, students coloured, runs without a teacher dotted.

    Where nobody teaches, all runs are drawn as students are.
    """
    taught = any(standing.role == "student" for standing in standings)
    used = dict.fromkeys(("teacher", "student", "alone"), 0)
    looks = []
    for standing in standings:
        number, seeds = used[standing.role], standing.run.settings.get(SEEDS)
        name = f"{standing.run.name}, median of {seeds} seeds" if seeds else standing.run.name
        used[standing.role] += 1
        if standing.role == "teacher":
            line = {"color": _pick(_TEACHERS, number), "linestyle": _DASHED, "linewidth": 2.0}
            looks.append(Look(line, {"marker": ""}, f"{name} ({standing.backbone}, teacher)"))
        elif standing.role == "student" or not taught:
            line = {"color": _pick(_STUDENTS, number), "linestyle": "-", "linewidth": 2.0}
            tail = f", taught by {standing.teacher}" if standing.teacher else ""
            looks.append(Look(line, {"marker": "o", "markersize": 3.2}, f"{name} ({standing.backbone}{tail})"))
        else:
            line = {"color": _pick(_ALONE, number), "linestyle": _DOTTED, "linewidth": 2.0}
            points = {"marker": "s", "markersize": 3.2, "markerfacecolor": "white"}
            looks.append(Look(line, points, f"{name} ({standing.backbone}, no teacher)"))
    return looks


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Move positions as little as the order and a gap between neighbours ask for; all stay within [low, high].

    Where the gap does not fit that often, it shrinks. Returns the positions in the order of `wanted`.
    """
    n = len(wanted)
    if n > 1:
        gap = min(gap, (high - low) / (n - 1))
    order = sorted(range(n), key=lambda i: wanted[i])
    # With i * gap taken off, "a gap apart" becomes "not descending": pool neighbours that are out of order
    # (isotonic regression), which is the least-squares answer.
    blocks: list[tuple[float, int]] = []
    for rank, i in enumerate(order):
        block = (wanted[i] - rank * gap, 1)
        while blocks and blocks[-1][0] > block[0]:
            mean, size = blocks.pop()
            block = ((mean * size + block[0] * block[1]) / (size + block[1]), size + block[1])
        blocks.append(block)
    shifted = [mean for mean, size in blocks for _ in range(size)]
    placed = [0.0] * n
    for rank, i in enumerate(order):
        placed[i] = min(max(shifted[rank], low), high - (n - 1) * gap) + rank * gap
    return placed


def _pick(colours: Sequence[str], number: int) -> str:
    return colours[number % len(colours)]
