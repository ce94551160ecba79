"""The runs of a study: who learns from whom, from how many of the videos, what is distilled, with which seed."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pclkd.sharding.common.errors import InputError
from pclkd.sharding.datasets.names import is_number
from pclkd.training.settings import RunSettings, override, preset

__all__ = [
    "BACKBONES",
    "ITSELF",
    "PlannedRun",
    "Study",
    "part_of",
    "read_fractions",
    "read_pairs",
    "read_part",
    "read_terms",
    "read_widths",
]

BACKBONES = ("c3d", "r3d", "r2plus1d")
"""The published networks: each teaches each, where no pairs are named."""
_TERMS = ("pretext", "contrast", "feature", "relation")
_AS_SET = "recipe"
_NOTHING = "none"
ITSELF = "self"
"""What is distilled: as the settings say, from the student of the epoch before."""
_NAMED_TERMS = {"both": ("pretext", "contrast")}
_BY_OPTION = {"backbone.name": "--pairs", "fraction": "--fractions", "fraction_seed": "--seeds, which each draw anew"}
"""What no recipe decides, with the options that do."""

Kind = Literal["baseline", "student", "control"]


@dataclass(frozen=True)
class PlannedRun:
    """One run folder of a study.

    Attributes:
        name: of the folder; it tells all that follows.
        kind: "baseline" learns alone and teaches; "student" has a teacher; "control" learns alone with the seed of the
            students, so that weights, clips and their order are theirs.
        backbone: which network.
        teacher: name of the baseline that teaches it; None too where it teaches itself.
        seed: of the run.
        group: number of the repetition, from 0; teachers, students and controls of one belong together.
        fraction: share of the training videos.
        terms: what is distilled: "recipe" as the settings say, or names of terms; "self" as the settings say, from
            the student of the epoch before; "none" without a teacher.
        width: factor on the settings' backbone.width, which teachers have.
        other_teachers: names of further baselines that teach it at the same time.
    """

    name: str
    kind: Kind
    backbone: str
    teacher: str | None
    seed: int
    group: int
    fraction: float
    terms: str
    width: float = 1.0
    other_teachers: tuple[str, ...] = ()

    @property
    def teachers(self) -> tuple[str, ...]:
        """Names of all baselines that teach it."""
        return () if self.teacher is None else (self.teacher, *self.other_teachers)

    @property
    def network(self) -> str:
        """Backbone and width, as its name has them."""
        return _network(self.backbone, self.width)


def _network(backbone: str, width: float) -> str:
    return backbone if width == 1 else f"{backbone}-x{_in_name(width)}"


def _in_name(number: float) -> str:
    """All digits that tell it from others, as 0.5, and 1 for 1.0."""
    return repr(float(number)).removesuffix(".0")


@dataclass(frozen=True)
class Study:
    """What is asked: the recipe, and which runs of it.

    Attributes:
        preset: name of the settings that all runs start from.
        assignments: what differs from them, as `--set` takes it.
        pairs: (teacher, student) backbones; teachers that teach at the same time are joined by +.
        seeds: repetitions.
        fractions: shares of the training videos.
        terms: what is distilled, each as `read_terms` gives it.
        widths: of students and controls, as factors of the teachers' width.
    """

    preset: str
    assignments: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    seeds: int
    fractions: tuple[float, ...]
    terms: tuple[str, ...]
    widths: tuple[float, ...] = (1.0,)

    def recipe(self) -> RunSettings:
        """The settings that all runs share.

        Raises:
            InputError: an unknown preset or setting, or a value that is not allowed.
        """
        settings = override(preset(self.preset), self.assignments)
        for assignment in self.assignments:
            option = _BY_OPTION.get(assignment.partition("=")[0])
            if option:
                raise InputError(
                    f"--set {assignment} would not be heeded: the plan sets it run by run", remedy=f"ask for {option}"
                )
        if settings.kd.self_teacher:
            raise InputError(
                "--set kd.self_teacher=true would leave no run of the study without a teacher",
                remedy=f"ask for --terms {ITSELF}",
            )
        return settings

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
        teachers = list(dict.fromkeys(name for together, _ in self.pairs for name in together.split("+")))
        students = list(dict.fromkeys(student for _, student in self.pairs))
        share = _in_name(fraction)
        end = f"f{share}-s{seed}"
        for backbone in teachers:
            yield PlannedRun(f"baseline-{backbone}-{end}", "baseline", backbone, None, seed, group, fraction, _NOTHING)
        taught_by = {backbone: f"baseline-{backbone}-{end}" for backbone in teachers}
        seed, end = seed + 1, f"f{share}-s{seed + 1}"
        for width in self.widths:
            for terms in self.terms:
                pairs = self.pairs
                if terms == _NOTHING:  # those are the controls
                    continue
                if terms == ITSELF:
                    pairs = tuple(("", student) for student in students)
                for together, backbone in pairs:
                    named = [taught_by[name] for name in together.split("+")] if together else []
                    taught = f"from-{together}-{terms}" if together else terms
                    name = f"student-{_network(backbone, width)}-{taught}-{end}"
                    first, others = (named[0] if named else None), tuple(named[1:])
                    how = (seed, group, fraction, terms, width)
                    yield PlannedRun(name, "student", backbone, first, *how, other_teachers=others)
            for backbone in students:
                name = f"control-{_network(backbone, width)}-{end}"
                yield PlannedRun(name, "control", backbone, None, seed, group, fraction, _NOTHING, width)

    def changes(self, run: PlannedRun) -> list[str]:
        """What a run sets beside the preset, as `--set` takes it."""
        recipe = self.recipe()
        kd, as_set = recipe.kd, run.terms in (_AS_SET, _NOTHING, ITSELF)
        distilled = () if as_set else _NAMED_TERMS.get(run.terms, run.terms.split("+"))
        weights = {name: (getattr(kd, f"{name}_weight") or 1.0) if name in distilled else 0.0 for name in _TERMS}
        return [
            *self.assignments,
            f"backbone.name={run.backbone}",
            *([f"backbone.width={recipe.backbone.width * run.width}"] if run.width != 1 else []),
            f"seed={run.seed}",
            *([f"fraction={run.fraction}", f"fraction_seed={run.group}"] if run.fraction < 1 else []),
            *(f"kd.{name}_weight={weight}" for name, weight in weights.items() if distilled),
            *(["kd.self_teacher=true"] if run.terms == ITSELF else []),
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
            "runs": [{**asdict(run), "other_teachers": list(run.other_teachers)} for run in runs],
        }


def part_of(runs: Sequence[PlannedRun], part: int, parts: int) -> list[PlannedRun]:
    """Every `parts`-th run from number `part` (from 1) on, and the teachers that those need, in the plan's order.

    A teacher belongs to several parts then, and whoever comes first trains it: a part that waited for another could
    wait for one that a cluster does not start before this one ends.
    """
    own = set(runs[part - 1 :: parts])
    needed = {teacher for run in own for teacher in run.teachers}
    return [run for run in runs if run in own or run.name in needed]


def read_pairs(text: str, known: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """`r3d:c3d,c3d+r3d:r3d` as (teacher, student) pairs; all pairs of the published networks for "all" or nothing.

    Raises:
        InputError: not pairs of known backbones.
    """
    pairs: list[tuple[str, str]] = []
    for pair in _listed(text or "all"):
        if pair == "all":
            pairs += [(teacher, student) for teacher in BACKBONES for student in BACKBONES]
            continue
        together, colon, student = pair.partition(":")
        teachers = together.split("+")
        if not colon or not {*teachers, student} <= set(known) or len(set(teachers)) < len(teachers):
            raise InputError(
                f"--pairs {pair!r} is no pair of backbones",
                remedy="write TEACHER:STUDENT, or TEACHER+TEACHER:STUDENT for several at once, "
                f"each one of: {', '.join(known)}",
            )
        pairs.append((together, student))
    return tuple(dict.fromkeys(pairs))


def read_fractions(text: str) -> tuple[float, ...]:
    """`1,.5,.25` as numbers.

    Raises:
        InputError: no number in (0, 1].
    """
    return _read_numbers(text, 1, "--fractions", "share of the videos")


def read_widths(text: str) -> tuple[float, ...]:
    """`1,.5,2` as numbers.

    Raises:
        InputError: no number in (0, 16].
    """
    return _read_numbers(text, 16, "--widths", "factor of the teacher's width")


def _read_numbers(text: str, most: int, option: str, what: str) -> tuple[float, ...]:
    numbers = []
    for word in _listed(text):
        try:
            number = float(word)
        except ValueError:
            number = math.nan
        if not 0 < number <= most:
            raise InputError(f"{option} {word!r} is no {what}", remedy=f"give numbers in (0, {most}]")
        numbers.append(number)
    return tuple(dict.fromkeys(numbers))


def read_terms(text: str) -> tuple[str, ...]:
    """`recipe,pretext,feature+pretext` as names of what is distilled; the terms of a sum in one order.

    Raises:
        InputError: unknown terms.
    """
    found = []
    for word in _listed(text):
        named = set(word.split("+"))
        if word in (_AS_SET, ITSELF, _NOTHING, *_NAMED_TERMS):
            found.append(word)
        elif named <= set(_TERMS):
            ordered = tuple(name for name in _TERMS if name in named)
            found.append(next((name for name, terms in _NAMED_TERMS.items() if terms == ordered), "+".join(ordered)))
        else:
            raise InputError(
                f"--terms {word!r} is nothing that can be distilled",
                remedy=f"give {_AS_SET} (as the settings say), {ITSELF} (so too, from its own past), "
                f"{', '.join(_NAMED_TERMS)}, {_NOTHING} (controls alone), "
                f"or some of {', '.join(_TERMS)} joined with +",
            )
    return tuple(dict.fromkeys(found))


def read_part(text: str) -> tuple[int, int]:
    """`2/8` as (2, 8).

    Raises:
        InputError: no such part.
    """
    number, slash, parts = text.partition("/")
    if not (slash and is_number(number) and is_number(parts) and 1 <= int(number) <= int(parts)):
        raise InputError(f"--part {text!r} is no part of a plan", remedy="write I/N with I from 1 to N, as --part 2/8")
    return int(number), int(parts)


def _listed(text: str) -> list[str]:
    words = [word.strip() for word in text.split(",")]
    return list(dict.fromkeys(words))
