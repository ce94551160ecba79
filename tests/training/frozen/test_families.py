"""Tiny networks of each family, with random weights from a folder or a file, teach a small R3D through each term."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import transformers
from torch import nn
from torchvision import models

from pclkd.pipeline.batch import ClipBatch
from pclkd.sharding.common.errors import InputError
from pclkd.training.compute.convolutions import check_convolutions
from pclkd.training.compute.precision import Precision
from pclkd.training.frozen.network import FrozenNetwork, StandardisedNetwork
from pclkd.training.frozen.opening import open_network
from pclkd.training.models.pcl_model import PclModel
from pclkd.training.models.resnet import R3D
from pclkd.training.objective.fit import adapter_dims, check_teachers, grid_dims
from pclkd.training.objective.objective import KdSettings, Objective, PclSettings

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
PLAIN = {**SMALL, "intermediate_size": 32, "patch_size": 16}
JEPA = {"pred_hidden_size": 16, "pred_num_attention_heads": 2, "pred_num_hidden_layers": 1, "mlp_ratio": 2}
DINO = {**SMALL, "image_size": 28, "patch_size": 14, "mlp_ratio": 2}

# transformers' class, its configuration; then what the spec has to say: frames, size, images, prefix, grid
TOWERS: dict[str, tuple[str, dict[str, Any], tuple[int, int, bool, int, tuple[int, int, int]]]] = {
    "videomae": ("VideoMAE", {**PLAIN, "image_size": 32, "num_frames": 4}, (4, 32, False, 0, (2, 2, 2))),
    "vjepa2": (
        "VJEPA2",
        {**SMALL, **JEPA, "patch_size": 16, "crop_size": 32, "frames_per_clip": 4},
        (4, 32, False, 0, (2, 2, 2)),
    ),
    "dinov2": ("Dinov2", DINO, (1, 28, True, 1, (1, 2, 2))),
    "dinov2_with_registers": ("Dinov2WithRegisters", {**DINO, "num_register_tokens": 3}, (1, 28, True, 4, (1, 2, 2))),
    "dinov3": ("DINOv3ViT", {**PLAIN, "image_size": 48, "num_register_tokens": 2}, (1, 48, True, 3, (1, 3, 3))),
    "clip": ("CLIPVision", {**PLAIN, "image_size": 32}, (1, 32, True, 1, (1, 2, 2))),
    "siglip": ("SiglipVision", {**PLAIN, "image_size": 32}, (1, 32, True, 0, (1, 2, 2))),
}
VIT = {"img_size": 32, "depth": 2, "embed_dim": 16, "num_heads": 2}


@pytest.fixture(scope="module")
def tower(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Writes a tiny network of transformers or timm to a folder, and tells its name as a teacher."""
    root = tmp_path_factory.mktemp("towers")

    def write(name: str) -> str:
        torch.manual_seed(0)
        if name == "timm":
            network = timm.create_model("vit_tiny_patch16_224", num_classes=0, **VIT)
            timm.models.save_for_hf(network, root / name, model_args=VIT)
            return f"timm:local-dir:{root / name}"
        kind, config, _ = TOWERS[name]
        made = getattr(transformers, f"{kind}Model")(getattr(transformers, f"{kind}Config")(**config))
        made.save_pretrained(root / name)
        return f"hf:{root / name}"

    return write


def weights_of(model: str, folder: Path) -> str:
    """A file of random weights of one of torchvision's networks; the teacher's name."""
    torch.manual_seed(0)
    torch.save(models.get_model(model, weights=None).state_dict(), folder / f"{model}.pth")
    return f"torchvision:{model}@{folder / model}.pth"


