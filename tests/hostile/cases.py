"""What a target of the fuzzing is, hostile values, and cases as JSON, so that what was found can be kept."""

import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

__all__ = ["NAMES", "NUMBERS", "TEXTS", "VALUES", "Target", "from_json", "mutated", "mutations", "to_json"]

Check = Callable[[Any, Path], None]


@dataclass(frozen=True)
class Target:
    """Something that reads what comes from outside.

    Attributes:
        name: of the target.
        cases: plain values: numbers, texts, bytes, lists and dicts of them.
        check: takes a case and an empty folder, and raises where the promise is broken.
        examples: how many cases the test suite tries.
    """

    name: str
    cases: st.SearchStrategy[Any]
    check: Check
    examples: int


NUMBERS = st.one_of(
    st.sampled_from(
        [0, -1, 1, 2, 2**15, 2**31 - 1, 2**31, -(2**31), 2**32, 2**53, 2**63 - 1, 2**63, -(2**63), 10**40, 10**400]
    ),
    st.integers(-300, 70_000),
    st.sampled_from([0.5, -0.0, 1e308, -1e308, 5e-324, float("nan"), float("inf"), float("-inf")]),
)
NAMES = st.sampled_from(
    [
        *(
            "",
            ".",
            "..",
            "/",
            "../../escaped",
            "/tmp/escaped",
            "a/../../escaped",
            "~/escaped",
            "C:\\escaped",
            "\0",
            "\n",
        ),
        *(
            "<script>alert(1)</script>",
            '"><img src=x onerror=alert(1)>',
            "</script><script>alert(1)//",
            "'\"`$(id)",
            "|a|",
        ),
        *(
            "a\nb",
            "a\rb",
            "\x1b[2J\x1b]0;owned\x07",
            "\u202egnp.exe",
            "\u2066x\u2069",
            "\ud800",
            "\udcff",
            "🏃\u200d♀️",
            "é",
            "مرحبا",
        ),
        *(
            "$\\frac{1}{0$",
            "${HOME}",
            "%s%n",
            "{0.__class__}",
            "a" * 5000,
            "9" * 5000,
            "-rf",
            "=1+1",
            "--help",
            "nul",
            "[" * 20,
        ),
    ]
)
TEXTS = st.one_of(NAMES, st.text(max_size=12))
DEEP: Any = []
for _ in range(60):
    DEEP = [DEEP]
VALUES = st.one_of(
    NUMBERS, TEXTS, st.sampled_from([None, True, False, [], {}, [[]], {"": None}, DEEP]), st.lists(NUMBERS, max_size=3)
)

# A change of a JSON document: where (a number, counted through all places), what, and a value.
mutations = st.lists(
    st.tuples(
        st.integers(0, 10_000), st.sampled_from(["set", "set", "set", "drop", "add", "rename", "twice"]), VALUES, TEXTS
    ),
    min_size=1,
    max_size=3,
)


def mutated(document: Any, changes: Sequence[Any]) -> Any:
    """A copy of a JSON document with some changes carried out."""
    document = json.loads(json.dumps(document))
    for number, what, value, text in changes:
        places = list(_places(document))
        if not places:
            return value
        holder, key = places[number % len(places)]
        value = copy.deepcopy(value)
        if what == "set":
            holder[key] = value
        elif what == "drop":
            del holder[key]
        elif what == "twice" and isinstance(holder, list):
            holder.append(holder[key])
        elif isinstance(holder, dict):
            holder[text] = holder.pop(key) if what == "rename" else value
        else:
            holder.insert(key, value)
    return document


def _places(document: Any) -> Any:
    items = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in list(items):
        yield document, key
        if isinstance(value, dict | list):
            yield from _places(value)


def to_json(case: Any) -> Any:
    """A case as JSON has it: bytes as hexadecimal digits."""
    if isinstance(case, bytes):
        return {"bytes": case.hex()}
    if isinstance(case, dict):
        return {"dict": [[to_json(key), to_json(value)] for key, value in case.items()]}
    if isinstance(case, list | tuple):
        return [to_json(value) for value in case]
    return case


def from_json(case: Any) -> Any:
    """The case that `to_json` wrote."""
    if isinstance(case, dict):
        if "bytes" in case:
            return bytes.fromhex(case["bytes"])
        return {from_json(key): from_json(value) for key, value in case["dict"]}
    return [from_json(value) for value in case] if isinstance(case, list) else case
