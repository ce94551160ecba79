"""Every pretext task with every contrast, through the command line."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pclkd.training.cli import main
from pclkd.training.runs.checkpoint import load_checkpoint, load_model

TINY = [
    "--preset=demo",
    "--set=backbone.width=0.125",
    "--set=loader.crop=32",
    "--set=loader.batch_size=4",
    "--set=pcl.negatives=8",
    "--set=pcl.queue_size=8",
    "--set=log_every=1",
]


def cli(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def records(run: Path, kind: str) -> list[dict[str, float]]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [record for record in lines if record["kind"] == kind]


@pytest.mark.parametrize(
    ("task", "classes", "contrast"),
    [("order", 6, "bank"), ("rotation", 4, "queue"), ("speed", 4, "in_batch"), ("none", 0, "bank"), ("vcp", 5, "none")],
)
def test_pretext_and_contrast_combine(
    task: str, classes: int, contrast: str, synthetic_shards: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    more = [f"--set=pretext.task={task}", f"--set=pcl.contrast={contrast}", "--epochs=1"]
    done = cli("pretrain", "--data", synthetic_shards, "--out", out, *TINY, *more)
    assert done.exit_code == 0, done.output
    expected = ({"pretext"} if classes else set()) | ({"contrast"} if contrast != "none" else set())
    assert {"pretext", "contrast"} & set(records(out, "step")[-1]) == expected
    last = records(out, "epoch")[-1]
    assert ("val/pretext_top1_pct" in last) == bool(classes)
    assert "val/linear_top1_pct" in last
    checkpoint = load_checkpoint(out)
    assert load_model(checkpoint, out).pretext_classes == classes
    evaluated = cli("evaluate", out, "--data", synthetic_shards, "--protocol", "pretext")
    assert evaluated.exit_code == (0 if classes else 2), evaluated.output
    reported = cli("report", tmp_path)
    assert reported.exit_code == 0, reported.output


def test_a_task_that_spoils_every_clip_leaves_no_contrast(synthetic_shards: Path, tmp_path: Path) -> None:
    arguments = ["pretrain", "--data", synthetic_shards, "--out", tmp_path / "run", *TINY, "--max-steps=1"]
    more = ["--set=pretext.task=rotation", "--set=pretext.changed=all"]
    refused = cli(*arguments, *more)
    assert refused.exit_code == 2 and "no two clips clean" in refused.output
    done = cli(*arguments, *more, "--set=pcl.contrast=none")
    assert done.exit_code == 0, done.output


def test_a_teacher_of_another_task_is_refused_even_with_as_many_classes(synthetic_shards: Path, tmp_path: Path) -> None:
    teacher = tmp_path / "teacher"
    base = [*TINY, "--max-steps=1", "--data", synthetic_shards]
    assert cli("pretrain", *base, "--out", teacher, "--set=pretext.task=rotation").exit_code == 0
    student = ["distill", *base, "--out", tmp_path / "student", "--teacher", teacher, "--set=pretext.task=speed"]
    refused = cli(*student)
    assert refused.exit_code == 2
    assert "learned the pretext task rotation, the student learns speed" in refused.output
    done = cli(*student, "--set=kd.pretext_weight=0")
    assert done.exit_code == 0, done.output


def test_accumulation_warm_up_and_another_optimiser_resume_bit_for_bit(synthetic_shards: Path, tmp_path: Path) -> None:
    more = [
        "--set=loader.batch_size=2", "--set=optimizer.accumulate=2", "--set=optimizer.name=lars",
        "--set=optimizer.warmup_epochs=1", "--set=optimizer.clip_norm=1", "--set=evaluation.every=0",
    ]  # fmt: skip
    base = ["pretrain", "--data", synthetic_shards, *TINY, *more]
    assert cli(*base, "--out", tmp_path / "whole", "--max-steps=5").exit_code == 0
    for steps in (2, 5):
        done = cli(*base, "--out", tmp_path / "parts", f"--max-steps={steps}", "--resume")
        assert done.exit_code == 0, done.output
    names = ("step", "epoch", "loss", "pretext", "contrast", "lr")
    whole, parts = (
        [[r[name] for name in names] for r in records(tmp_path / run, "step")] for run in ("whole", "parts")
    )
    assert whole == parts
    assert [r[0] for r in whole] == [1, 2, 3, 4, 5]
    rates = [r[-1] for r in whole]
    assert rates[0] < rates[1] and max(rates) == pytest.approx(0.05, rel=0.02)
    refused = cli(*base, "--out", tmp_path / "no", "--set=optimizer.accumulate=99")
    assert refused.exit_code == 2 and "optimizer.accumulate is 99" in refused.output
