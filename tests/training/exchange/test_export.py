import json
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file, save_file

from pclkd.sharding.common.errors import InputError
from pclkd.training import load_backbone, load_clip_form
from pclkd.training.cli import main
from pclkd.training.exchange import export

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
    done = cli("export", run, out, "--onnx", "--torch-export", "--data", synthetic_shards)
    assert done.exit_code == 0, done.output
    assert "torch.export: its features differ" in done.output
    assert "ONNX: its features differ" in done.output
    return out


def test_the_folder_gives_the_features_of_the_run(run: Path, exported: Path) -> None:
    assert {path.name for path in exported.iterdir()} == {
        "README.md", "model.safetensors", "config.json", "backbone.onnx", "backbone.pt2",
    }  # fmt: skip
    clips = torch.randn(2, 3, 8, 32, 32)
    with torch.no_grad():
        assert torch.equal(load_backbone(exported)(clips), load_backbone(run)(clips))


def test_all_forms_come_of_one_reading(run: Path, synthetic_shards: Path, tmp_path: Path, monkeypatch) -> None:
    read, load = [], export.load_checkpoint
    monkeypatch.setattr(export, "load_checkpoint", lambda path: (read.append(path), load(path))[1])
    done = cli("export", run, tmp_path / "out", "--onnx", "--torch-export", "--data", synthetic_shards)
    assert done.exit_code == 0 and read == [run], done.output


def test_the_card_says_what_to_feed(exported: Path, run: Path) -> None:
    card = json.loads((exported / "config.json").read_text())
    assert card["input"]["shape"] == ["N", 3, 8, 32, 32] and card["input"]["modality"] == "residual"
    assert card["input"]["mean"] == [0.485, 0.456, 0.406]
    assert card["backbone"]["feature_dim"] == 64
    weights = load_file(exported / "model.safetensors")
    names = [name for name, _ in load_backbone(run).named_parameters()]
    assert card["backbone"]["parameters"] == sum(weights[name].numel() for name in names)
    assert card["metrics"].keys() >= {"val/pretext_top1_pct", "val/linear_top1_pct", "val/retrieval_r1_pct"}


def test_a_checkout_that_is_not_installed_exports_too(run: Path, tmp_path: Path, monkeypatch) -> None:
    def not_installed(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", not_installed)
    done = cli("export", run, tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "out" / "config.json").read_text())["pclkd"] is None
    assert "pclkd of a checkout, torch" in (tmp_path / "out" / "README.md").read_text()


