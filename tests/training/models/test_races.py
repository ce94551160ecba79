"""Races of `compile=auto` are run once: their results outlast the process, and belong to one network on one device."""

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from pclkd.training.compute.precision import Precision
from pclkd.training.models import compilation, races
from pclkd.training.models.memory_layout import placed
from pclkd.training.models.pcl_model import PclModel
from pclkd.training.models.races import race_key, recalled, remembered
from pclkd.training.models.registry import build_backbone

CPU = torch.device("cpu")
FP32 = Precision("fp32", CPU)
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PCLKD_CACHE", str(tmp_path))
    return tmp_path / "races"


@pytest.fixture
def uncompiled() -> Iterator[None]:
    """The race is the same, and takes no minutes."""
    torch.compiler.set_stance("force_eager")
    yield
    torch.compiler.set_stance("default")


def network(width: float = 0.0625, name: str = "r3d") -> PclModel:
    return PclModel(build_backbone(name, width), embedding_dim=8)


CLIPS = torch.zeros(4, 3, 4, 16, 16)


@pytest.mark.usefixtures("uncompiled")
def test_an_equal_race_is_not_run_again(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    ran = []
    timed = compilation.timed_passes

    def noting(model: PclModel, how: str, *given: Any, **named: Any) -> float:
        ran.append(how)
        return timed(model, how, *given, **named)

    monkeypatch.setattr(compilation, "timed_passes", noting)
    first = compilation._raced(network(), CLIPS, FP32, trained=True)
    assert ran == ["on", "cuda-graphs", "off"]
    (file,) = folder.iterdir()
    kept = json.loads(file.read_text())
    assert first == kept["chosen"] == min(kept["seconds"], key=kept["seconds"].get)
    assert compilation._raced(network(), CLIPS, FP32, trained=True) == first  # with other weights
    assert len(ran) == 3
    assert compilation._raced(network(), CLIPS[:3], FP32, trained=True) in {"off", "on", "cuda-graphs"}
    assert len(ran) == 6 and len(list(folder.iterdir())) == 2


def test_races_are_equal_where_everything_that_counts_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def key(model: PclModel | None = None, clips: torch.Tensor = CLIPS, **others: Any) -> str:
        given = {"precision": FP32, "trained": True} | others
        precision = given.pop("precision")
        return json.dumps(race_key(model or network(), clips, precision, **given), sort_keys=True)

    plain = key()
    assert plain == key()
    unequal = [
        plain,
        key(network(0.125)),
        key(network(name="r2plus1d")),
        key(placed(network(), CPU, "channels-last")),
        key(network().eval(), trained=False),
        key(clips=CLIPS[:1]),
        key(clips=CLIPS.contiguous(memory_format=torch.channels_last_3d)),
        key(clips=CLIPS.bfloat16()),
        key(precision=Precision("bf16", CPU)),
    ]
    monkeypatch.setattr(torch, "__version__", "99.0")
    unequal.append(key())
    assert len(set(unequal)) == len(unequal)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"key": {}, "chosen": "off", "seconds": {}}', '{"key": {"a": "b"}, "chosen": "none"}']
)
def test_what_cannot_be_read_is_raced_again(text: str, folder: Path) -> None:
    key = {"a": "b"}
    assert recalled(key) == ""
    assert remembered(key, "on", {"on": 1.0, "off": 2.0}) == "on" == recalled(key)
    (file,) = folder.iterdir()
    file.write_text(text)
    assert recalled(key) == ""


def test_a_cache_that_cannot_be_written_stops_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("PCLKD_CACHE", str(tmp_path / "file"))
    assert remembered({"a": "b"}, "on", {"on": 1.0}) == "on"
    assert recalled({"a": "b"}) == ""


def test_the_oldest_go(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(races, "_MOST", 5)
    for number in range(9):
        key = {"number": str(number)}
        remembered(key, "on", {"on": 1.0})
        os.utime(races._file(key), ns=(number, number))
    assert len(list(folder.iterdir())) == 5
    assert [bool(recalled({"number": str(number)})) for number in range(9)] == [False] * 4 + [True] * 5


def test_any_number_may_write_and_read_at_once(folder: Path) -> None:
    """Whoever reads finds a whole result or none."""
    seen: set[str] = set()
    many = ", ".join(map(str, range(2000)))

    def work(number: int) -> None:
        for turn in range(20):
            remembered({"long": many, "turn": str(turn % 3)}, "on", {"on": float(number)})
            seen.add(recalled({"long": many, "turn": str((turn + 1) % 3)}))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen <= {"", "on"} and recalled({"long": many, "turn": "0"}) == "on"
    assert sorted(path.suffix for path in folder.iterdir()) == [".json"] * 3
