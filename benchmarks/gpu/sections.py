"""What is found out, in which order, with which part of the time; each section has a process of its own."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pclkd.benchmarks.gpu.bench import Bench

__all__ = ["SECTIONS", "Section", "carried_out"]


@dataclass(frozen=True)
class Section:
    """Some rows.

    Attributes:
        name: of the section.
        weight: its part of the time: seconds that it may take of nine minutes.
        find: takes the rows. What it needs is imported in it: where that is missing, the other sections go on.
        needs_data: whether it reads the shards that "data" makes.
    """

    name: str
    weight: float
    find: Callable[["Bench"], None]
    needs_data: bool = False


def _health(bench: "Bench") -> None:
    from pclkd.benchmarks.gpu.health import health

    health(bench)


def _data(bench: "Bench") -> None:
    from pclkd.benchmarks.gpu.pixels import data

    data(bench)


def _parity(bench: "Bench") -> None:
    from pclkd.benchmarks.gpu.pixels import parity

    parity(bench)


def _losses(bench: "Bench") -> None:
    from pclkd.benchmarks.gpu.steps import losses

    losses(bench)


def _resume(bench: "Bench") -> None:
    from pclkd.benchmarks.gpu.training import resume

    resume(bench)


def _loading(bench: "Bench") -> None:
    from pclkd.benchmarks.gpu.pixels import loading

    loading(bench)


def _step(bench: "Bench") -> None:
    from pclkd.benchmarks.gpu.steps import step

    step(bench)


def _untuned(bench: "Bench") -> None:
    from pclkd.benchmarks.gpu.steps import untuned

    untuned(bench)


def _compiled(bench: "Bench") -> None:
    from pclkd.benchmarks.gpu.steps import compiled

    compiled(bench)


def _training(bench: "Bench") -> None:
    from pclkd.benchmarks.gpu.training import training

    training(bench)


SECTIONS = (
    Section("health", 35, _health),
    Section("data", 30, _data),
    Section("parity", 45, _parity, needs_data=True),
    Section("losses", 55, _losses),
    Section("resume", 30, _resume, needs_data=True),
    Section("loading", 80, _loading, needs_data=True),
    Section("step", 120, _step),
    Section("untuned", 15, _untuned),
    Section("compiled", 90, _compiled),
    Section("training", 105, _training, needs_data=True),
)
"""In the order of the run: what one leaves of its time goes to those behind it, and the last one takes the rest."""


def carried_out(section: Section, bench: "Bench") -> None:
    """Take the rows of a section; one that cannot even begin is a row with its error."""

    def refused(error: Exception) -> Callable[[], dict[str, float]]:
        def work() -> dict[str, float]:
            raise error

        return work

    try:
        section.find(bench)
    except Exception as error:
        bench.rows.take("all", refused(error))
