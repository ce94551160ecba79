"""Where a pass can be decoded, on whatever device."""

import dataclasses
from pathlib import Path

import pytest
import torch

from pclkd.benchmarks.loading.case import LoadCase, Place
from pclkd.benchmarks.measuring.clip_shape import ClipShape


@pytest.mark.parametrize(("device", "places"), [("cpu", ("cpu",)), ("cuda", ("cpu", "mixed"))])
def test_each_place_has_a_graph_of_its_own(device: str, places: tuple[Place, ...], synthetic_shards: Path) -> None:
    """What bounds a loader that decodes on the CPU is decoding on the CPU."""
    case = LoadCase.choose(synthetic_shards, "plain", ClipShape(2, 8, 32), 4, 1)
    case = dataclasses.replace(case, device=torch.device(device))
    assert case.places == places
    assert [case.graph("none", place).decode for place in places] == list(places)
    assert case.graph("none").decode == places[-1]
