import shutil
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from click.testing import CliRunner

from pclkd.pipeline.batch import ClipBatch
from pclkd.sharding.common.errors import InputError
from pclkd.training.cli import main
from pclkd.training.compute.precision import Precision
from pclkd.training.compute.settings import OptimizerSettings
from pclkd.training.compute.step import TrainStep
from pclkd.training.models.base import Backbone
from pclkd.training.models.compilation import compile_backbone, timed_passes
from pclkd.training.models.pcl_model import PclModel
from pclkd.training.models.registry import build_backbone

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = Precision("fp32", torch.device("cpu"))
TINY = [
    "--preset=demo", "--set=backbone.width=0.125", "--set=loader.crop=32", "--set=loader.batch_size=2",
    "--set=pcl.negatives=8", "--set=evaluation.every=0", "--max-steps=1",
]  # fmt: skip


def model() -> PclModel:
    torch.manual_seed(0)
    return PclModel(build_backbone("r3d", 0.125), embedding_dim=16)


class _Graph(torch.autograd.Function):
    """The mean over T, H and W times a weight a channel; as CUDA graphs do, a run takes the memory of the one before.

    What is read of an earlier run's outputs and gradients raises, as with torch's own CUDA graphs.
    """

    given: ClassVar[list[torch.Tensor]] = []

    @staticmethod
    def forward(ctx: Any, clips: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        for tensor in _Graph.given:
            storage = tensor.untyped_storage()._cdata
            torch._C._set_storage_data_ptr_access_error_msg(storage, "overwritten by a subsequent run")
        _Graph.given.clear()
        means = clips.mean(dim=(2, 3, 4))
        ctx.save_for_backward(means.clone())
        return _Graph.give(means * weight)

    @staticmethod
    def backward(ctx: Any, *gradient: torch.Tensor) -> tuple[None, torch.Tensor]:
        return None, _Graph.give((ctx.saved_tensors[0] * gradient[0]).sum(0))

    @staticmethod
    def give(tensor: torch.Tensor) -> torch.Tensor:
        _Graph.given.append(tensor)
        return tensor.view_as(tensor)  # the caller's alone, so that autograd keeps it as it is


class GraphedBackbone(Backbone):
    feature_dim = 3

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(3))

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = _Graph.apply(clips, self.weight)
        return features


class Mean(torch.nn.Module):
    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: ClipBatch) -> dict[str, torch.Tensor]:
        return {"loss": self.network(batch.clips.flatten(0, 1)).mean(0).sum()}


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
def test_a_compiled_backbone_computes_the_same_under_the_same_names() -> None:
    clips = torch.randn(2, 3, 8, 32, 32)
    eager, compiled = model(), model()
    before = {name: value.clone() for name, value in compiled.state_dict().items()}
    assert compile_backbone(compiled, "on", clips, CPU) == "on"
    assert all(torch.equal(value, before[name]) for name, value in compiled.state_dict().items())
    assert list(compiled.state_dict()) == list(eager.state_dict())
    torch.testing.assert_close(compiled.base_network(clips), eager.base_network(clips), rtol=1e-4, atol=1e-5)
    assert all(p.grad is None for p in compiled.parameters())


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
def test_a_compiled_teacher_says_the_same_in_inference_mode() -> None:
    clips = torch.randn(2, 3, 8, 32, 32)
    eager, teacher = model().eval().requires_grad_(False), model().eval().requires_grad_(False)
    # It never gets CUDA graphs, and needs no GPU for what takes their place.
    assert compile_backbone(teacher, "cuda-graphs", clips, CPU, trained=False) == "on"
    assert teacher.base_network._compiled_call_impl is not None
    with torch.inference_mode():
        said = [network.base_network(clips) for network in (teacher, eager)]
    torch.testing.assert_close(said[0], said[1], rtol=1e-4, atol=1e-5)
    assert all(torch.equal(a, b) for a, b in zip(teacher.buffers(), eager.buffers(), strict=True))


def test_on_the_cpu_auto_stays_eager_and_cuda_graphs_are_refused() -> None:
    clips = torch.zeros(1, 3, 8, 32, 32)
    network = model()
    assert compile_backbone(network, "auto", clips, CPU) == "off"
    assert network.base_network._compiled_call_impl is None
    with pytest.raises(InputError, match="cuda-graphs needs a GPU"):
        compile_backbone(network, "cuda-graphs", clips, CPU)


def test_a_compiler_that_does_not_work_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    torch._dynamo.reset()
    monkeypatch.setenv("CXX", str(tmp_path / "no-such-compiler"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    with pytest.raises(InputError, match="compile=on fails here"):
        compile_backbone(model(), "on", torch.zeros(1, 3, 8, 32, 24), CPU)


def test_synchronised_batch_norm_needs_a_gpu(synthetic_shards: Path, tmp_path: Path) -> None:
    arguments = ["pretrain", "--data", str(synthetic_shards), "--out", str(tmp_path / "run"), *TINY]
    done = CliRunner().invoke(main, [*arguments, "--set=sync_batch_norm=true"])
    assert done.exit_code == 2 and "sync_batch_norm needs GPUs" in done.output
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("turns", [1, 5])
def test_the_trial_never_touches_gradients_of_the_turn_before(turns: int) -> None:
    network = PclModel(GraphedBackbone(), embedding_dim=16)
    seconds = timed_passes(network, "off", torch.zeros(2, 3, 1, 2, 2), CPU, turns=turns, trained=True)
    assert 0 < seconds < 60
    assert network.base_network.weight.grad is None


def test_gradients_in_the_memory_of_a_graph_are_accumulated_over_the_batches_of_an_update() -> None:
    torch.manual_seed(0)
    graphed = GraphedBackbone()
    objective = Mean(graphed)
    step = TrainStep(objective, objective, OptimizerSettings(lr=1.0, momentum=0, weight_decay=0), CPU, 4)
    before = graphed.weight.detach().clone()
    clips = torch.randn(3, 2, 3, 3, 1, 2, 2)
    number = torch.arange(2)
    for _ in range(2):
        step(*(ClipBatch(part, number, number, number, epoch=0, valid=2) for part in clips))
    # The loss is linear in the weight: its gradient is the mean of the clips over everything but the channel.
    expected = 2 * clips.mean(dim=(0, 1, 2, 4, 5, 6))
    torch.testing.assert_close(before - graphed.weight, expected)
