"""Frames become clips in one way in all loaders of a run, before and after a restart: what each is asked is noted."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pclkd.pipeline.config import PixelPath
from pclkd.pipeline.loader import loader as loaders
from pclkd.sharding.shards.index import ShardIndex
from pclkd.training.compute import distributed
from pclkd.training.evaluation.evaluate import evaluate_run
from pclkd.training.evaluation.evaluator import Evaluator
from pclkd.training.evaluation.finetune import FinetuneSettings, finetune
from pclkd.training.loop import trainer
from pclkd.training.loop.plan import plan_run
from pclkd.training.loop.trainer import train
from pclkd.training.runs.checkpoint import Checkpoint, load_checkpoint, load_model, save_checkpoint
from pclkd.training.settings import override, preset

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("one_thread")

TINY = [
    *("backbone.width=0.125", "tuples.clip_frames=8", "tuples.clip_stride=12", "tuples.remote_distance=8"),
    *("loader.crop=32", "loader.batch_size=6", "loader.threads=1", "pcl.negatives=8", "pcl.bank_start=network"),
]


def test_the_first_loader_decides_for_all_others_and_the_checkpoint_remembers(
    synthetic_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    choose = loaders.choose_decoder

    def noting(graph: Any, wanted: Any, *others: Any) -> Any:
        asked.append(wanted)
        return choose(graph, wanted, *others)

    monkeypatch.setattr(loaders, "choose_decoder", noting)
    run, settings = tmp_path / "run", override(preset("pcl"), [*TINY, "epochs=1"])
    train(plan_run(run, synthetic_shards, settings))
    # Of training, then the one that fills the banks, and three that evaluate.
    assert asked == ["auto"] + ["cpu"] * 4
    assert load_checkpoint(run).decode == "cpu"

    asked.clear()
    train(plan_run(run, synthetic_shards, override(settings, ["epochs=2"]), resume=True))
    assert asked == ["cpu"] * 4
    asked.clear()
    how = FinetuneSettings(epochs=1, batch_size=6)
    assert len(list(evaluate_run(run, synthetic_shards, ["linear", "finetune"], clips=1, finetuning=how))) == 2
    assert asked == ["cpu"] * 4

    # Of a run of before, which does not tell, and without any.
    asked.clear()
    index, model = ShardIndex.open(synthetic_shards), load_model(load_checkpoint(run), run)
    with Evaluator(index, settings, CPU, clips=1) as evaluator:
        evaluator.all(model)
    assert asked == ["auto", "cpu", "cpu"]
    asked.clear()
    finetune(model.base_network, index, settings, how, CPU)
    assert asked == ["auto", "cpu"]


@pytest.mark.parametrize(
    ("setting", "remembered", "expected"),
    [
        (("auto", "auto"), ("mixed", "kernels"), ("mixed", "kernels")),
        (("auto", "auto"), ("auto", "dali"), ("auto", "dali")),
        (("cpu", "auto"), ("mixed", "kernels"), ("cpu", "kernels")),
        (("auto", "dali"), ("mixed", "kernels"), ("mixed", "dali")),
    ],
)
def test_a_run_is_measured_with_the_pixels_that_it_was_trained_with_where_the_device_can(
    setting: tuple[str, str], remembered: Any, expected: tuple[str, str], tmp_path: Path
) -> None:
    settings = override(preset("pcl"), [f"loader.decode={setting[0]}", f"loader.operators={setting[1]}"])
    empty: dict[str, Any] = {name: {} for name in ("loader", "epoch_sums", "model", "memory", "optimizer", "schedule")}
    numbers = dict.fromkeys(("rows", "processes", "epoch", "epoch_step", "step"), 1)
    kept = Checkpoint(settings, "abc", **numbers, **empty, best=None, scaler={}, **PixelPath(*remembered)._asdict())
    save_checkpoint(tmp_path / "last.pt", kept)
    found = load_checkpoint(tmp_path)
    assert found.path_on(torch.device("cuda")) == expected
    assert found.path_on(torch.device("cpu")) == ("cpu", "auto")


def test_a_checkpoint_of_before_the_kernels_had_dalis_operators(tmp_path: Path) -> None:
    empty: dict[str, Any] = {name: {} for name in ("loader", "epoch_sums", "model", "memory", "optimizer", "schedule")}
    numbers = dict.fromkeys(("rows", "processes", "epoch", "epoch_step", "step"), 1)
    save_checkpoint(tmp_path / "last.pt", Checkpoint(preset("pcl"), "abc", **numbers, **empty, best=None, scaler={}))
    content = torch.load(tmp_path / "last.pt", weights_only=True)
    del content["operators"]
    torch.save(content, tmp_path / "last.pt")
    assert load_checkpoint(tmp_path).path_on(torch.device("cuda")).operators == "dali"


@pytest.mark.parametrize(("remembered", "asked"), [(None, ("auto", "dali")), (("mixed", "kernels"), ("mixed", "dali"))])
def test_the_first_process_chooses_for_all(remembered: Any, asked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As another process hears it: what it would choose itself is not even asked."""
    told: list[PixelPath] = []

    class Loader:
        def calibrate(self, path: PixelPath) -> SimpleNamespace:
            told.append(path)
            return SimpleNamespace(path=path)

    settings = override(preset("pcl"), ["loader.operators=dali"])
    resumed = None if remembered is None else SimpleNamespace(path=PixelPath(*remembered))
    plan: Any = SimpleNamespace(settings=settings, resumed=resumed)
    loader: Any = Loader()
    trainer._same_pixels(plan, loader)  # alone it is the first one
    assert told == [asked, asked]
    told.clear()
    monkeypatch.setattr(distributed, "agreed", lambda what, choose: "cpu/kernels")
    trainer._same_pixels(plan, loader)
    assert told == [("cpu", "kernels")]
