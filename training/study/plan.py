"""The runs of a study: who learns from whom, from how many of the videos, what is distilled, with which seed."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pclkd.sharding.common.errors import InputError
from pclkd.training.settings import RunSettings, override, preset

__all__ = ["BACKBONES", "PlannedRun", "Study", "part_of", "read_fractions", "read_pairs", "read_part", "read_terms"]

BACKBONES = ("c3d", "r3d", "r2plus1d")
"""The published networks: each teaches each, where no pairs are named."""
_TERMS = ("pretext", "contrast", "feature", "relation")
_AS_SET = "recipe"
_NOTHING = "none"
_NAMED_TERMS = {"both": ("pretext", "contrast")}

Kind = Literal["baseline", "student", "control"]


@dataclass(frozen=True)
class PlannedRun:
    """One run folder of a study.

    Attributes:
        name: of the folder; it tells all that follows.
        kind: "baseline" learns alone and teaches; "student" has a teacher; "control" learns alone with the seed of the
            students, so that weights, clips and their order are theirs.
        backbone: which network.
        teacher: name of the baseline that teaches it.
        seed: of the run.
        group: number of the repetition, from 0; teachers, students and controls of one belong together.
        fraction: share of the training videos.
        terms: what is distilled: "recipe" as the settings say, or names of terms; "none" without a teacher.
    """

    name: str
    kind: Kind
    backbone: str
    teacher: str | None
    seed: int
    group: int
    fraction: float
    terms: str


@dataclass(frozen=True)
class Study:
    """What is asked: the recipe, and which runs of it.

    Attributes:
        preset: name of the settings that all runs start from.
        assignments: what differs from them, as `--set` takes it.
        pairs: (teacher, student) backbones.
        seeds: repetitions.
        fractions: shares of the training videos.
        terms: what is distilled, each as `read_terms` gives it.
    """

    preset: str
    assignments: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    seeds: int
    fractions: tuple[float, ...]
    terms: tuple[str, ...]

    def recipe(self) -> RunSettings:
        """The settings that all runs share.

        Raises:
            InputError: an unknown preset or setting, or a value that is not allowed.
        """
        return override(preset(self.preset), self.assignments)

    def runs(self) -> tuple[PlannedRun, ...]:
        """Repetition by repetition, teachers before their students, so that an unfinished study has whole ones.

        No two repetitions share a seed: with the next one, a control would be a later repetition's baseline again.
        """
        first = self.recipe().seed
        return tuple(
            run
            for group in range(self.seeds)
            for fraction in self.fractions
            for run in self._repetition(group, first + 2 * group, fraction)
        )

    def _repetition(self, group: int, seed: int, fraction: float) -> Iterable[PlannedRun]:
        teachers, students = (list(dict.fromkeys(side)) for side in zip(*self.pairs, strict=True))
        end = f"f{fraction:g}-s{seed}"
        for backbone in teachers:
            yield PlannedRun(f"baseline-{backbone}-{end}", "baseline", backbone, None, seed, group, fraction, _NOTHING)
        teacher_end, end = end, f"f{fraction:g}-s{seed + 1}"
        for terms in self.terms:
            if terms == _NOTHING:  # those are the controls
                continue
            for teacher, backbone in self.pairs:
                name = f"student-{backbone}-from-{teacher}-{terms}-{end}"
                taught_by = f"baseline-{teacher}-{teacher_end}"
                yield PlannedRun(name, "student", backbone, taught_by, seed + 1, group, fraction, terms)
        for backbone in students:
            yield PlannedRun(
                f"control-{backbone}-{end}", "control", backbone, None, seed + 1, group, fraction, _NOTHING
            )

    def changes(self, run: PlannedRun) -> list[str]:
        """What a run sets beside the preset, as `--set` takes it."""
        kd = self.recipe().kd
        distilled = _NAMED_TERMS.get(run.terms, run.terms.split("+")) if run.terms not in (_AS_SET, _NOTHING) else ()
        weights = {name: (getattr(kd, f"{name}_weight") or 1.0) if name in distilled else 0.0 for name in _TERMS}
        return [
            *self.assignments,
            f"backbone.name={run.backbone}",
            f"seed={run.seed}",
            *([f"fraction={run.fraction}", f"fraction_seed={run.group}"] if run.fraction < 1 else []),
            *(f"kd.{name}_weight={weight}" for name, weight in weights.items() if distilled),
        ]

    def settings(self, run: PlannedRun) -> RunSettings:
        """All settings of a run."""
        return override(preset(self.preset), self.changes(run))

    def as_dict(self) -> dict[str, Any]:
        """The plan as study.json tells it."""
        runs = self.runs()
        return {
            "version": 1,
            "epochs": self.recipe().epochs,
            "preset": self.preset,
            "set": list(self.assignments),
            "seeds": list(dict.fromkeys(run.seed for run in runs if run.kind == "baseline")),
            "runs": [asdict(run) for run in runs],
        }


def part_of(runs: Sequence[PlannedRun], part: int, parts: int) -> list[PlannedRun]:
    """Every `parts`-th run from number `part` (from 1) on, and the teachers that those need, in the plan's order.

    A teacher belongs to several parts then, and whoever comes first trains it: a part that waited for another could
    wait for one that a cluster does not start before this one ends.
    """
    own = set(runs[part - 1 :: parts])
    needed = {run.teacher for run in own}
    return [run for run in runs if run in own or run.name in needed]


def read_pairs(text: str, known: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """`r3d:c3d,r3d:r3d` as (teacher, student) pairs; all pairs of the published networks for an empty text.

    Raises:
        InputError: not pairs of known backbones.
    """
    if not text:
        return tuple((teacher, student) for teacher in BACKBONES for student in BACKBONES)
    pairs = []
    for pair in _listed(text):
        teacher, colon, student = pair.partition(":")
        if not colon or not {teacher, student} <= set(known):
            raise InputError(
                f"--pairs {pair!r} is no pair of backbones",
                remedy=f"write TEACHER:STUDENT, each one of: {', '.join(known)}",
            )
        pairs.append((teacher, student))
    return tuple(pairs)


def read_fractions(text: str) -> tuple[float, ...]:
    """`1,.5,.25` as numbers.

    Raises:
        InputError: no number in (0, 1].
    """
    fractions = []
    for word in _listed(text):
        try:
            fraction = float(word)
        except ValueError:
            fraction = 0.0
        if not 0 < fraction <= 1:
            raise InputError(f"--fractions {word!r} is no share of the videos", remedy="give numbers in (0, 1]")
        fractions.append(fraction)
    return tuple(dict.fromkeys(fractions))


def read_terms(text: str) -> tuple[str, ...]:
    """`recipe,pretext,feature+pretext` as names of what is distilled; the terms of a sum in one order.

    Raises:
        InputError: unknown terms.
    """
    found = []
    for word in _listed(text):
        named = set(word.split("+"))
        if word in (_AS_SET, _NOTHING, *_NAMED_TERMS):
            found.append(word)
        elif named <= set(_TERMS):
            ordered = tuple(name for name in _TERMS if name in named)
            found.append(next((name for name, terms in _NAMED_TERMS.items() if terms == ordered), "+".join(ordered)))
        else:
            raise InputError(
                f"--terms {word!r} is nothing that can be distilled",
                remedy=f"give {_AS_SET} (as the settings say), {', '.join(_NAMED_TERMS)}, {_NOTHING} (controls alone), "
                f"or some of {', '.join(_TERMS)} joined with +",
            )
    return tuple(dict.fromkeys(found))


def read_part(text: str) -> tuple[int, int]:
    """`2/8` as (2, 8).

    Raises:
        InputError: no such part.
    """
    number, slash, parts = text.partition("/")
    if not (slash and number.isdecimal() and parts.isdecimal() and 1 <= int(number) <= int(parts)):
        raise InputError(f"--part {text!r} is no part of a plan", remedy="write I/N with I from 1 to N, as --part 2/8")
    return int(number), int(parts)


def _listed(text: str) -> list[str]:
    words = [word.strip() for word in text.split(",")]
    return list(dict.fromkeys(words))
