"""Structure-aware cases of every reader, the same in every run, and all that was found once; `make fuzz` goes on."""

from collections import Counter
from typing import Any

import fuzz
import pytest

LEAST = 500
tried: Counter[str] = Counter()


@pytest.mark.parametrize("name", sorted(fuzz.TARGETS))
@pytest.mark.filterwarnings("ignore")
def test_hostile_input_is_refused_or_harmless(name: str) -> None:
    target = fuzz.TARGETS[name]

    def count(case: Any) -> None:
        tried[name] += 1

    fuzz.search(target, target.examples, None, count)
    assert tried[name] >= target.examples // 2


KEPT = fuzz.kept_cases()


@pytest.mark.parametrize(("target", "case"), [kept[1:] for kept in KEPT], ids=[kept[0] for kept in KEPT])
@pytest.mark.filterwarnings("ignore")
def test_what_was_found_once_stays_mended(target: str, case: Any) -> None:
    fuzz.run_case(fuzz.TARGETS[target], case)


def test_cases_are_many() -> None:
    assert sum(target.examples for target in fuzz.TARGETS.values()) + len(KEPT) >= LEAST


def test_a_finding_is_kept_and_read_back(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz, "KEPT", tmp_path / "kept")
    case = {"kind": "ucf101", "files": {"a\ud800": b"\x00\xff"}, "changes": [[1, "set", None, 0.5]]}
    fuzz.keep(fuzz.TARGETS["lists"], case, 7, ValueError("no"))
    assert [kept[1:] for kept in fuzz.kept_cases()] == [("lists", case)]
