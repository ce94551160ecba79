"""The examples: a user's own trainers, and parts from a module of their own, through public names alone."""

import json
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from pclkd.pipeline import ClipBatch, TupleRecipe
from pclkd.pipeline.pretext.base import Facts
from pclkd.sharding import ShardIndex
from pclkd.training import Seen
from pclkd.training.cli import main
from pclkd.training.models.pcl_model import PclOutput
from pclkd.training.report.charts import loss_terms
from pclkd.training.report.comparison import compare_runs
from pclkd.training.runs.checkpoint import load_checkpoint
from pclkd.training.runs.run_folder import find_runs, read_run

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SMALL = ("tuples.clip_frames=8", "tuples.clip_stride=12", "loader.crop=48", "loader.batch_size=4", "pcl.negatives=8")


def program(*words: object) -> str:
    done = subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def run_here(monkeypatch, capsys) -> Callable[..., str]:
    """Run an example as `program` does, but in this process, which has loaded torch already."""

    def run(name: str, *words: object) -> str:
        monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return run


def test_a_network_of_ones_own_trains_and_teaches(synthetic_shards: Path, tmp_path: Path) -> None:
    command = ["-m", "pclkd.training.cli", "--import", EXAMPLES / "own_backbone.py"]
    common = ["--data", synthetic_shards, "--max-steps=2", "--set=evaluation.every=0", *(f"--set={s}" for s in SMALL)]
    teacher, student = tmp_path / "teacher", tmp_path / "student"
    program(*command, "pretrain", "--out", teacher, "--backbone", "frame_average", *common)
    program(
        *command,
        *("distill", "--out", student, "--backbone", "r3d", "--set=backbone.width=0.125", "--teacher", teacher),
        *common,
    )
    assert load_checkpoint(teacher).settings.backbone.name == "frame_average"
    assert load_checkpoint(student).step == 2


def test_a_term_of_ones_own_is_learned_logged_and_drawn(synthetic_shards: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = ["-m", "pclkd.training.cli", "--import", EXAMPLES / "own_term.py", "pretrain", "--backbone", "c3d"]
    chosen = ("backbone.width=0.125", "evaluation.every=0", "log_every=1", "pcl.own_terms.redundancy=0.1", *SMALL)
    program(*command, "--data", synthetic_shards, "--out", run, "--max-steps=2", *(f"--set={s}" for s in chosen))
    steps = read_run(run).steps
    assert len(steps) == 2
    for step in steps:
        loss = step["pretext"] + 0.5 * step["contrast"] + 0.1 * step["redundancy"]
        assert step["loss"] == pytest.approx(loss, rel=1e-5)
    program("-m", "pclkd.training.cli", "report", run)  # needs no --import: the run folder tells what its terms are
    drawn = loss_terms(compare_runs(find_runs(run)))
    assert list(drawn) == ["pretext", "contrast", "redundancy"]
    assert drawn["redundancy"]["unit"] == "squared correlation"
    assert (run / "report" / "losses.png").is_file()


def test_a_teacher_of_ones_own_learns_with_labels_and_teaches_without(
    synthetic_shards: Path, tmp_path: Path, monkeypatch, run_here: Callable[..., str]
) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.setenv("OWN_TEACHER", str(tmp_path / "teacher.pt"))
    losses = {}
    for epochs in (1, 40):
        torch.manual_seed(0)
        told = run_here("own_teacher.py", synthetic_shards, tmp_path / "teacher.pt", epochs, 6)
        losses[epochs] = float(re.fullmatch(r"loss (\d\.\d+), top-1 \d+\.\d % of the test videos\n", told)[1])
    assert losses[40] < losses[1] - 0.2
    asked = ("distill", "--data", synthetic_shards, "--out", tmp_path / "student", "--preset=demo", "--max-steps=2")
    chosen = ("backbone.width=0.125", "loader.batch_size=4", "evaluation.every=0", "log_every=1")
    terms = ("kd.pretext_weight=0", "kd.contrast_weight=0", "kd.feature_weight=10", *chosen)
    words = [*asked, "--teacher=module:own_teacher:teacher", *(f"--set={term}" for term in terms)]
    done = CliRunner().invoke(main, list(map(str, words)))
    assert done.exit_code == 0, done.output
    assert all(step["kd_feature"] > 0 for step in read_run(tmp_path / "student").steps)


def test_redundancy_is_none_where_embeddings_agree_and_dimensions_do_not(monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    from own_term import Redundancy

    signs = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])  # two dimensions that know nothing of each other
    alike = signs[:, :1].expand(-1, 2)
    for first, third, expected in (
        (signs, signs, 0),
        (alike, alike, 0.005),
        (signs, -signs, 4),
        (alike, signs, 0.5025),
    ):
        said = PclOutput(signs[:, None], signs, first, third)
        seen = Seen(ClipBatch(signs, signs, signs, signs, epoch=0, valid=4), said)
        assert float(Redundancy(1.0)(seen)) == pytest.approx(expected, abs=1e-4)


