"""Layers of every kind of network, and Grad-CAM where gradients are known by hand or by finite differences."""

import pytest
import torch
from torch import nn

from pclkd.training.models import registry
from pclkd.training.models.registry import build_backbone, register_backbone
from pclkd.training.visualize.layers import EMBEDDING, FEATURES, LayerFeatures, grad_cam, located, recorded

pytestmark = pytest.mark.usefixtures("one_thread")

CLIPS = torch.randn(2, 3, 8, 32, 32, generator=torch.Generator().manual_seed(1))


class Tokens(nn.Module):
    """A network without maps, as transformers are."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.mix = nn.Linear(3 * 32 * 32, 6), nn.Linear(6, 5)

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        frames = clips.transpose(1, 2).flatten(2)  # [N, T, C H W]
        return self.mix(self.embed(frames).mean(1))


@pytest.fixture(autouse=True)
def own_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_BUILDERS", dict(registry._BUILDERS))  # forgotten after the test
    register_backbone("visualize-tokens", Tokens, feature_dim=5)
    register_backbone("visualize-one-layer", lambda: nn.Conv3d(3, 7, 3, padding=1), feature_dim=7)


@pytest.mark.parametrize(
    ("name", "width", "wanted"),
    [
        ("c3d", 0.125, {"bn1": (8, 32), "bn2": (8, 16), "bn3b": (4, 8), "bn4b": (2, 4)}),
        ("r3d", 0.125, {"conv2": (8, 16), "conv3": (4, 8), "conv4": (2, 4)}),
        ("r2plus1d18", 0.125, {"conv2": (8, 16), "conv3": (4, 8), "conv4": (2, 4)}),
        ("visualize-one-layer", 1.0, {}),
        ("visualize-tokens", 1.0, {}),
    ],
)
def test_the_layers_of_a_network(name: str, width: float, wanted: dict[str, tuple[int, int]]) -> None:
    backbone = build_backbone(name, width).eval()
    with recorded(backbone) as maps, torch.no_grad():
        features = backbone(CLIPS)
    sizes = {layer: (said.shape[2], said.shape[3]) for layer, said in maps.items()}
    for layer, size in wanted.items():
        assert sizes.pop(layer) == size
    assert len(sizes) == (name != "visualize-tokens")  # the last one, whose mean the features are
    for said in list(maps.values())[-1:]:
        assert torch.allclose(said.mean((2, 3, 4)), features, atol=1e-5)
    if name != "visualize-one-layer":
        assert all(said.min() >= 0 for said in maps.values())  # as it is passed on, behind a ReLU in place

    network = LayerFeatures(backbone, nn.Linear(features.shape[1], 3)).eval()
    with torch.no_grad():
        described = network.features(torch.stack([CLIPS, CLIPS.flip(0)], dim=1))
    found = network.by_layer(described.mean(1))
    assert list(found) == [*wanted, FEATURES, EMBEDDING]
    assert torch.allclose(found[FEATURES], features.mean(0).expand(2, -1), atol=1e-5)  # each saw both clips
    for layer in wanted:
        assert torch.allclose(found[layer][0], maps[layer].mean((0, 2, 3, 4)), atol=1e-5)
    assert not any(part._forward_hooks for part in backbone.modules())


@pytest.mark.parametrize("name", ["mc3_18", "s3d"])
def test_networks_of_torchvision_have_layers_too(name: str) -> None:
    backbone = build_backbone(name).eval()
    with recorded(backbone) as maps, torch.no_grad():
        features = backbone(torch.randn(1, 3, 8, 32, 32))
    assert len(maps) >= 4
    assert torch.allclose(list(maps.values())[-1].mean((2, 3, 4)), features, atol=1e-5)


def test_what_is_looked_at_is_the_deepest_layer_that_is_fine_enough() -> None:
    def maps(*sizes: tuple[int, int, int]) -> dict[str, torch.Tensor]:
        return {f"layer{number}": torch.zeros(1, 2, *size) for number, size in enumerate(sizes)}

    assert located(maps((8, 16, 16), (4, 8, 8), (2, 4, 4))) == "layer1"
    assert located(maps((16, 56, 56), (4, 4, 4), (8, 3, 8))) == "layer1"
    assert located(maps((2, 9, 9), (3, 7, 7), (1, 2, 2))) == "layer0"


def test_grad_cam_of_a_network_whose_gradient_is_known() -> None:
    # The score is the mean of each channel times its weight: so is the gradient, everywhere.
    weights = torch.tensor([2.0, -1.0, 0.5])
    maps = torch.randn(2, 3, 4, 5, 6, requires_grad=True)
    scores = (maps.mean((2, 3, 4)) * weights).sum(1)
    wanted = torch.relu(sum(weight * maps[:, channel] for channel, weight in enumerate(weights))) / (4 * 5 * 6)
    assert torch.allclose(grad_cam(maps, scores), wanted, atol=1e-7)
    assert (wanted == 0).any() and (wanted > 0).any()


def test_grad_cam_weighs_channels_as_finite_differences_do() -> None:
    torch.manual_seed(0)
    after = nn.Sequential(
        nn.Conv3d(3, 4, 3), nn.Tanh(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 1)
    ).double()
    maps = torch.randn(2, 3, 4, 4, 4, dtype=torch.float64)
    step, weights = 1e-5, torch.zeros(2, 3, dtype=torch.float64)
    with torch.no_grad():
        for channel in range(3):
            moved = torch.zeros_like(maps)
            moved[:, channel] = step
            weights[:, channel] = (after(maps + moved) - after(maps - moved))[:, 0] / (2 * step) / 64
    wanted = torch.relu((weights[..., None, None, None] * maps).sum(1))
    maps.requires_grad_()
    assert torch.allclose(grad_cam(maps, after(maps)[:, 0]), wanted, atol=1e-10)
    assert wanted.any()
