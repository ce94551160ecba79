from typing import Any

import pytest
from pydantic import Field, ValidationError

from pclkd.sharding.common.settings import Settings, change, first_fault, nearest


class Inner(Settings):
    size: int = Field(default=4, ge=1)
    name: str = "a"


class Outer(Settings):
    inner: Inner = Inner()
    seed: int = 0
    own: Any = None


def test_a_change_reaches_its_path_and_leaves_the_rest_as_it_is() -> None:
    own, before = object(), Outer()
    after = change(before, {"inner.size": 7, "own": own})
    assert (after.inner, after.seed) == (Inner(size=7), 0) and after.own is own
    assert before == Outer()
    assert change(after, {"seed": 2}).inner is after.inner


@pytest.mark.parametrize("group", [Inner(name="b"), {"name": "b"}])
def test_a_change_inside_a_group_holds_for_the_group_given_beside_it(group: Any) -> None:
    assert change(Outer(), {"inner.size": 9, "inner": group}).inner == Inner(size=9, name="b")


@pytest.mark.parametrize(
    ("changes", "path", "value"),
    [({"inner.size": 0}, "inner.size", 0), ({"inner.size": 2, "inner": 5}, "inner", 5), ({"sed": 1}, "sed", 1)],
)
def test_the_first_fault_is_told_with_its_path(changes: dict[str, Any], path: str, value: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        change(Outer(), changes)
    assert first_fault(caught.value)[:2] == (path, value)


def test_the_nearest_name() -> None:
    assert nearest("sed", ["inner", "seed"]) == "seed"
    assert nearest("", ["only"]) == "only"
