"""Wrong input: one line that names value, place and remedy, exit code 2, no traceback, nothing left behind."""

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from pclkd.sharding.common.storage import put
from pclkd.sharding.shards.index import ShardIndex
from pclkd.training.cli import main

TINY = [
    "--preset=demo",
    "--set=backbone.width=0.125",
    "--set=loader.crop=32",
    "--set=loader.batch_size=4",
    "--set=pcl.contrast=bank",
    "--set=pcl.negatives=8",
    "--set=pcl.pretext_head=linear",
    "--set=optimizer.average_decay=0",
    "--set=evaluation.every=0",
    "--epochs=1",
]


def refused(message: str, *arguments: object) -> None:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    lines = [line for line in result.stderr.strip().splitlines() if not line.startswith("run: epoch")]
    assert len(lines) == 1 and lines[0].startswith("error: "), result.stderr
    assert re.search(message, lines[0]), lines[0]
    assert " - " in lines[0]  # the remedy


def pretrain(shards: Path, out: Path, *more: object) -> list[object]:
    return ["pretrain", "--data", shards, "--out", out, *TINY, *more]


@pytest.fixture
def shards(synthetic_shards: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(synthetic_shards, tmp_path / "shards"))


@pytest.fixture(scope="module")
def trained(synthetic_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "run"
    arguments = pretrain(synthetic_shards, out)
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return out


@pytest.mark.parametrize(("option", "value"), [("lr", "-1.0"), ("lr", "nan"), ("epochs", "0"), ("batch_size", "0")])
def test_fine_tuning_out_of_range(option: str, value: str, tmp_path: Path) -> None:
    flag = f"--{option.replace('_', '-')}={value}"
    refused(f"{option} = {value}: input should be", "evaluate", tmp_path, "--data=x", "--protocol=finetune", flag)


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_rate_is_finite(value: str) -> None:
    told = CliRunner().invoke(main, ["fit-heads", "--teacher=x", "--data=x", "--out=x", f"--lr={value}"])
    assert told.exit_code == 2 and f"{value} is not a finite number" in told.stderr, told.output


def test_shards_behind_a_url(synthetic_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PCLKD_CACHE", str(tmp_path / "cache"))
    for path in synthetic_shards.rglob("*"):
        if path.is_file():
            put(path, f"memory://trained-on/{path.relative_to(synthetic_shards)}")
    run, heads = tmp_path / "run", tmp_path / "heads"
    for asked in (
        pretrain("memory://trained-on", run, "--max-steps=1"),
        ["distill", "--teacher", run, *pretrain("memory://trained-on", tmp_path / "student", "--max-steps=1")[1:]],
        ["fit-heads", "--teacher", run, "--data=memory://trained-on", "--out", heads, "--epochs=1", *TINY[:7]],
        ["evaluate", run, "--data=memory://trained-on", "--protocol=retrieval", "--clips=1"],
        ["controls", "--data=memory://trained-on", "--out", tmp_path, "--only=motion", "--clips=1", *TINY[:7]],
        ["visualize", run, "--data=memory://trained-on", "--part=confusion", "--clips=1"],
        ["export", run, tmp_path / "exported", "--onnx", "--data=memory://trained-on"],
    ):
        done = CliRunner().invoke(main, [*map(str, asked)])
        assert done.exit_code == 0, done.output
    assert json.loads((run / "settings.json").read_text())["data"] == "memory://trained-on"


def test_no_shards(tmp_path: Path) -> None:
    out = tmp_path / "run"
    refused("nowhere", *pretrain(tmp_path / "nowhere", out))
    (tmp_path / "empty").mkdir()
    refused("empty", *pretrain(tmp_path / "empty", out))
    assert not out.exists()


def test_half_written_shards(shards: Path, tmp_path: Path) -> None:
    shard = sorted(shards.glob("*.tar"))[-1]
    with shard.open("r+b") as file:
        file.truncate(shard.stat().st_size // 2)
    refused(shard.name, *pretrain(shards, tmp_path / "run"))
    (shards / "manifest.json").unlink()
    refused("manifest|unfinished", *pretrain(shards, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_manifest_of_another_format(shards: Path, tmp_path: Path) -> None:
    manifest = json.loads((shards / "manifest.json").read_text())
    manifest["format_version"] = 99
    (shards / "manifest.json").write_text(json.dumps(manifest))
    refused("99", *pretrain(shards, tmp_path / "run"))


def test_an_unknown_setting_and_backbone_and_split(synthetic_shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    refused("did you mean optimizer.momentum", *pretrain(synthetic_shards, out, "--set=optimizer.momentun=1"))
    refused("r2plus1d", *pretrain(synthetic_shards, out, "--backbone=r21d"))
    refused("split", *pretrain(synthetic_shards, out, "--set=split=7"))
    refused("does not fit the stored frames", *pretrain(synthetic_shards, out, "--set=loader.crop=112"))
    refused(
        "c3d needs clips of 8 frames", *pretrain(synthetic_shards, out, "--backbone=c3d", "--set=tuples.clip_frames=4")
    )
    refused("12 samples do not fill", *pretrain(synthetic_shards, out, "--set=loader.batch_size=64"))
    assert not out.exists()


@pytest.mark.parametrize("given", [["--out=run"], ["--data=shards"], ["--data=shards", "--out=run"]])
def test_a_missing_option_is_named(given: list[str]) -> None:
    result = CliRunner().invoke(main, ["distill", *given, *([] if len(given) == 2 else ["--teacher=run"])])
    assert result.exit_code == 2
    missing = {"--out=run": "--data", "--data=shards": "--out"}[given[0]] if len(given) == 1 else "--teacher"
    assert f"Missing option '{missing}'" in result.output


@pytest.mark.skipif(torch.cuda.is_available(), reason="nvJPEG is welcome on a GPU")
def test_nvjpeg_without_a_gpu_is_refused_before_anything_is_written(synthetic_shards: Path, tmp_path: Path) -> None:
    refused("decode=auto", *pretrain(synthetic_shards, tmp_path / "run", "--set=loader.decode=mixed"))
    assert not (tmp_path / "run").exists()


def test_a_run_is_not_overwritten_nor_changed(trained: Path, synthetic_shards: Path) -> None:
    refused("--resume", *pretrain(synthetic_shards, trained))
    refused("was started with seed", *pretrain(synthetic_shards, trained, "--resume", "--set=seed=5"))
    distill = pretrain(synthetic_shards, trained, "--resume")
    refused("started with 0 teacher", "distill", "--teacher", trained, *distill[1:])


def test_heads_that_cannot_be_fitted_as_asked(synthetic_shards: Path, tmp_path: Path) -> None:
    fit = ["fit-heads", "--teacher=none", "--data", synthetic_shards, "--out", tmp_path / "heads"]
    refused("pcl.learner=byol has no heads that teach - --set pcl.learner=pcl", *fit, "--set=pcl.learner=byol")
    for assignment in ("optimizer.lr=1", "epochs=3"):
        refused(f"--set {assignment} would not be heeded.*--epochs and --lr", *fit, f"--set={assignment}")
    (tmp_path / "heads").write_text("a file in place of the folder")
    refused("heads cannot be a folder", *fit)


def test_a_learner_is_alone_unless_a_task_is_set_beside_it() -> None:
    for more, task in (([], "none"), (["--set=pretext.task=rotation"], "rotation")):
        told = CliRunner().invoke(main, ["pretrain", "--learner=simsiam", "--print-config", *more]).stdout
        assert re.search(f'^pretext.task = "{task}"', told, re.MULTILINE)
        assert re.search('^pcl.learner = "simsiam"', told, re.MULTILINE)


@pytest.mark.parametrize("left", ["best.pt", "epoch-0002.pt", "eval-linear.json"])
def test_what_another_run_left_is_not_taken_over(left: str, synthetic_shards: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / left).write_text("{}")
    (run / "metrics.jsonl").write_text('{"kind": "epoch", "epoch": 1, "step": 3}\n')
    refused(f"holds {left} of another run", *pretrain(synthetic_shards, run))
    assert sorted(file.name for file in run.iterdir()) == sorted([left, "metrics.jsonl"])
    resumed = pretrain(synthetic_shards, run, "--resume")
    if left.startswith("eval"):
        refused(f"holds {left} of another run", *resumed)
    else:
        begun = CliRunner().invoke(main, [*map(str, resumed), "--max-steps=1"])
        assert begun.exit_code == 0, begun.output


def test_a_shard_set_that_changed_since_the_checkpoint(trained: Path, real_shards: Path, tmp_path: Path) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    refused("belongs to other data", *pretrain(real_shards, run, "--resume"))
    arguments = pretrain(real_shards, tmp_path / "student")[1:]
    refused("kd.contrast_weight=0", "distill", "--teacher", trained, *arguments)
    assert not (tmp_path / "student").exists()


def test_a_batch_of_one_has_nothing_to_be_compared_with(synthetic_shards: Path, tmp_path: Path) -> None:
    one = pretrain(synthetic_shards, tmp_path / "run", "--set=loader.batch_size=1", "--set=pcl.pretext_head=compare")
    refused(r"batch_size=1 .*pretext_head=linear", *one)
    assert not (tmp_path / "run").exists()


def test_a_teacher_that_does_not_fit(trained: Path, synthetic_shards: Path, tmp_path: Path) -> None:
    arguments = ["--data", synthetic_shards, "--out", tmp_path / "student", *TINY]
    refused("no checkpoint", "distill", "--teacher", tmp_path / "none", *arguments)
    refused("which is one network", "distill", "--teacher", trained, "--teacher-key=encoder_q", *arguments)
    text = tmp_path / "text.pt"
    text.write_text("these are no weights")
    refused("cannot be read as a checkpoint", "distill", "--teacher", text, *arguments)
    cut = tmp_path / "cut.pt"
    cut.write_bytes((trained / "last.pt").read_bytes()[:5000])
    refused("cannot be read as a checkpoint", "distill", "--teacher", cut, *arguments)
    foreign = tmp_path / "foreign.pt"
    torch.save({"state_dict": {"weight": torch.zeros(2)}}, foreign)
    refused("fits no known network", "distill", "--teacher", foreign, *arguments)
    content = torch.load(trained / "last.pt", weights_only=True)
    content["model"].pop("fc.weight")
    torch.save(content, tmp_path / "headless.pt")
    refused("fc.weight", "distill", "--teacher", tmp_path / "headless.pt", *arguments)
    refused("split 1", "distill", "--teacher", trained, *arguments, "--set=split=2")
    told = CliRunner().invoke(
        main, [*map(str, ["distill", "--teacher", trained, *arguments, "--set=split=2", "--set=kd.contrast_weight=0"]),
               "--max-steps=1", f"--out={tmp_path / 'other-split'}"],
    )  # fmt: skip
    index = ShardIndex.open(synthetic_shards)
    seen = np.intersect1d(index.split_samples(1, "train"), index.split_samples(2, "test"))
    assert f"{trained} was trained on {len(seen)} test videos of split 2" in told.stderr, told.output
    refused("--set fraction=1", "distill", "--teacher", trained, *arguments, "--set=fraction=0.5")
    assert not (tmp_path / "student").exists()


class _Gadget:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch gadget-was-here",)


def test_a_checkpoint_cannot_run_code(synthetic_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"format": 1, "settings": _Gadget()}, tmp_path / "evil.pt")
    arguments = ["--data", synthetic_shards, "--out", tmp_path / "student", *TINY]
    refused("cannot be read as a checkpoint", "distill", "--teacher", tmp_path / "evil.pt", *arguments)
    assert not (tmp_path / "gadget-was-here").exists()


def test_a_full_disk_leaves_the_checkpoint_of_before(trained: Path, synthetic_shards: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    (run / "last.pt.part").symlink_to("/dev/full")  # the kernel answers every write with ENOSPC
    content = torch.load(run / "last.pt", weights_only=True)
    content["epoch"] = content["step"] = 0  # one epoch is left to train
    torch.save(content, run / "last.pt")
    before = (run / "last.pt").read_bytes()
    refused("No space left on device", *pretrain(synthetic_shards, run, "--resume"))
    assert (run / "last.pt").read_bytes() == before
    assert not (run / "last.pt.part").exists()


def test_more_processes_than_samples_is_told_once(synthetic_shards: Path, tmp_path: Path) -> None:
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"),
        *map(str, ["pclkd.training.cli", *pretrain(synthetic_shards, tmp_path / "run", "--set=loader.batch_size=7")]),
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode != 0
    assert done.stderr.count("12 samples do not fill one step of 2 process(es)") == 1
    assert not (tmp_path / "run").exists()


def light_answers() -> list[tuple[str, ...]]:
    """Everything that needs no data and no network: every help, every version, every list of settings."""
    asked: list[tuple[str, ...]] = []
    for package in ("sharding", "training", "benchmarks"):
        group = importlib.import_module(f"pclkd.{package}.cli").main
        asked += [(package, "--help"), (package, "--version")]
        asked += [(package, command, "--help") for command in group.commands]
    return [*asked, *(("training", command, "--print-config") for command in ("pretrain", "distill"))]


@pytest.mark.parametrize("words", light_answers(), ids=" ".join)
def test_a_light_answer_loads_neither_torch_nor_dali(words: tuple[str, ...], tmp_path: Path) -> None:
    heavy = {"torch", "torchvision", "nvidia", "nvidia.dali", "av", "cv2", "matplotlib", "webdataset", "psutil"}
    if "--print-config" not in words:  # settings stand beside the draws that they steer
        heavy.add("numpy")
    code = (
        f"import sys; from pclkd.{words[0]}.cli import main\n"
        f"try: main({list(words[1:])})\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        f"heavy = {heavy} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, capture_output=True)
