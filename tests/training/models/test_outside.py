import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision

from pclkd.sharding.common.errors import InputError
from pclkd.training import load_backbone
from pclkd.training.models.outside import read_outside_model
from pclkd.training.models.pcl_model import PclModel
from pclkd.training.models.registry import build_backbone

PUBLISHED = Path(__file__).resolve().parents[4] / "shared" / "published-checkpoints.json"
State = dict[str, torch.Tensor]


def random_state(shapes: dict[str, list[int]], seed: int = 0) -> State:
    generator = torch.Generator().manual_seed(seed)
    return {
        key: torch.zeros(shape, dtype=torch.int64)
        if key.endswith("num_batches_tracked")
        else 0.5 + 0.1 * torch.rand(shape, generator=generator)
        if len(shape) < 2
        else 0.02 * torch.randn(shape, generator=generator)
        for key, shape in shapes.items()
    }


def saved(tmp_path: Path, content: Any) -> Path:
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    return path


@pytest.mark.parametrize("name", ["c3d", "r3d", "r2plus1d"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_published_checkpoints_give_the_features_of_their_weights(name: str, prefix: str, tmp_path: Path) -> None:
    if not PUBLISHED.exists():
        pytest.skip("no list of published checkpoints beside the checkout")
    state = random_state(json.loads(PUBLISHED.read_text())[name])
    # A classifier and a projector over other sizes than ours are read from the shapes.
    state["fc.weight"], state["fc.bias"] = state["fc.weight"][:4], state["fc.bias"][:4]
    found = read_outside_model(saved(tmp_path, {"epoch": 3, "state_dict": {prefix + k: v for k, v in state.items()}}))
    assert (found.backbone, found.has_pretext, found.has_projector) == (name, True, True)
    reference = build_backbone(name)
    reference.load_state_dict(
        {key.removeprefix("base_network."): value for key, value in state.items() if key.startswith("base_network.")}
    )
    clips = torch.randn(1, 3, 3, 8, 32, 32)
    with torch.no_grad():
        said = found.model.eval()(clips)
        features = reference.eval()(clips[0])
    torch.testing.assert_close(said.features[0], features, rtol=0, atol=1e-5)
    expected = features.flatten() @ state["fc.weight"].T + state["fc.bias"]
    torch.testing.assert_close(said.pretext_logits[0], expected, rtol=1e-4, atol=1e-4)
    hidden = (features[2] @ state["projector.mlp.0.weight"].T + state["projector.mlp.0.bias"]).clamp(min=0)
    third = hidden @ state["projector.mlp.2.weight"].T + state["projector.mlp.2.bias"]
    torch.testing.assert_close(said.third[0], third / third.norm(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["r3d_18", "mc3_18", "r2plus1d_18", "s3d"])
def test_torchvision_weights_are_recognised(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = getattr(torchvision.models.video, name)()
    found = read_outside_model(saved(tmp_path, theirs.state_dict()))
    assert (found.backbone, found.has_pretext, found.has_projector) == (name, False, False)
    alone = load_backbone(tmp_path / "weights.pth")
    assert not alone.training
    assert torch.equal(next(alone.parameters()), next(theirs.parameters()))
    own = dict(found.model.base_network.named_parameters())
    pairs = zip(own.values(), theirs.parameters(), strict=False)  # theirs ends with the classifier
    assert all(torch.equal(a, b) for a, b in pairs)


def test_a_backbone_alone_without_counters_is_enough(tmp_path: Path) -> None:
    state = build_backbone("r3d").state_dict()
    trunk = {f"base_network.{key}": value for key, value in state.items() if "num_batches" not in key}
    found = read_outside_model(saved(tmp_path, trunk))
    assert (found.backbone, found.has_pretext, found.has_projector) == ("r3d", False, False)
    assert torch.equal(
        found.model.base_network.state_dict()["conv1.temporal_spatial_conv.weight"],
        trunk["base_network.conv1.temporal_spatial_conv.weight"],
    )


def test_what_fits_nothing_is_told_key_by_key(tmp_path: Path) -> None:
    with torch.device("meta"):
        shapes = {key: list(value.shape) for key, value in PclModel(build_backbone("r3d")).state_dict().items()}
    state = random_state(shapes)
    del state["base_network.bn1.weight"]
    state["base_network.extra"] = torch.zeros(1)
    with pytest.raises(
        InputError, match=r"nearest is r3d \(under base_network\): missing: bn1\.weight; unexpected: extra"
    ):
        read_outside_model(saved(tmp_path, state))
    state = random_state(shapes)
    state["base_network.bn1.weight"] = torch.zeros(65)
    with pytest.raises(InputError, match=r"bn1\.weight \(65,\) for \(64,\)"):
        read_outside_model(saved(tmp_path, state))
    state = random_state(shapes)
    state["fc.weight"] = torch.zeros(101, 512)
    with pytest.raises(InputError, match="fc takes 512 numbers"):
        read_outside_model(saved(tmp_path, state))
    state = random_state(shapes)
    del state["projector.mlp.0.bias"]
    with pytest.raises(InputError, match=r"missing: projector\.mlp\.0\.bias"):
        read_outside_model(saved(tmp_path, state))


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("/tmp/pclkd-should-not-exist"),)


@pytest.mark.parametrize("content", [_Evil(), {"state_dict": 3}, {}, [torch.zeros(1)]])
def test_files_that_are_no_state_dict_are_refused_and_run_nothing(content: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="state dict"):
        read_outside_model(saved(tmp_path, content))
    assert not Path("/tmp/pclkd-should-not-exist").exists()


def test_no_file_and_a_text_file_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file of weights"):
        read_outside_model(tmp_path / "nothing.pth")
    (tmp_path / "text.pth").write_text("weights")
    with pytest.raises(InputError, match="cannot be read as weights"):
        read_outside_model(tmp_path / "text.pth")


def r3d_state(seed: int = 0) -> State:
    with torch.device("meta"):
        shapes = {key: list(value.shape) for key, value in build_backbone("r3d").state_dict().items()}
    return random_state(shapes, seed)


def below(prefix: str, state: State) -> State:
    return {prefix + key: value for key, value in state.items()}


@pytest.mark.parametrize(
    "prefix",
    ["encoder_q.", "module.encoder_q.", "backbone.", "encoder.", "module._orig_mod.", "student.module.backbone.", "x."],
)
def test_a_backbone_is_found_behind_any_prefix(prefix: str, tmp_path: Path) -> None:
    state = r3d_state()
    beside = {f"{prefix}fc.weight": torch.zeros(128, 512), "queue": torch.zeros(128, 4), "queue_ptr": torch.zeros(1)}
    content = {"model_state": {**below(prefix, state), **beside, "temperature": 0.07}, "epoch": 3, "optimizer": {}}
    found = read_outside_model(saved(tmp_path, content))
    assert (found.backbone, found.has_pretext, found.has_projector) == ("r3d", False, False)
    assert torch.equal(
        found.model.base_network.state_dict()["conv1.temporal_spatial_conv.weight"],
        state["conv1.temporal_spatial_conv.weight"],
    )


@pytest.mark.parametrize(
    ("first", "second"), [("encoder_q.", "encoder_k."), ("student.", "teacher.module."), ("model.", "model_ema.")]
)
def test_of_several_networks_the_key_says_which(first: str, second: str, tmp_path: Path) -> None:
    one, other = r3d_state(1), r3d_state(2)
    nested = {first[:-1]: one, second[:-1]: other}  # mappings in each other and dots in keys are the same
    path = saved(tmp_path, {**below(first, one), **below(second, other)} if "encoder" in first else nested)
    with pytest.raises(
        InputError,
        match=rf"holds 2 networks: {first[:-1]}, {second[:-1]} - .* with --key, .*--teacher-key, such as {first[:-1]}$",
    ):
        read_outside_model(path)
    with pytest.raises(InputError, match="holds no network under encoder"):
        read_outside_model(path, "encoder")
    for key, state in ((first[:-1], one), (second.split(".", maxsplit=1)[0], other)):
        weights = read_outside_model(path, key).model.base_network.state_dict()
        name = "conv1.temporal_spatial_conv.weight"
        assert torch.equal(weights[name], state[name])


def test_heads_are_those_beside_the_trunk(tmp_path: Path) -> None:
    with torch.device("meta"):
        shapes = {key: list(value.shape) for key, value in PclModel(build_backbone("r3d")).state_dict().items()}
    state = random_state(shapes)
    content = {**below("student.", state), "fc.weight": torch.zeros(101, 512), "loss_scale": torch.tensor(2.0)}
    found = read_outside_model(saved(tmp_path, content))
    assert (found.has_pretext, found.has_projector) == (True, True)
    assert torch.equal(found.model.state_dict()["fc.weight"], state["fc.weight"])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(value: float, tmp_path: Path) -> None:
    state = r3d_state()
    state["bn1.bias"][3] = value
    with pytest.raises(InputError, match=r"1 of the 64 numbers of bn1\.bias are NaN or infinite"):
        read_outside_model(saved(tmp_path, state))


def test_the_nearest_network_is_the_one_with_most_matching_shapes(tmp_path: Path) -> None:
    with torch.device("meta"):
        shapes = {key: list(value.shape) for key, value in build_backbone("r2plus1d18").state_dict().items()}
    # Most of it, so that by keys that are missing the small networks are nearer.
    state = dict(list(random_state(shapes).items())[: len(shapes) // 2])
    with pytest.raises(InputError, match=r"nearest is r2plus1d18 \(under net\): missing: "):
        read_outside_model(saved(tmp_path, below("net.", state)))
    with pytest.raises(InputError, match=r"it has keys such as a\.b"):
        read_outside_model(saved(tmp_path, {"a.b": torch.zeros(3)}))


def test_messages_have_no_escape_codes_and_no_advice_to_run_code(tmp_path: Path) -> None:
    (tmp_path / "text.pth").write_text("weights")
    paths = [tmp_path / "text.pth"]
    for number, content in enumerate((_Evil(), torch.nn.Linear(2, 2), {"a": Path("x")}, {"\x1b[31m": torch.zeros(3)})):
        paths.append(tmp_path / f"{number}.pth")
        torch.save(content, paths[-1])
    for path in paths:
        for read in (read_outside_model, load_backbone):
            with pytest.raises(InputError) as told:
                read(path)
            assert str(told.value).isprintable()
            assert "weights_only" not in str(told.value)
            assert "trust" not in str(told.value)
