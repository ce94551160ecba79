"""Who learns from whom: counted and compared by hand."""

from collections import Counter
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pclkd.sharding.common.errors import InputError
from pclkd.training.study.plan import (
    Study,
    part_of,
    read_fractions,
    read_pairs,
    read_part,
    read_terms,
    read_widths,
)

NETWORKS = ("c3d", "r3d", "r2plus1d")


def study(
    pairs: str = "",
    seeds: int = 1,
    fractions: str = "1",
    terms: str = "recipe",
    assignments: tuple[str, ...] = (),
    widths: str = "1",
) -> Study:
    shares, chosen, sizes = read_fractions(fractions), read_terms(terms), read_widths(widths)
    return Study("demo", assignments, read_pairs(pairs, NETWORKS), seeds, shares, chosen, sizes)


def test_the_whole_study() -> None:
    runs = study(seeds=5).runs()
    assert Counter(run.kind for run in runs) == {"baseline": 15, "student": 45, "control": 15}
    assert len({run.name for run in runs}) == 75
    by_name = {run.name: run for run in runs}
    taught = Counter((by_name[str(run.teacher)].backbone, run.backbone) for run in runs if run.kind == "student")
    assert taught == {(teacher, student): 5 for teacher in NETWORKS for student in NETWORKS}
    for run in runs:
        peers = [other for other in runs if other.group == run.group]
        # Students start as their control does, and as no teacher of any repetition did.
        assert {peer.seed for peer in peers if peer.kind != "baseline"}.isdisjoint(
            other.seed for other in runs if other.kind == "baseline"
        )
        if run.kind == "student":
            assert run.seed == next(
                peer.seed for peer in peers if (peer.kind, peer.backbone) == ("control", run.backbone)
            )
            teacher = by_name[str(run.teacher)]
            assert (teacher.group, teacher.fraction, teacher.kind) == (run.group, run.fraction, "baseline")
            assert runs.index(teacher) < runs.index(run)
        else:
            assert run.teacher is None and run.terms == "none"
    assert len({run.seed for run in runs}) == 10
    assert study(seeds=3).runs() == runs[:45]  # more seeds only add


def test_a_name_tells_everything() -> None:
    runs = study("r3d:c3d", fractions="1,.5", terms="both,relation+feature,none", assignments=("seed=10",)).runs()
    assert [run.name for run in runs[4:]] == [
        "baseline-r3d-f0.5-s10",
        "student-c3d-from-r3d-both-f0.5-s11",
        "student-c3d-from-r3d-feature+relation-f0.5-s11",
        "control-c3d-f0.5-s11",
    ]


def test_numbers_that_differ_late_have_names_of_their_own() -> None:
    runs = study("r3d:c3d", fractions="1,1.0,.05,0.1234567,0.12345671", widths="1,.3333333,.33333331").runs()
    names = [run.name for run in runs]
    assert len(set(names)) == len(names) == 4 * 7
    assert {"baseline-r3d-f1-s0", "baseline-r3d-f0.05-s0", "control-c3d-x0.3333333-f0.12345671-s1"} < set(names)


@pytest.mark.parametrize(
    ("terms", "weights"),
    [
        ("recipe", (2.0, 0.0, 3.0, 0.0)),
        ("pretext", (2.0, 0.0, 0.0, 0.0)),
        ("contrast", (0.0, 1.0, 0.0, 0.0)),
        ("both", (2.0, 1.0, 0.0, 0.0)),
        ("feature", (0.0, 0.0, 3.0, 0.0)),
        ("relation", (0.0, 0.0, 0.0, 1.0)),
        ("relation+pretext", (2.0, 0.0, 0.0, 1.0)),
    ],
)
def test_terms_are_weights(terms: str, weights: tuple[float, ...]) -> None:
    """A term keeps the weight that the recipe gives it, and has 1 where the recipe leaves it out."""
    recipe = ("kd.pretext_weight=2", "kd.contrast_weight=0", "kd.feature_weight=3")
    asked = study("r3d:c3d", terms=terms, assignments=recipe)
    baseline, student, control = asked.runs()
    kd = asked.settings(student).kd
    assert (kd.pretext_weight, kd.contrast_weight, kd.feature_weight, kd.relation_weight) == weights
    assert asked.settings(control).kd == asked.recipe().kd
    assert asked.settings(baseline).backbone.name == "r3d" and asked.settings(student).backbone.name == "c3d"


def test_several_teachers_at_once_have_their_own_seed_and_repetition() -> None:
    asked = study("c3d+r3d:r2plus1d,c3d:r2plus1d", seeds=2)
    runs = asked.runs()
    assert [run.name for run in runs[:5]] == [
        "baseline-c3d-f1-s0",
        "baseline-r3d-f1-s0",
        "student-r2plus1d-from-c3d+r3d-recipe-f1-s1",
        "student-r2plus1d-from-c3d-recipe-f1-s1",
        "control-r2plus1d-f1-s1",
    ]
    assert runs[2].teachers == ("baseline-c3d-f1-s0", "baseline-r3d-f1-s0") and runs[3].teachers == runs[2].teachers[:1]
    assert runs[7].teachers == ("baseline-c3d-f1-s2", "baseline-r3d-f1-s2")
    assert asked.settings(runs[2]) == asked.settings(runs[3]) == asked.settings(runs[4])
    everybody = study("all,c3d+r3d:r2plus1d").runs()
    assert {run.name for run in everybody} == {run.name for run in study().runs()} | {runs[2].name}


