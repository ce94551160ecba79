import shutil
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from pclkd.sharding.common.errors import InputError
from pclkd.training.cli import main
from pclkd.training.compute.precision import Precision
from pclkd.training.models.compilation import compile_backbone
from pclkd.training.models.pcl_model import PclModel
from pclkd.training.models.registry import build_backbone

CPU = Precision("fp32", torch.device("cpu"))
TINY = [
    "--preset=demo", "--set=backbone.width=0.125", "--set=loader.crop=32", "--set=loader.batch_size=2",
    "--set=pcl.negatives=8", "--set=evaluation.every=0", "--max-steps=1",
]  # fmt: skip


def model() -> PclModel:
    torch.manual_seed(0)
    return PclModel(build_backbone("r3d", 0.125), embedding_dim=16)


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
