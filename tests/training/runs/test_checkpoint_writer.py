from pathlib import Path

import pytest
import torch

from pclkd.training.runs.checkpoint import Checkpoint, load_checkpoint
from pclkd.training.runs.checkpoint_writer import CheckpointWriter
from pclkd.training.settings import CheckpointSettings, RunSettings


def checkpoint(epoch: int, weight: torch.Tensor) -> Checkpoint:
    return Checkpoint(
        settings=RunSettings(), fingerprint="f", rows=3, processes=1, loader={}, epoch=epoch, epoch_step=0, step=epoch,
        epoch_sums={}, best=None, model={"w": weight}, memory={"student": {"first": weight * 2}},
        optimizer={"state": {0: {"momentum": weight}}}, schedule={}, scaler={},
    )  # fmt: skip


def test_what_is_written_is_the_state_at_the_call_whatever_happens_after(tmp_path: Path) -> None:
    weight = torch.ones(200_000)
    writer = CheckpointWriter(tmp_path, CheckpointSettings())
    writer.save(checkpoint(1, weight))
    weight.fill_(5)  # training goes on while the file is written
    writer.close()
    read = load_checkpoint(tmp_path)
    assert torch.equal(read.model["w"], torch.ones(200_000))
    assert torch.equal(read.optimizer["state"][0]["momentum"], torch.ones(200_000))


def test_a_write_that_fails_is_told_at_the_next_save_and_leaves_the_last_one(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    writer = CheckpointWriter(folder, CheckpointSettings())
    writer.save(checkpoint(1, torch.ones(3)))
    writer.wait()
    (folder / "last.pt.part").mkdir()  # nothing can be written under that name
    writer.save(checkpoint(2, torch.ones(3)))
    with pytest.raises(OSError, match=r"last\.pt"):
        writer.save(checkpoint(3, torch.ones(3)))
    assert load_checkpoint(folder).epoch == 1
    writer.close()


def test_the_best_is_the_highest_measured_of_all_sittings(tmp_path: Path) -> None:
    settings = CheckpointSettings(best="val/linear_top1_pct", keep=1)
    writer = CheckpointWriter(tmp_path, settings)
    for epoch, value in ((1, 40.0), (2, 60.0), (3, 50.0)):
        writer.save(checkpoint(epoch, torch.ones(3)), {"val/linear_top1_pct": value})
    writer.close()
    assert load_checkpoint(tmp_path / "best.pt").epoch == 2
    resumed = CheckpointWriter(tmp_path, settings, load_checkpoint(tmp_path).best)
    resumed.save(checkpoint(4, torch.ones(3)), {"val/linear_top1_pct": 55.0})
    resumed.save(checkpoint(5, torch.ones(3)), {})
    resumed.close()
    assert load_checkpoint(tmp_path / "best.pt").epoch == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.pt", "epoch-0005.pt", "last.pt"]
