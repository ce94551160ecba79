import json
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch.utils.flop_counter import FlopCounterMode

from pclkd.sharding.common.errors import InputError
from pclkd.training.models import registry as backbones
from pclkd.training.models.base import scaled
from pclkd.training.models.pcl_model import PclModel
from pclkd.training.models.registry import BACKBONE_NAMES, build_backbone, register_backbone
from pclkd.training.models.resnet import channels_between

# Parameters and 10^9 multiply-adds for one clip of 3 x 16 x 112 x 112.
PUBLISHED = {
    "c3d": (27_661_440, 38.50),
    "r3d": (14_361_792, 19.89),
    "r2plus1d": (14_365_303, 21.36),
    "r3d18": (33_166_272, 40.70),
    "r2plus1d18": (33_178_423, 42.17),
    "r3d_18": (33_166_272, 40.70),
    "mc3_18": (11_490_240, 43.34),
    "r2plus1d_18": (31_300_125, 40.52),
    # torchvision's own state dict without its classifier; the GMACs are counted here, no source gives them.
    "s3d": (8_320_048 - 400 * 1025, 4.47),
}
OURS = ("c3d", "r3d", "r2plus1d", "r3d18", "r2plus1d18")

State = dict[str, torch.Tensor]


@pytest.mark.parametrize("name", BACKBONE_NAMES)
def test_size_and_work_are_the_published_ones(name: str) -> None:
    parameters, gmacs = PUBLISHED[name]
    with torch.device("meta"):
        backbone = build_backbone(name)
        clips = torch.empty(1, 3, 16, 112, 112)
    assert sum(p.numel() for p in backbone.parameters()) == parameters
    with FlopCounterMode(display=False) as counter:
        features = backbone(clips)
    assert features.shape == (1, backbone.feature_dim)
    assert backbone.feature_dim == (1024 if name == "s3d" else 512)
    # The counter counts multiplications and additions.
    assert round(counter.get_total_flops() / 2e9, 2) == gmacs


@pytest.mark.parametrize("name", ["c3d", "r3d", "r2plus1d"])
def test_state_dict_has_the_keys_order_and_shapes_of_published_checkpoints(name: str) -> None:
    path = Path(__file__).resolve().parents[4] / "shared" / "published-checkpoints.json"
    if not path.exists():
        pytest.skip("no list of published checkpoints beside the checkout")
    with torch.device("meta"):
        model = PclModel(build_backbone(name))
    own = {key: list(value.shape) for key, value in model.state_dict().items()}
    published = json.loads(path.read_text())[name]
    assert own == published
    assert list(own) == list(published)


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("width", [0.125, 0.3])
def test_narrow_backbones_run_and_every_parameter_learns(name: str, width: float) -> None:
    backbone = build_backbone(name, width)
    assert backbone.feature_dim == scaled(512, width)
    features = backbone(torch.randn(2, 3, 8, 32, 32))
    assert features.shape == (2, backbone.feature_dim)
    features.square().sum().backward()  # type: ignore[no-untyped-call]
    for key, parameter in backbone.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key


@pytest.mark.parametrize(
    ("channels", "width", "expected"),
    [(64, 1.0, 64), (64, 0.125, 8), (64, 0.01, 8), (64, 0.3, 16), (512, 0.3, 152), (64, 0.1875, 16), (64, 2.0, 128)],
)
def test_width_gives_the_nearest_multiple_of_eight(channels: int, width: float, expected: int) -> None:
    assert scaled(channels, width) == expected


@pytest.mark.parametrize("width", [0.0, -1.0, math.nan, math.inf])
def test_a_width_that_is_no_positive_number_is_refused(width: float) -> None:
    with pytest.raises(InputError, match="width"):
        build_backbone("r3d", width)


@pytest.mark.parametrize(
    ("wrong", "nearest"), [("r3", "r3d"), ("R2Plus1", "r2plus1d"), ("C3", "c3d"), ("mc3_1", "mc3_18")]
)
def test_an_unknown_name_is_answered_with_the_known_and_the_nearest(wrong: str, nearest: str) -> None:
    with pytest.raises(InputError, match=wrong) as caught:
        build_backbone(wrong)
    assert f"did you mean '{nearest}'?" in str(caught.value)
    assert all(name in str(caught.value) for name in BACKBONE_NAMES)


