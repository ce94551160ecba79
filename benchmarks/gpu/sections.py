"""What is found out, in which order, with which part of the time; each section has a process of its own."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
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
        module: of this room, whose function of the section's name takes the rows. It is imported in the section's
            process alone: where something that it needs is missing, the other sections go on.
        needs_data: whether it reads the shards that "data" makes.
    """

    name: str
    weight: float
    module: str
    needs_data: bool = False


SECTIONS = (
    Section("health", 35, "health"),
    Section("data", 30, "pixels"),
    Section("parity", 45, "pixels", needs_data=True),
    Section("losses", 55, "steps"),
    Section("resume", 30, "training", needs_data=True),
    Section("loading", 80, "pixels", needs_data=True),
    Section("step", 120, "steps"),
    Section("untuned", 15, "steps"),
    Section("compiled", 90, "steps"),
    Section("training", 105, "training", needs_data=True),
)
"""In the order of the run: what one leaves of its time goes to those behind it, and the last one takes the rest."""


def carried_out(section: Section, bench: "Bench") -> None:
    """Take the rows of a section; one that cannot even begin is a row with its error."""

    def refused(error: Exception) -> Callable[[], dict[str, float]]:
        def work() -> dict[str, float]:
            raise error

        return work

    try:
        getattr(import_module(f"pclkd.benchmarks.gpu.{section.module}"), section.name)(bench)
    except Exception as error:
        bench.rows.take("all", refused(error))