def test_a_pretext_task_of_ones_own_reaches_the_clips(synthetic_shards: Path) -> None:
    told = program(EXAMPLES / "own_pretext_task.py", synthetic_shards)
    assert told.startswith("clips [4, 3, 3, 16, 48, 48], labels [")


def test_the_arrow_of_time_reverses_what_it_says(monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    from own_pretext_task import ArrowOfTime

    ids = np.arange(64)
    draw = ArrowOfTime().draw(3, 1, ids, Facts(np.ones(64, np.bool_), np.full((64, 3), 8)))
    assert 16 < draw.label.sum() < 48
    clips = torch.arange(64 * 3 * 1 * 5 * 2 * 2, dtype=torch.float32).reshape(64, 3, 1, 5, 2, 2)
    changed = draw.apply(clips.clone())
    for sample, label in enumerate(draw.label):
        expected = clips[sample].clone()
        expected[1] = expected[1][:, range(4, -1, -1)] if label else expected[1]
        assert torch.equal(changed[sample], expected)


def test_an_augmentation_of_ones_own_reaches_the_clips(synthetic_shards: Path) -> None:
    told = program(EXAMPLES / "own_augmentation.py", synthetic_shards)
    shape, still = re.fullmatch(r"clips (\[.*\]), (\d+) % of the frames are the one before\n", told).groups()
    assert shape == "[4, 3, 3, 16, 48, 48]"
    assert 15 <= int(still) <= 50  # 0.3 of 180, and the pretext task may hold frames too


def test_a_lost_frame_is_the_last_one_that_is_there(monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    from own_augmentation import LostFrames

    ids, counts, sizes = np.arange(50), np.full(50, 120), np.full((50, 2), 64)
    whole, lossy = (recipe.plan(2, ids, counts, sizes, 48) for recipe in (TupleRecipe(seed=3), LostFrames(seed=3)))
    lost = lossy.frames != whole.frames
    assert not lost[..., 0].any()
    assert 0.25 < lost[..., 1:].mean() < 0.35
    assert (lossy.frames[..., 1:] == np.where(lost, lossy.frames, whole.frames)[..., 1:]).all()
    assert (lossy.frames[..., 1:][lost[..., 1:]] == lossy.frames[..., :-1][lost[..., 1:]]).all()
    assert np.array_equal(lossy.augment.top, whole.augment.top)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_examples_are_short_and_listed(path: Path) -> None:
    assert path.name.startswith("own_") or len(path.read_text().splitlines()) < 60
    assert f"examples/{path.name}" in (EXAMPLES.parent / "docs" / "examples.md").read_text()


def test_a_plain_loop_goes_on_with_the_batches_of_a_run_without_a_stop(
    synthetic_shards: Path, tmp_path: Path, run_here: Callable[..., str]
) -> None:
    def run(file: str, steps: int) -> list[str]:
        told = run_here("train_pytorch.py", synthetic_shards, tmp_path / file, steps, 3, 16)
        return re.findall(r"epoch \d+|videos .*", told)

    whole = run("whole.pt", 4)  # epochs have 4 steps: 12 training videos
    assert run("stopped.pt", 1) + run("stopped.pt", 4) == whole
    assert len(whole) == 8 and len(set(whole)) == 5  # an epoch, and no video twice


def test_lightning_trains_and_keeps_the_loaders_place(
    synthetic_shards: Path, tmp_path: Path, run_here: Callable[..., str]
) -> None:
    pytest.importorskip("lightning")
    run_here("train_lightning.py", synthetic_shards, tmp_path, 2, 2, 16)
    (saved,) = tmp_path.rglob("*.ckpt")
    found = torch.load(saved, weights_only=True)
    assert found["global_step"] == 2
    assert "consumed" in str(found["loops"])  # of the loader's state


def test_a_network_of_a_run_is_fine_tuned_in_a_loop_of_ones_own(
    synthetic_shards: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    common = ("--preset=demo", "--set=backbone.width=0.125", "--set=loader.batch_size=4", "--set=evaluation.every=0")
    run = ("pretrain", "--data", str(synthetic_shards), "--out", str(tmp_path / "run"), "--max-steps=1", *common)
    assert CliRunner().invoke(main, run).exit_code == 0
    monkeypatch.syspath_prepend(str(EXAMPLES))
    from finetune_hmdb51 import main as finetune

    losses = {}
    for lr in (1e-7, 0.02):  # the same clips and the same draws of dropout
        torch.manual_seed(0)
        capsys.readouterr()
        finetune(str(synthetic_shards), str(tmp_path / "run"), epochs=12, batch_size=12, lr=lr)
        *epochs, score = capsys.readouterr().out.splitlines()
        losses[lr] = [float(line.rpartition(" ")[2]) for line in epochs]
        assert re.fullmatch(r"top-1 \d+\.\d % of 4 test videos, 4 classes", score)
    still, learned = losses.values()
    assert len(learned) == 12 and learned[0] == still[0]  # a step each
    assert sum(learned[3:]) < sum(still[3:])


def test_tubes_are_hidden_and_drawn(synthetic_shards: Path, monkeypatch, run_here: Callable[..., str]) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    from train_videomae import VideoMAE, tube_masks

    hidden = tube_masks(5, 8, 9, 0.9).reshape(5, 8, 9)
    assert (hidden.sum(2) == 8).all() and (hidden == hidden[:, :1]).all()
    assert len({tuple(row) for row in hidden[:, 0].tolist()}) > 1
    torch.manual_seed(0)
    network, clips = VideoMAE(4, depth=1).eval(), torch.randn(2, 3, 4, 16, 32)
    mask = torch.tensor([[1, 0, 1, 0]] * 2) > 0
    before = network(clips, mask)
    clips[:, :, :, :, :16] *= 3  # what is hidden decides the target alone, up to its scale and mean: not what is drawn
    assert torch.allclose(network(clips, mask), before, atol=1e-3)
    clips[:, :, :, :, 16:] += torch.randn(2, 3, 4, 16, 16)
    assert not torch.allclose(network(clips, mask), before, atol=1e-3)
    told = run_here("train_videomae.py", synthetic_shards, 30, 4, 32)
    losses = [float(line.rpartition(" ")[2]) for line in told.splitlines()]
    assert len(losses) == 30 and sum(losses[-5:]) < sum(losses[:5])


def test_a_layout_of_ones_own_is_told_by_its_lists(synthetic_videos, tmp_path: Path) -> None:
    rgb, lists, shards = tmp_path / "rgb", tmp_path / "lists", tmp_path / "shards"
    rgb.mkdir()
    lists.mkdir()
    rows = {"train": {}, "test": {"lost.mp4": "dive"}}
    for number, video in enumerate(sorted(synthetic_videos.videos.glob("*/*.avi"))[:8]):
        shutil.copy(video, rgb / f"{number}.mp4")
        rows["train" if number % 4 else "test"][f"{number}.mp4"] = ("dive", "jump")[number // 4]
    for part, named in rows.items():
        (lists / f"moves_{part}.json").write_text(json.dumps(named))
    own = EXAMPLES / "own_dataset_layout.py"
    code = "import sys; from pclkd.sharding.cli import main; main(sys.argv[1:])"
    told = program("-c", code, "--import", own, "pack", rgb, shards, "--splits", lists, "--size", "64x86", "--json")
    assert json.loads(told)["dataset"] == "moves" and json.loads(told)["missing"] == 1
    index = ShardIndex.open(shards)
    assert index.classes == ("dive", "jump")
    assert [len(index.split_samples(1, part)) for part in ("train", "test")] == [6, 2]