def test_channels_between_by_the_formula_of_the_paper() -> None:
    assert channels_between(3, 64, (3, 7, 7)) == 83
    assert channels_between(64, 128, (1, 1, 1)) == 42
    assert channels_between(256, 512, (3, 3, 3)) == math.floor(27 * 256 * 512 / (9 * 256 + 3 * 512)) == 921


@pytest.mark.parametrize("name", OURS)
def test_activations_neither_vanish_nor_explode_at_the_start(name: str) -> None:
    torch.manual_seed(0)
    backbone = build_backbone(name, 0.25)
    # One pass in train mode: batch statistics are the inputs' own.
    features = backbone(torch.randn(4, 3, 8, 32, 32)).detach()
    assert 0.01 < float(features.mean()) < 10


def randomised(name: str, width: float, seed: int) -> tuple[torch.nn.Module, State]:
    """An eval-mode backbone in float64 whose weights, biases and statistics are all far from their start."""
    backbone = build_backbone(name, width).double().eval()
    generator = torch.Generator().manual_seed(seed)
    state = backbone.state_dict()
    for value in state.values():
        if value.is_floating_point():
            noise = torch.rand(value.shape, generator=generator, dtype=torch.float64)
            if value.ndim < 2:
                value.copy_(0.5 + noise)
            else:
                value.add_(0.1 * (noise - 0.5))
    backbone.load_state_dict(state)
    return backbone, state


def norm(x: torch.Tensor, state: State, key: str) -> torch.Tensor:
    """Batch norm from its definition."""
    mean, var = state[f"{key}.running_mean"], state[f"{key}.running_var"]
    weight, bias = state[f"{key}.weight"], state[f"{key}.bias"]
    shape = (1, -1, 1, 1, 1)
    scale = weight / torch.sqrt(var + 1e-5)
    return (x - mean.view(shape)) * scale.view(shape) + bias.view(shape)


def conv_r3d(
    x: torch.Tensor, state: State, key: str, stride: int | tuple[int, ...], pad: tuple[int, ...]
) -> torch.Tensor:
    return F.conv3d(x, state[f"{key}.temporal_spatial_conv.weight"], stride=stride, padding=pad)


def conv_r2plus1d(
    x: torch.Tensor, state: State, key: str, stride: int | tuple[int, ...], pad: tuple[int, ...]
) -> torch.Tensor:
    t, h, w = (stride,) * 3 if isinstance(stride, int) else stride
    x = F.conv3d(x, state[f"{key}.spatial_conv.weight"], stride=(1, h, w), padding=(0, pad[1], pad[2]))
    x = norm(x, state, f"{key}.bn").clamp(min=0)
    return F.conv3d(x, state[f"{key}.temporal_conv.weight"], stride=(t, 1, 1), padding=(pad[0], 0, 0))


@pytest.mark.parametrize(("name", "conv"), [("r3d", conv_r3d), ("r2plus1d", conv_r2plus1d)])
def test_residual_networks_compute_what_the_method_says(name: str, conv: object) -> None:
    assert callable(conv)
    backbone, state = randomised(name, 0.125, seed=4)
    clips = torch.randn(2, 3, 8, 32, 32, dtype=torch.float64)
    x = norm(conv(clips, state, "conv1", (1, 2, 2), (1, 3, 3)), state, "bn1").clamp(min=0)
    for stage in range(2, 6):
        key, stride = f"conv{stage}.block1", 1 if stage == 2 else 2
        inner = norm(conv(x, state, f"{key}.conv1", stride, (1, 1, 1)), state, f"{key}.bn1").clamp(min=0)
        inner = norm(conv(inner, state, f"{key}.conv2", 1, (1, 1, 1)), state, f"{key}.bn2")
        if stage > 2:
            x = norm(conv(x, state, f"{key}.downsampleconv", 2, (0, 0, 0)), state, f"{key}.downsamplebn")
        x = (x + inner).clamp(min=0)
    expected = x.flatten(2).mean(dim=2)
    torch.testing.assert_close(backbone(clips), expected, rtol=1e-10, atol=1e-10)