def test_onnx_takes_any_number_of_clips(exported: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(str(exported / "backbone.onnx"), providers=["CPUExecutionProvider"])
    for n in (1, 3):
        clips = torch.randn(n, 3, 8, 32, 32)
        (found,) = session.run(None, {"clips": clips.numpy()})
        with torch.no_grad():
            expected = load_backbone(exported)(clips).numpy()
        np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_a_program_needs_nothing_of_the_code(exported: Path) -> None:
    program = torch.export.load(exported / "backbone.pt2").module()
    for n in (1, 3):
        clips = torch.randn(n, 3, 8, 32, 32)
        with torch.no_grad():
            expected = load_backbone(exported)(clips)
            torch.testing.assert_close(program(clips), expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


def test_the_card_is_one_that_hubs_read(exported: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    card = hub.ModelCard.load(exported / "README.md")
    assert card.data.library_name == "pclkd" and "video" in card.data.tags
    config = json.loads((exported / "config.json").read_text())
    told = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert told == {name: value for name, value in config["metrics"].items() if not name.endswith("_se")}
    assert told.keys() >= {"val/linear_top1_pct"}
    assert f"| `val/linear_top1_pct` | {told['val/linear_top1_pct']:.1f} ± " in card.text
    said = re.search(r'video_clips\("video.mp4", (.*)\)', card.text)[1]
    assert eval(f"dict({said})") == {"frames": 8, "crop": 32, "modality": "residual", "size": [64, 86], "fps": 0.0}


def test_what_is_on_the_hub_comes_from_the_cache_alone(exported: Path, tmp_path: Path, monkeypatch) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    revision, folder = "0" * 40, tmp_path / "models--somebody--r3d"
    shutil.copytree(exported, folder / "snapshots" / revision)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(revision)
    found, expected = (load_backbone(where).state_dict() for where in ("hf:somebody/r3d", exported))
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)
    assert load_clip_form("hf:somebody/r3d").size == (64, 86)
    with pytest.raises(InputError) as caught:
        load_backbone("hf:somebody/other@v1")
    assert str(caught.value) == (
        f"hf:somebody/other@v1 is not in the cache {tmp_path} - fetch it: hf download somebody/other --revision v1"
    )


def test_torch_hub_gives_the_code_of_its_checkout(exported: Path, tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[3]
    code = (
        "import sys, torch; network = torch.hub.load(sys.argv[1], 'backbone', sys.argv[2], source='local')\n"
        "torch.save(network(torch.ones(1, 3, 8, 32, 32)), sys.argv[3])\n"
        "print(sys.modules[type(network).__module__].__file__)"
    )
    program = [sys.executable, "-c", code, str(root), str(exported), str(tmp_path / "features.pt")]
    done = subprocess.run(program, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.strip() == str(root / "training" / "models" / "resnet.py")
    with torch.no_grad():
        assert torch.equal(torch.load(tmp_path / "features.pt"), load_backbone(exported)(torch.ones(1, 3, 8, 32, 32)))


def test_damaged_exports_are_told(exported: Path, tmp_path: Path) -> None:
    def copy() -> Path:
        out = tmp_path / str(len(list(tmp_path.iterdir())))
        out.mkdir()
        for name in ("config.json", "model.safetensors"):
            (out / name).write_bytes((exported / name).read_bytes())
        return out

    cut = copy()
    (cut / "model.safetensors").write_bytes((exported / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(InputError, match="does not hold a r3d of width"):
        load_backbone(cut)
    fewer = copy()
    state = load_file(exported / "model.safetensors")
    state.pop("bn1.weight")
    save_file(state, fewer / "model.safetensors")
    with pytest.raises(InputError, match="does not hold"):
        load_backbone(fewer)
    for content in ("{}", "no card", json.dumps({"format": 99, "backbone": {"name": "r3d", "width": 1}})):
        other = copy()
        (other / "config.json").write_text(content)
        with pytest.raises(InputError, match=r"config\.json"):
            load_backbone(other)


@pytest.mark.parametrize("name", ["README.md", "config.json", "model.safetensors", "backbone.onnx"])
def test_files_of_something_else_are_not_overwritten(name: str, run: Path, tmp_path: Path) -> None:
    (tmp_path / name).write_text("{}")
    done = cli("export", run, tmp_path)
    assert done.exit_code == 2 and f"{tmp_path} holds a {name} that no export wrote - " in done.output
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {name: "{}"}


def test_a_second_export_leaves_nothing_of_the_first(exported: Path, run: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(exported, tmp_path / "out"))
    (out / "LICENSE").write_text("ours")
    (out / "config.json").unlink()  # as if the first had been ended before its last file
    done = cli("export", run, out)
    assert done.exit_code == 0, done.output
    assert {path.name for path in out.iterdir()} == {"README.md", "model.safetensors", "config.json", "LICENSE"}


@pytest.mark.parametrize("form", ["onnx", "torch-export"])
def test_a_form_that_differs_is_not_there(form: str, run: Path, synthetic_shards: Path, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(export, "ONNX_TOLERANCE", -1.0)
    data = ("--data", synthetic_shards) if form == "onnx" else ()
    done = cli("export", run, tmp_path / "out", f"--{form}", *data)
    assert done.exit_code == 2 and "no such file was written" in done.output, done.output
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"README.md", "model.safetensors", "config.json"}


def test_wrong_calls_are_told_in_a_line(run: Path, tmp_path: Path) -> None:
    assert cli("export", tmp_path / "none", tmp_path / "out").exit_code == 2
    (tmp_path / "file").touch()
    done = cli("export", run, tmp_path / "file")
    assert done.exit_code == 2 and "cannot be a folder" in done.output
    done = cli("export", run, tmp_path / "out", "--onnx")
    assert done.exit_code == 2 and "--data" in done.output
