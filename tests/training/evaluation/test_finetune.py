import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from pclkd.sharding.shards.index import ShardIndex
from pclkd.training.cli import main
from pclkd.training.evaluation.finetune import accuracy_figures
from pclkd.training.runs.fine_tuned import load_fine_tuned
from pclkd.training.runs.run_folder import read_run

TINY = [
    "--preset=demo", "--set=backbone.width=0.125", "--set=loader.crop=64", "--set=loader.batch_size=4",
    "--set=pcl.negatives=8", "--set=evaluation.every=0", "--max-steps=1",
    "--set=augment.jitter_probability=0", "--set=augment.grayscale_probability=0", "--set=augment.blur_probability=0",
    "--set=augment.flip_probability=0", "--set=loader.modality=rgb",
]  # fmt: skip


def cli(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_figures_counted_by_hand() -> None:
    logits = torch.tensor(
        [[9, 5, 1, 2, 3, 4, 0], [0, 9, 1, 2, 3, 4, 5], [9, 1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 9, 1]],
        dtype=torch.float32,
    )
    labels = torch.tensor([0, 1, 1, 0])  # right, right, last of all, second best
    found = accuracy_figures(logits, labels, tuple("abcdefg"))
    assert found["finetune_top1_pct"] == 50
    assert found["finetune_top5_pct"] == 75
    assert found["finetune_top1_pct_se"] == pytest.approx(100 * (1 / 3 / 4) ** 0.5)  # variance of 1, 1, 0, 0: 1/3
    assert found["by_class_pct"] == {"a": 50, "b": 50}
    assert found["confusion"][0] == [1, 0, 0, 0, 0, 1, 0] and found["confusion"][1] == [1, 1, 0, 0, 0, 0, 0]
    assert sum(map(sum, found["confusion"])) == found["test_videos"] == 4
    few = accuracy_figures(torch.eye(3), torch.tensor([0, 1, 0]), tuple("abc"))
    assert few["finetune_top5_pct"] == 100 and few["finetune_top1_pct"] == pytest.approx(200 / 3)


@pytest.fixture(scope="module")
def run(synthetic_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    done = cli("pretrain", "--data", synthetic_shards, "--out", folder, *TINY)
    assert done.exit_code == 0, done.output
    return folder


def test_fine_tuning_learns_and_tells_class_by_class(run: Path, synthetic_shards: Path) -> None:
    done = cli(
        "evaluate", run, "--data", synthetic_shards, "--protocol", "finetune", "--epochs", 40, "--lr", 0.02,
        "--batch-size", 4, "--clips", 2,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    losses = [float(line.rpartition(" ")[2]) for line in done.stderr.splitlines() if line.startswith("fine-tuning:")]
    assert len(losses) == 40 and sum(losses[-5:]) < 0.7 * sum(losses[:5])
    found = json.loads((run / "eval-finetune.json").read_text())
    assert (found["clips"], found["finetune_epochs"]) == (2, 40)
    assert sum(map(sum, found["confusion"])) == found["test_videos"]
    right = sum(row[label] for label, row in enumerate(found["confusion"]))
    assert found["finetune_top1_pct"] == pytest.approx(100 * right / found["test_videos"])


def test_what_another_checkpoint_gives_is_not_the_runs(run: Path, synthetic_shards: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("last.pt", "settings.json", "metrics.jsonl"):
        (folder / name).write_bytes((run / name).read_bytes())
    (folder / "best.pt").write_bytes((run / "last.pt").read_bytes())
    before = {path.name for path in folder.iterdir()}
    common = ("--data", synthetic_shards, "--protocol", "knn", "--protocol", "finetune", "--epochs", 1, "--clips", 1)
    done = cli("evaluate", folder / "best.pt", *common)
    assert done.exit_code == 0, done.output
    new = {path.name for path in folder.iterdir()} - before
    assert new == {"eval-knn-best.json", "eval-finetune-best.json", "finetuned-best"}
    assert json.loads((folder / "eval-knn-best.json").read_text())["checkpoint"] == "best.pt"
    assert read_run(folder).evals == {}
    assert len(load_fine_tuned(folder / "finetuned-best")[1].classes) == 4
    assert cli("evaluate", folder / "last.pt", *common[:4]).exit_code == 0
    assert "checkpoint" not in read_run(folder).evals["knn"]


def test_several_splits_give_each_and_the_mean(run: Path, synthetic_shards: Path) -> None:
    numbers = json.loads((synthetic_shards / "manifest.json").read_text())["splits"]
    assert len(numbers) > 1
    flags = [flag for number in numbers for flag in ("--split", number)]
    done = cli("evaluate", run, "--data", synthetic_shards, "--protocol", "knn", *flags)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    each = [found["by_split"][number]["knn_top1_pct"] for number in numbers]
    assert found["knn_top1_pct"] == pytest.approx(sum(each) / len(each))
    errors = [found["by_split"][number]["knn_top1_pct_se"] for number in numbers]
    assert found["knn_top1_pct_se"] == pytest.approx(sum(error**2 for error in errors) ** 0.5 / len(errors))
    assert max(errors) > 0
    assert found["test_videos"] == sum(found["by_split"][number]["test_videos"] for number in numbers)
    # The run was trained for split 1: the other splits' tests hold some of its training videos, its own holds none.
    index = ShardIndex.open(synthetic_shards)
    trained = set(index.split_samples(1, "train").tolist())
    seen = {number: len(trained & set(index.split_samples(int(number), "test").tolist())) for number in numbers}
    assert seen["1"] == 0 < min(count for number, count in seen.items() if number != "1")
    assert {number: split["test_videos_seen"] for number, split in found["by_split"].items()} == seen
    assert f"was trained, without labels, on {sum(seen.values())} of these test videos" in done.stderr
    assert "without labels" not in cli("evaluate", run, "--data", synthetic_shards, "--protocol", "knn").stderr
    missing = cli("evaluate", run, "--data", synthetic_shards, "--protocol", "knn", "--split", 9)
    assert missing.exit_code == 2 and "no split 9" in missing.output
