"""The moving average of weights: by hand in float64, through a checkpoint, and in what measures a run."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import nn

from pclkd.training.cli import main
from pclkd.training.compute.average import WeightAverage, weights_of
from pclkd.training.runs.checkpoint import load_checkpoint, load_model

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = [
    *("--preset=demo", "--set=backbone.width=0.125", "--set=loader.crop=32", "--set=loader.batch_size=4"),
    *("--set=pcl.negatives=8", "--set=log_every=1", "--set=optimizer.average_decay=0.9"),
]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def move(net: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for tensor in (*net.parameters(), *net.buffers()):
        if tensor.is_floating_point():
            tensor.data += torch.randn(tensor.shape, generator=generator)
        else:
            tensor.data += 1


def test_weights_and_statistics_are_averaged_with_a_share_that_grows() -> None:
    net = network()
    average = WeightAverage(net, 0.6)
    average.update()
    expected = {name: value.double() for name, value in net.state_dict().items()}
    for number in range(1, 12):
        move(net, number)
        average.update()
        kept = min(0.6, (1 + number) / (10 + number))
        for name, value in net.state_dict().items():
            expected[name] = kept * expected[name] + (1 - kept) * value.double()
    found = average.network.state_dict()
    counted = found.pop("1.num_batches_tracked")
    assert counted == net.state_dict()["1.num_batches_tracked"] == 11
    for name, value in found.items():
        torch.testing.assert_close(value.double(), expected[name], rtol=1e-5, atol=1e-6)
        assert not torch.equal(value, net.state_dict()[name])


def test_a_saved_average_goes_on_bit_for_bit() -> None:
    net, other = network(), network()
    whole, first, second = WeightAverage(net, 0.9), WeightAverage(net, 0.9), WeightAverage(other, 0.9)
    for number in range(4):
        move(net, number)
        whole.update()
        first.update()
    second.load_state_dict({name: value.clone() for name, value in first.state_dict().items()})
    other.load_state_dict(net.state_dict())
    move(net, 9)
    move(other, 9)
    whole.update()
    second.update()
    assert all(torch.equal(value, second.state_dict()[name]) for name, value in whole.state_dict().items())


def run(data: Path, out: Path, *more: str) -> None:
    done = CliRunner().invoke(main, ["pretrain", "--data", str(data), "--out", str(out), *TINY, *more])
    assert done.exit_code == 0, done.output


def test_a_run_is_measured_exported_and_resumed_with_its_average(synthetic_shards: Path, tmp_path: Path) -> None:
    run(synthetic_shards, tmp_path / "whole", "--epochs=2")
    for steps in ("3", "5", "99"):  # stopped within the first and within the second epoch
        run(synthetic_shards, tmp_path / "parts", "--epochs=2", f"--max-steps={steps}", "--resume")
    whole, parts = (load_checkpoint(tmp_path / name) for name in ("whole", "parts"))
    assert whole.step == parts.step
    assert all(torch.equal(value, parts.average[name]) for name, value in whole.average.items())

    shown, trained = (load_model(whole, "whole", trained=trained).state_dict() for trained in (False, True))
    assert all(torch.equal(value, shown[name]) for name, value in weights_of(whole.average).items())
    assert all(torch.equal(value, trained[name]) for name, value in whole.model.items())
    assert any(not torch.equal(value, shown[name]) for name, value in trained.items())

    # What training wrote down at its end is what the exported average is measured at.
    records = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    last = next(record for record in reversed(records) if record["kind"] == "epoch")
    done = CliRunner().invoke(
        main, ["evaluate", str(tmp_path / "whole"), "--data", str(synthetic_shards), "--protocol=linear"]
    )
    assert done.exit_code == 0, done.output
    measured = json.loads((tmp_path / "whole" / "eval-linear.json").read_text())
    assert measured["linear_top1_pct"] == last["val/linear_top1_pct"]
