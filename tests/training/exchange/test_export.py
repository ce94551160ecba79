import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file, save_file

from pclkd.sharding.common.errors import InputError
from pclkd.training import load_backbone
from pclkd.training.cli import main

TINY = [
    "--preset=demo", "--set=backbone.width=0.125", "--set=loader.crop=32", "--set=loader.batch_size=4",
    "--set=pcl.negatives=8", "--epochs=1",
]  # fmt: skip


def cli(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def run(synthetic_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    done = cli("pretrain", "--data", synthetic_shards, "--out", folder, *TINY)
    assert done.exit_code == 0, done.output
    return folder


@pytest.fixture(scope="module")
def exported(run: Path, synthetic_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exports") / "r3d"
    done = cli("export", run, out, "--onnx", "--data", synthetic_shards)
    assert done.exit_code == 0, done.output
    assert "ONNX: its features differ" in done.output
    return out


def test_the_folder_gives_the_features_of_the_run(run: Path, exported: Path) -> None:
    assert {path.name for path in exported.iterdir()} == {"backbone.safetensors", "card.json", "backbone.onnx"}
    clips = torch.randn(2, 3, 8, 32, 32)
    with torch.no_grad():
        assert torch.equal(load_backbone(exported)(clips), load_backbone(run)(clips))


def test_the_card_says_what_to_feed(exported: Path, run: Path) -> None:
    card = json.loads((exported / "card.json").read_text())
    assert card["input"]["shape"] == ["N", 3, 8, 32, 32] and card["input"]["modality"] == "residual"
    assert card["input"]["mean"] == [0.485, 0.456, 0.406]
    assert card["backbone"]["feature_dim"] == 64
    weights = load_file(exported / "backbone.safetensors")
    names = [name for name, _ in load_backbone(run).named_parameters()]
    assert card["backbone"]["parameters"] == sum(weights[name].numel() for name in names)
    assert card["metrics"].keys() >= {"val/pretext_top1_pct", "val/linear_top1_pct", "val/retrieval_r1_pct"}


def test_onnx_takes_any_number_of_clips(exported: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(str(exported / "backbone.onnx"), providers=["CPUExecutionProvider"])
    for n in (1, 3):
        clips = torch.randn(n, 3, 8, 32, 32)
        (found,) = session.run(None, {"clips": clips.numpy()})
        with torch.no_grad():
            expected = load_backbone(exported)(clips).numpy()
        np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_damaged_exports_are_told(exported: Path, tmp_path: Path) -> None:
    def copy() -> Path:
        out = tmp_path / str(len(list(tmp_path.iterdir())))
        out.mkdir()
        for name in ("card.json", "backbone.safetensors"):
            (out / name).write_bytes((exported / name).read_bytes())
        return out

    cut = copy()
    (cut / "backbone.safetensors").write_bytes((exported / "backbone.safetensors").read_bytes()[:1000])
    with pytest.raises(InputError, match="does not hold a r3d of width"):
        load_backbone(cut)
    fewer = copy()
    state = load_file(exported / "backbone.safetensors")
    state.pop("bn1.weight")
    save_file(state, fewer / "backbone.safetensors")
    with pytest.raises(InputError, match="does not hold"):
        load_backbone(fewer)
    for content in ("{}", "no card", json.dumps({"format": 99, "backbone": {"name": "r3d", "width": 1}})):
        other = copy()
        (other / "card.json").write_text(content)
        with pytest.raises(InputError, match=r"card\.json"):
            load_backbone(other)


def test_wrong_calls_are_told_in_a_line(run: Path, tmp_path: Path) -> None:
    assert cli("export", tmp_path / "none", tmp_path / "out").exit_code == 2
    (tmp_path / "file").touch()
    done = cli("export", run, tmp_path / "file")
    assert done.exit_code == 2 and "is not a folder" in done.output
    done = cli("export", run, tmp_path / "out", "--onnx")
    assert done.exit_code == 2 and "--data" in done.output
