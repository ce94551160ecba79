from typing import Literal

import pytest
import torch

from pclkd.training.models.base import Backbone
from pclkd.training.models.pcl_model import PclModel
from pclkd.training.models.registry import build_backbone


def tiny(name: str = "r3d") -> PclModel:
    torch.manual_seed(0)
    return PclModel(build_backbone(name, 0.125), pretext_classes=5, embedding_dim=16)


def test_output_is_what_the_heads_say_about_each_clip_on_its_own() -> None:
    model = tiny().eval()
    clips = torch.randn(3, 3, 3, 8, 32, 32)
    out = model(clips)
    state = {key: value.double() for key, value in model.state_dict().items()}
    with torch.no_grad():
        features = torch.stack([model.base_network(clips[:, view]) for view in range(3)], dim=1)
    torch.testing.assert_close(out.features, features, rtol=1e-4, atol=1e-5)
    wide = features.double().reshape(3, -1)
    logits = wide @ state["fc.weight"].T + state["fc.bias"]
    torch.testing.assert_close(out.pretext_logits.double(), logits, rtol=1e-4, atol=1e-5)
    for said, view in ((out.first, 0), (out.third, 2)):
        hidden = (features[:, view].double() @ state["projector.mlp.0.weight"].T + state["projector.mlp.0.bias"]).relu()
        projected = hidden @ state["projector.mlp.2.weight"].T + state["projector.mlp.2.bias"]
        expected = projected / projected.norm(dim=1, keepdim=True)
        torch.testing.assert_close(said.double(), expected, rtol=1e-4, atol=1e-5)


def test_the_comparing_head_gets_the_distances_of_every_two_clips() -> None:
    torch.manual_seed(0)
    backbone = build_backbone("r3d", 0.125)
    model = PclModel(backbone, pretext_classes=5, embedding_dim=16, pretext_head="compare").eval()
    for norm in (module for module in model.modules() if isinstance(module, torch.nn.BatchNorm1d)):
        for value in (norm.running_mean, norm.running_var, norm.weight.data, norm.bias.data):
            value.uniform_(0.5, 2)
    out = model(torch.randn(3, 3, 3, 8, 32, 32))
    f = out.features.double()
    wide = torch.cat([f.flatten(1), (f[:, 0] - f[:, 1]).abs(), (f[:, 0] - f[:, 2]).abs(), (f[:, 1] - f[:, 2]).abs()], 1)
    state = {name.removeprefix("fc.mlp."): value.double() for name, value in model.state_dict().items()}
    hidden = wide @ state["0.weight"].T
    hidden = (hidden - state["1.running_mean"]) / (state["1.running_var"] + 1e-5).sqrt()
    hidden = (hidden * state["1.weight"] + state["1.bias"]).relu()
    logits = hidden @ state["3.weight"].T + state["3.bias"]
    torch.testing.assert_close(out.pretext_logits.double(), logits, rtol=1e-4, atol=1e-5)


def test_all_clips_go_through_the_backbone_at_once() -> None:
    model = tiny()
    seen: list[torch.Size] = []
    model.base_network.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape))
    model(torch.randn(2, 3, 3, 8, 32, 32))
    assert seen == [(6, 3, 8, 32, 32)]


def test_backbone_gets_contiguous_clips_off_the_gpu_whatever_comes() -> None:
    model = tiny().eval()
    clips = torch.randn(2, 3, 3, 8, 32, 32)
    frames_last = clips.permute(0, 1, 3, 4, 5, 2).contiguous().permute(0, 1, 5, 2, 3, 4)
    contiguous: list[bool] = []
    model.base_network.register_forward_pre_hook(lambda _, args: contiguous.append(args[0].is_contiguous()))
    assert torch.equal(model(frames_last).features, model(clips).features)
    assert contiguous == [True, True]


def test_everything_said_is_float32_and_unit_length_under_bfloat16_autocast() -> None:
    model = tiny()
    with torch.autocast("cpu", torch.bfloat16):
        out = model(torch.randn(4, 3, 3, 8, 32, 32))
    assert {tensor.dtype for tensor in out if isinstance(tensor, torch.Tensor)} == {torch.float32}
    # A norm taken in bfloat16 is off by up to 2^-9.
    for embeddings in (out.first, out.third):
        assert (embeddings.double().norm(dim=1) - 1).abs().max() < 1e-6


@pytest.mark.parametrize("shape", [(2, 2, 3, 8, 32, 32), (2, 3, 8, 32, 32)])
def test_other_numbers_of_views_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="must be"):
        tiny()(torch.zeros(shape))


class Means(Backbone):
    """Features that float16 holds, and whose lengths and logits it does not."""

    feature_dim = 3

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        features = clips.mean(dim=(2, 3, 4))
        return features.to(torch.get_autocast_dtype("cpu")) if torch.is_autocast_enabled("cpu") else features


@pytest.mark.parametrize("head", ["linear", "compare"])
def test_lengths_and_logits_beyond_float16_are_told(head: Literal["linear", "compare"]) -> None:
    torch.manual_seed(0)
    model = PclModel(Means(), embedding_dim=4, adapter_dims=[2], pretext_head=head).eval()
    for name, weight in model.named_parameters():
        if "projector.mlp.2" in name or name.startswith("fc") or name.startswith("adapters"):
            weight.data *= 1e4
    clips = 64 * torch.randint(1, 9, (2, 3, 3, 1, 1, 1)).float()  # means that float16 holds exactly
    expected = model(clips)
    with torch.autocast("cpu", torch.float16):
        said = model(clips)
    assert expected.pretext_logits.abs().max() > torch.finfo(torch.float16).max
    for name, value in said._asdict().items():
        for found, wanted in zip(value, getattr(expected, name), strict=True):
            torch.testing.assert_close(found, wanted, msg=name)
            assert found.dtype == torch.float32