def taught_by(*teachers: FrozenNetwork, **weights: Any) -> dict[str, torch.Tensor]:
    """The losses of two steps of a small R3D whose gradients reach its first convolution."""
    heads = [PclModel(teacher, pretext_classes=0, embedding_dim=0) for teacher in teachers]
    kd = KdSettings(pretext_weight=0, contrast_weight=0, **{**dict.fromkeys(TERMS, 1.0), **weights})
    pcl = PclSettings(contrast="none", pretext_weight=0)
    student = PclModel(R3D(0.125), adapter_dims=adapter_dims(heads, pcl, kd), grid_dims=grid_dims(heads, kd))
    objective = Objective(student, 4, pcl, 0, teachers=heads, kd=kd, teacher_views=[*range(len(heads))])
    optimizer = torch.optim.SGD(student.parameters(), lr=0.01)
    views = [teacher.spec for teacher in teachers]
    number = torch.arange(2)
    moments = tuple(torch.randn(2, 3, 3, view.frames, view.size, view.size) for view in views)
    batch = ClipBatch(torch.randn(2, 3, 3, 8, 32, 32), number, number, number, epoch=0, valid=2, moments=moments)
    for _ in range(2):
        losses = objective(batch)
        optimizer.zero_grad()
        losses["loss"].backward()
        assert float(student.base_network.get_parameter("conv1.temporal_spatial_conv.weight").grad.abs().sum()) > 0
        optimizer.step()
    return losses


TERMS = ("feature_weight", "relation_weight", "grid_weight")