def test_who_teaches_itself_has_one_run_whoever_else_teaches() -> None:
    asked = study("c3d:r3d,r3d:r3d", terms="recipe,self", assignments=("kd.feature_weight=3",))
    baselines, students = asked.runs()[:2], asked.runs()[2:-1]
    assert {run.kind for run in baselines} == {"baseline"} and len(students) == 3
    alone, control = students[-1], asked.runs()[-1]
    assert (alone.name, alone.kind, alone.teachers) == ("student-r3d-self-f1-s1", "student", ())
    assert asked.settings(alone).kd.self_teacher and asked.settings(alone).kd.feature_weight == 3
    for other in (*baselines, *students[:-1], control):
        assert not asked.settings(other).kd.self_teacher
    with pytest.raises(InputError, match="--terms self"):
        study(assignments=("kd.self_teacher=true",)).runs()


@pytest.mark.parametrize(
    ("assignment", "option"),
    [("backbone.name=c3d", "--pairs"), ("fraction=0.5", "--fractions"), ("fraction_seed=3", "--seeds")],
)
def test_what_the_plan_decides_is_not_set(assignment: str, option: str) -> None:
    with pytest.raises(InputError, match=f"--set {assignment} would not be heeded.*{option}"):
        study(assignments=("seed=3", assignment)).runs()


def test_widths_are_factors_of_the_teachers() -> None:
    asked = study("r3d:c3d", widths="1,0.5,2", assignments=("backbone.width=0.375",))
    assert [(run.name, asked.settings(run).backbone.width) for run in asked.runs()] == [
        ("baseline-r3d-f1-s0", 0.375),
        ("student-c3d-from-r3d-recipe-f1-s1", 0.375),
        ("control-c3d-f1-s1", 0.375),
        ("student-c3d-x0.5-from-r3d-recipe-f1-s1", 0.1875),
        ("control-c3d-x0.5-f1-s1", 0.1875),
        ("student-c3d-x2-from-r3d-recipe-f1-s1", 0.75),
        ("control-c3d-x2-f1-s1", 0.75),
    ]


def test_a_repetition_learns_from_the_same_videos() -> None:
    asked = study("r3d:c3d,c3d:c3d", seeds=2, fractions=".25")
    chosen = {(run.group, asked.settings(run).fraction, asked.settings(run).fraction_seed) for run in asked.runs()}
    assert chosen == {(0, 0.25, 0), (1, 0.25, 1)}


@given(
    seeds=st.integers(1, 3),
    parts=st.integers(1, 12),
    pairs=st.sampled_from(["", "r3d:c3d", "r3d:r3d,c3d:r3d", "r3d+c3d:r3d,c3d+r3d:c3d"]),
)
def test_parts_are_the_plan(seeds: int, parts: int, pairs: str) -> None:
    runs = study(pairs, seeds=seeds, fractions="1,.5", terms="recipe,self").runs()
    shares = [part_of(runs, number, parts) for number in range(1, parts + 1)]
    counts = Counter(run.name for run in chain(*shares))
    assert set(counts) == {run.name for run in runs}
    for share in shares:
        names = [run.name for run in share]
        assert all(set(run.teachers) <= set(names[: names.index(run.name)]) for run in share)
    # What belongs to several parts teaches in those that it is not dealt to.
    for run in runs:
        if counts[run.name] > 1:
            holders = [share for share in shares if run in share]
            assert sum(any(run.name in other.teachers for other in share) for share in holders) >= counts[run.name] - 1
        if run.kind != "baseline":
            assert counts[run.name] == 1


@pytest.mark.parametrize(
    ("read", "text", "told"),
    [
        (read_fractions, "1,0", "'0' is no share"),
        (read_fractions, "half", "'half' is no share"),
        (read_fractions, "nan", "'nan' is no share"),
        (read_terms, "both,featur", "'featur' is nothing.*feature"),
        (read_terms, "both+feature", r"'both\+feature' is nothing"),
        (read_widths, "0", "'0' is no factor of the teacher's width"),
        (lambda text: read_pairs(text, NETWORKS), "c3d+c3d:r3d", "is no pair.*TEACHER.TEACHER:STUDENT"),
        (read_part, "0/3", "'0/3' is no part"),
        (read_part, "4/3", "I from 1 to N"),
        (read_part, "2", "'2' is no part"),
        (lambda text: read_pairs(text, NETWORKS), "r3d:c3d,r3d", "'r3d' is no pair.*c3d, r3d, r2plus1d"),
        (lambda text: read_pairs(text, NETWORKS), "r3d:r21d", "'r3d:r21d' is no pair"),
    ],
)
def test_what_cannot_be_is_named(read: object, text: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        read(text)  # type: ignore[operator]
