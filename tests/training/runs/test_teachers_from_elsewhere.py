"""Students taught by networks of other libraries and by runs on another modality, through the command line."""

import json
from pathlib import Path

import pytest
import torch
import transformers
from click.testing import CliRunner, Result
from torchvision import models

from pclkd.training.cli import main
from pclkd.training.exchange.trained_backbone import load_backbone

TINY = [
    "--preset=demo",
    "--max-steps=1",
    "--set=backbone.width=0.125",
    "--set=loader.crop=32",
    "--set=loader.batch_size=2",
    "--set=pcl.negatives=8",
    "--set=evaluation.every=0",
    "--set=log_every=1",
]
FEATURES = [
    *("--set=kd.pretext_weight=0", "--set=kd.contrast_weight=0"),
    *("--set=kd.feature_weight=1", "--set=kd.grid_weight=1"),
    *("--set=kd.relation_weight=1", "--set=kd.relation_queue=5"),
]


def run(command: str, data: Path, out: Path, *more: str) -> Result:
    return CliRunner().invoke(main, [command, "--data", str(data), "--out", str(out), *TINY, *more])


def steps(folder: Path) -> dict[int, dict[str, float]]:
    """By step, its losses."""
    records = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return {
        record["step"]: {name: record[name] for name in record if name.startswith(("loss", "pretext", "kd_"))}
        for record in records
        if record["kind"] == "step"
    }


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """An image network at another size, and a video network at another frame rate."""
    root = tmp_path_factory.mktemp("elsewhere")
    torch.manual_seed(0)
    tiny = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.DINOv3ViTConfig(**tiny, image_size=64, patch_size=16, num_register_tokens=1)
    transformers.DINOv3ViTModel(config).save_pretrained(root / "dino")
    torch.save(models.get_model("mc3_18", weights=None).state_dict(), root / "mc3_18.pth")
    return ["--teacher", f"hf:{root / 'dino'}", "--teacher", f"torchvision:mc3_18@{root / 'mc3_18.pth'}"]


def test_two_networks_teach_a_student_of_residuals_which_resumes_bit_for_bit(
    elsewhere: list[str], synthetic_shards: Path, tmp_path: Path
) -> None:
    specs = '[{"frames": 2}, {"frames": 4, "size": 32, "colours": false}]'
    more = [*elsewhere, *FEATURES, f"--set=kd.teacher_specs={specs}", "--set=kd.teacher_weights=[3, 1]"]
    whole = run("distill", synthetic_shards, tmp_path / "whole", *more, "--max-steps=3")
    assert whole.exit_code == 0, whole.output
    for step in (1, 3):
        done = run("distill", synthetic_shards, tmp_path / "parts", *more, f"--max-steps={step}", "--resume")
        assert done.exit_code == 0, done.output
    assert steps(tmp_path / "whole") == steps(tmp_path / "parts")
    assert {"kd_feature", "kd_relation", "kd_grid"} < set(steps(tmp_path / "whole")[3])
    settings = json.loads((tmp_path / "whole" / "settings.json").read_text())
    assert [name.split(":")[0] for name in settings["teachers"]] == ["hf", "torchvision"]
    assert load_backbone(tmp_path / "whole").feature_dim == 64  # its maps to the teachers are no hindrance


def test_a_teacher_of_frames_teaches_a_student_of_residuals(synthetic_shards: Path, tmp_path: Path) -> None:
    teacher = run("pretrain", synthetic_shards, tmp_path / "teacher", "--set=loader.modality=rgb")
    assert teacher.exit_code == 0, teacher.output
    more = ["--teacher", str(tmp_path / "teacher"), "--set=pcl.bank_start=network", "--set=pcl.contrast=bank"]
    done = run("distill", synthetic_shards, tmp_path / "run", *more, "--set=kd.contrast_weight=0", *FEATURES[2:])
    assert done.exit_code == 0, done.output
    assert {"kd_pretext", "kd_feature", "kd_grid", "kd_relation"} < set(steps(tmp_path / "run")[1])
    alike = run("distill", synthetic_shards, tmp_path / "rgb", *more[:2], *FEATURES, "--set=loader.modality=rgb")
    assert alike.exit_code == 0, alike.output


def test_what_no_teacher_can_say_is_refused_before_a_folder_is_made(
    elsewhere: list[str], synthetic_shards: Path, tmp_path: Path
) -> None:
    refused = run("distill", synthetic_shards, tmp_path / "run", *elsewhere[:2])
    assert refused.exit_code == 2 and "the teacher has no pretext classifier" in refused.output
    specs = "--set=kd.teacher_specs=[{}, {}, {}]"
    refused = run("distill", synthetic_shards, tmp_path / "run", *elsewhere, *FEATURES, specs)
    assert refused.exit_code == 2 and "3 kd.teacher_specs for 2 teachers" in refused.output
    far = '--set=kd.teacher_specs=[{"frames": 5, "stride": 2}, {}]'
    refused = run("distill", synthetic_shards, tmp_path / "run", *elsewhere, *FEATURES, far)
    assert refused.exit_code == 2 and "reach over 9 frames, a clip has 8" in refused.output
    assert not (tmp_path / "run").exists()


HEADS = ["--preset=demo", "--set=loader.crop=32", "--set=loader.batch_size=4", "--set=pcl.embedding_dim=8"]


def fit(data: Path, out: Path, teacher: str, *more: str) -> Result:
    return CliRunner().invoke(
        main, ["fit-heads", "--data", str(data), "--out", str(out), "--teacher", teacher, *HEADS, *more]
    )


def test_heads_that_were_fitted_teach_pretext_and_contrast(
    elsewhere: list[str], synthetic_shards: Path, tmp_path: Path
) -> None:
    dino, heads = elsewhere[1], tmp_path / "heads"
    done = fit(synthetic_shards, heads, dino, "--epochs=2", "--lr=0.01")
    assert done.exit_code == 0, done.output
    told = json.loads((heads / "heads.json").read_text())
    assert told["teacher"] == dino and told["figures"]["pretext"] < 2
    content = torch.load(heads / "heads.pt", weights_only=True)
    assert sum(value.numel() for value in content["heads"].values()) < 5000  # the network itself is not in the file
    more = ["--set=kd.feature_weight=1", "--set=kd.least_said=0", "--set=pcl.embedding_dim=8"]
    taught = run("distill", synthetic_shards, tmp_path / "run", "--teacher", str(heads), *more)
    assert taught.exit_code == 0, taught.output
    step = steps(tmp_path / "run")[1]
    assert step["kd_pretext"] > 0 and step["kd_contrast"] > 0 and step["kd_feature"] > 0
    # Beside a teacher that has features alone: each term asks those that can answer it.
    two = [
        *elsewhere[2:],
        "--teacher",
        str(heads / "heads.pt"),
        '--set=kd.teacher_specs=[{"frames": 4, "size": 32}, {}]',
    ]
    both = run("distill", synthetic_shards, tmp_path / "both", *two, *more)
    assert both.exit_code == 0, both.output
    assert steps(tmp_path / "both")[1]["kd_pretext"] > 0
    other = run("distill", synthetic_shards, tmp_path / "other", "--teacher", str(heads), "--set=pretext.task=rotation")
    assert other.exit_code == 2 and "learned the pretext task vcp, the student learns rotation" in other.output
    assert "already holds heads" in fit(synthetic_shards, heads, dino).output
    (heads / "heads.pt").write_bytes(b"nothing")
    damaged = run("distill", synthetic_shards, tmp_path / "other", "--teacher", str(heads))
    assert damaged.exit_code == 2 and "cannot be read as fitted heads" in damaged.output