def assert_teaches(network: FrozenNetwork, terms: tuple[str, ...] = TERMS) -> None:
    for term in terms:
        losses = taught_by(network, **{**dict.fromkeys(TERMS, 0.0), term: 1.0, "relation_queue": 4})
        value = losses[f"kd_{term.removesuffix('_weight')}"]
        assert value.isfinite() and float(value) > 0
        assert not any(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("name", TOWERS)
def test_networks_of_transformers_teach(name: str, tower: Callable[[str], str]) -> None:
    network = open_network(tower(name))
    spec = network.spec
    assert (spec.frames, spec.size, spec.images, spec.prefix, spec.grid) == TOWERS[name][2]
    assert_teaches(network)
    if spec.images:  # pictures one by one: a grid cell in time for each
        _, grid = network.look(torch.randn(1, 3, 5, spec.size, spec.size))
        assert grid is not None and grid.shape == (1, 16, 5, *spec.grid[1:])


def test_their_convolutions_of_clips_are_checked_as_all_are(tower: Callable[[str], str]) -> None:
    """The tubes of VideoMAE are one; the patches of an image network none of these."""
    precision = Precision("bf16", torch.device("cpu"))
    for name, count in (("videomae", 1), ("dinov3", 0)):
        network = open_network(tower(name))
        clips = torch.zeros(2, 3, network.spec.frames, network.spec.size, network.spec.size)
        assert len(check_convolutions(network, clips, precision, learned=False)) == count


def test_a_network_of_timm_teaches_and_says_what_timm_says(tower: Callable[[str], str]) -> None:
    network = open_network(tower("timm"), {"frames": 2})
    assert (network.spec.frames, network.spec.size, network.spec.grid) == (2, 32, (1, 2, 2))
    assert network.spec.mean == (0.5, 0.5, 0.5)
    assert_teaches(network)
    clips = torch.randn(3, 3, 2, 32, 32)
    by_hand = torch.stack([network.network(clips[:, :, frame]) for frame in range(2)]).mean(0)  # type: ignore[operator]
    assert torch.allclose(network(clips), by_hand, atol=1e-5)


@pytest.mark.parametrize(
    ("model", "spec"),
    [
        ("mc3_18", {"frames": 4, "size": 32}),
        ("swin3d_t", {"frames": 4, "size": 32}),
        ("resnet18", {"size": 32}),
    ],
)
def test_networks_of_torchvision_teach(model: str, spec: dict[str, Any], tmp_path: Path) -> None:
    network = open_network(weights_of(model, tmp_path), spec)
    assert_teaches(network, TERMS if model == "mc3_18" else ("grid_weight",))
    other = models.get_model(model, weights=None).eval()
    other.load_state_dict(torch.load(tmp_path / f"{model}.pth", weights_only=True))
    name = next(name for name in ("fc", "head") if hasattr(other, name))
    setattr(other, name, nn.Identity())
    clips = torch.randn(1, 3, network.spec.frames, 32, 32)
    with torch.inference_mode():
        assert torch.allclose(network(clips), other(clips[:, :, 0] if network.spec.images else clips), atol=1e-4)


class Own(nn.Module):
    """A user's network: maps of clips."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv3d(3, 6, 3, stride=2)
        self.teacher_spec = {"frames": 6, "size": 24, "modality": "residual"}

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        return self.convolution(clips)


def test_a_function_of_the_users_teaches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "their_module.py").write_text("import pathlib, torch\n\ndef wrong():\n    return 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("their_module").made = Own  # type: ignore[attr-defined]
    network = open_network("module:their_module:made", {"size": 32})
    assert (network.spec.frames, network.spec.size, network.spec.modality) == (6, 32, "residual")
    assert_teaches(network)
    with pytest.raises(InputError, match="is a int"):
        open_network("module:their_module:wrong")
    with pytest.raises(InputError, match="does not take clips of 2 frames of 24 x 24 pixels"):
        open_network("module:their_module:made", {"frames": 2})


def test_features_are_standardised_for_heads(tower: Callable[[str], str]) -> None:
    network = StandardisedNetwork(open_network(tower("dinov3"))).train()
    assert not network.network.training
    torch.manual_seed(0)
    clips = [torch.randn(20, 3, 1, 48, 48) for _ in range(2)]
    network.measure(clips)
    std, mean = torch.std_mean(torch.cat([network(some) for some in clips]), dim=0, correction=0)
    assert torch.allclose(mean, torch.zeros(16), atol=1e-4) and torch.allclose(std, torch.ones(16), atol=1e-3)


def test_several_teachers_count_by_their_weights(tower: Callable[[str], str], tmp_path: Path) -> None:
    first, second = open_network(tower("dinov3")), open_network(tower("videomae"))
    found = {}
    for weights in ((1.0, 1.0), (3.0, 1.0), ()):
        torch.manual_seed(1)
        found[weights] = float(taught_by(first, second, teacher_weights=weights)["kd_feature"])
    assert found[(1.0, 1.0)] == found[()] != found[(3.0, 1.0)]
    with pytest.raises(InputError, match="has 1 numbers for 2 teacher"):
        taught_by(first, second, teacher_weights=(1.0,))


def test_what_cannot_be_is_refused(tower: Callable[[str], str], tmp_path: Path) -> None:
    name = tower("videomae")
    with pytest.raises(InputError, match="does not take clips of 8 frames"):  # its positions are of 4
        open_network(name, {"frames": 8})
    with pytest.raises(InputError, match="gives 8 tokens, not 0 and 1 x 2 x 2"):
        open_network(name, {"grid": (1, 2, 2)})
    with pytest.raises(InputError, match="'frame', which no TeacherSpec has - did you mean 'frames'"):
        open_network(name, {"frame": 8})
    with pytest.raises(InputError, match="size=31"):
        open_network(name, {"size": 31})
    transformers.BertConfig(**PLAIN).save_pretrained(tmp_path / "bert")
    with pytest.raises(InputError, match="of no known family: it is a bert - take one of videomae"):
        open_network(f"hf:{tmp_path / 'bert'}")
    torch.save(models.video.r3d_18().state_dict(), tmp_path / "other.pth")
    with pytest.raises(InputError, match="these are no weights of mc3_18"):
        open_network(f"torchvision:mc3_18@{tmp_path / 'other.pth'}")
    with pytest.raises(InputError, match="did you mean 'resnet18'"):
        open_network("torchvision:resnet1")
    network = PclModel(open_network(name), pretext_classes=0, embedding_dim=0)
    for term in ("pretext", "contrast"):
        kd = KdSettings(pretext_weight=float(term == "pretext"), contrast_weight=float(term == "contrast"))
        with pytest.raises(InputError, match=f"--set kd.{term}_weight=0, or fit heads"):
            check_teachers([network], PclSettings(), kd, pretext=True)


def test_weights_that_are_not_there_are_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    for name, fetch in (
        ("hf:nobody/nothing", "hf download nobody/nothing"),
        ("timm:vit_small_patch16_224", "timm.create_model"),
        ("torchvision:mc3_18", f"curl -L -o {tmp_path}"),
    ):
        with pytest.raises(InputError, match="looked in /") as refused:
            open_network(name)
        assert fetch in str(refused.value) and "HF_HUB_OFFLINE=0" in str(refused.value)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("family", "module", "extra"), [("hf", "transformers", "hf"), ("timm", "timm", "timm")])
def test_a_missing_extra_is_named(family: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=f"needs {module}, which is not installed") as refused:
        open_network(f"{family}:anything")
    assert f"pip install 'pclkd[{extra}]'" in str(refused.value) and "\n" not in str(refused.value)