def test_c3d_computes_what_the_method_says() -> None:
    backbone, state = randomised("c3d", 0.125, seed=5)
    clips = torch.randn(2, 3, 8, 32, 32, dtype=torch.float64)
    x = clips
    early, late = (1, 2, 2), (2, 2, 2)
    for layer in ("1", early, "2", late, "3a", "3b", late, "4a", "4b", late, "5a", "5b"):
        if isinstance(layer, tuple):
            t, h, w = layer
            x = x.unfold(2, t, t).unfold(3, h, h).unfold(4, w, w).amax(dim=(5, 6, 7))
        else:
            x = F.conv3d(x, state[f"conv{layer}.weight"], state[f"conv{layer}.bias"], padding=1)
            x = norm(x, state, f"bn{layer}").clamp(min=0)
    torch.testing.assert_close(backbone(clips), x.flatten(2).mean(dim=2), rtol=1e-10, atol=1e-10)


def test_r3d18_is_the_r3d_18_of_torchvision() -> None:
    torch.manual_seed(1)
    theirs = torchvision.models.video.r3d_18()
    theirs.fc = torch.nn.Identity()
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.running_mean.uniform_(-0.2, 0.2)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr]
    parts = {
        "conv1.0": "conv1.temporal_spatial_conv",
        "conv1.1": "bn1",
        "conv2.0": "conv2.temporal_spatial_conv",
        "conv2.1": "bn2",
        "downsample.0": "downsampleconv.temporal_spatial_conv",
        "downsample.1": "downsamplebn",
    }
    renamed: State = {}
    for key, value in theirs.state_dict().items():
        where, leaf = key.rsplit(".", 1)
        if where.startswith("stem"):
            new = {"stem.0": "conv1.temporal_spatial_conv", "stem.1": "bn1"}[where]
        else:
            layer, block, part = where.split(".", 2)
            name = "block1" if block == "0" else "blocks.0"
            new = f"conv{int(layer[-1]) + 1}.{name}.{parts[part]}"
        renamed[f"{new}.{leaf}"] = value
    ours = build_backbone("r3d18")
    ours.load_state_dict(renamed, strict=True)
    clips = torch.randn(1, 3, 8, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(clips), theirs.eval()(clips), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["r3d_18", "mc3_18", "r2plus1d_18", "s3d"])
def test_torchvision_backbones_are_torchvisions_without_the_classifier(name: str) -> None:
    torch.manual_seed(2)
    theirs = getattr(torchvision.models.video, name)().eval()
    ours = build_backbone(name).eval()
    assert isinstance(ours, backbones.TorchvisionBackbone)
    ours.load_torchvision(theirs.state_dict())
    if name == "s3d":  # its own pooling needs 224 x 224; the mean over the same maps stands for it
        clips = torch.randn(1, 3, 8, 64, 64)
        expected = theirs.features(clips).mean(dim=(2, 3, 4))
    else:
        clips = torch.randn(1, 3, 8, 32, 32)
        theirs.fc = torch.nn.Identity()
        expected = theirs(clips)
    with torch.no_grad():
        torch.testing.assert_close(ours(clips), expected)
    with pytest.raises(InputError, match=f"width 0.5 of torchvision's {name}"):
        build_backbone(name, 0.5)


def test_a_registered_network_is_a_backbone_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbones, "_BUILDERS", dict(backbones._BUILDERS))
    register_backbone("one_conv", lambda: torch.nn.Conv3d(3, 6, 3), feature_dim=6, least_frames=3)
    backbone = build_backbone("one_conv")
    clips = torch.randn(2, 3, 4, 8, 8)
    assert (backbone.feature_dim, backbone.least_frames) == (6, 3)
    torch.testing.assert_close(backbone(clips), backbone.network(clips).mean(dim=(2, 3, 4)))
    with pytest.raises(InputError, match="'one_conv' exists already"):
        register_backbone("one_conv", torch.nn.Identity, feature_dim=1)
    with pytest.raises(InputError, match="width"):
        build_backbone("one_conv", 0.5)
    register_backbone("a_liar", lambda: torch.nn.Conv3d(3, 6, 3), feature_dim=7)
    with pytest.raises(InputError, match=r"'a_liar' gave features \[2, 6\]"):
        build_backbone("a_liar")(clips)
