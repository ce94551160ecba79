"""Features of fixed views on disk: what a student learns from, whether they are computed or read."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import models

from pclkd.pipeline.world import World
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.shards.index import ShardIndex
from pclkd.training.loop.plan import plan_run
from pclkd.training.loop.trainer import train
from pclkd.training.preview.loaded import load_clips
from pclkd.training.runs.teacher_cache import remembered
from pclkd.training.runs.teachers import load_teacher
from pclkd.training.settings import RunSettings, override, preset

SETTINGS = [
    *("backbone.width=0.125", "loader.crop=32", "loader.batch_size=2", "evaluation.every=0", "log_every=1"),
    *("kd.pretext_weight=0", "kd.contrast_weight=0", "kd.feature_weight=1", "kd.relation_weight=1"),
    "kd.relation_queue=5",
]
CPU = torch.device("cpu")


def settings(*more: str) -> RunSettings:
    return override(preset("demo"), [*SETTINGS, *more])


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("teacher") / "resnet18.pth"
    torch.save(models.resnet18().state_dict(), file)
    return f"torchvision:resnet18@{file}"


VIEW = 'kd.teacher_specs=[{"size": 32, "frames": 2}]'


def losses(folder: Path) -> list[dict[str, float]]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [{name: line[name] for name in line if name.startswith(("loss", "kd_"))} for line in lines]


def test_a_student_learns_the_same_from_what_was_computed_and_from_what_is_read(
    teacher: str, synthetic_shards: Path, tmp_path: Path
) -> None:
    def run(name: str) -> list[dict[str, float]]:
        plan = plan_run(
            tmp_path / name, synthetic_shards, settings(VIEW), teachers=[teacher], max_steps=2, teacher_cache=cache
        )
        train(plan)
        return losses(tmp_path / name)

    cache = tmp_path / "cache"
    first = run("first")
    (file,) = cache.glob("*.npy")
    stored, written = np.load(file), file.stat().st_mtime_ns
    assert stored.shape == (12, 512) and len(np.unique(stored.round(4), axis=0)) == 12
    assert run("second") == first and {"kd_feature", "kd_relation"} < set(first[1])
    assert [*cache.glob("*.npy")] == [file] and np.array_equal(np.load(file), stored)
    assert file.stat().st_mtime_ns >= written
    # The rows are those of the videos: asked by hand about the middles of four clips that are spread over one.
    index = ShardIndex.open(synthetic_shards)
    found = load_teacher(teacher, index, 12, settings(VIEW), "", {"size": 32, "frames": 2})
    samples = index.split_samples(1, "train")
    from pclkd.pipeline.clips.covering import UniformRecipe

    recipe = UniformRecipe(4, 8, 1, settings().tuples.short)
    for row, clips in load_clips(index, samples[:2], settings(), "rgb", recipe=recipe):
        with torch.inference_mode():
            wanted = found.model.base_network(clips[:, :, [2, 6]]).mean(0)
        assert np.allclose(stored[row], wanted.numpy(), atol=1e-4)


def test_other_views_have_other_files_within_the_bound(teacher: str, synthetic_shards: Path, tmp_path: Path) -> None:
    index = ShardIndex.open(synthetic_shards)
    samples = index.split_samples(1, "train")[:2]
    one = 2 * 512 * 4 + 128
    bound = f"kd.teacher_cache_gib={2.5 * one / 2**30}"
    files = []
    for size in (32, 34, 36):
        found = load_teacher(teacher, index, 2, settings(), "", {"size": size, "frames": 1})
        kept = remembered(found, tmp_path, index, samples, settings(bound), CPU)
        files.append(set(tmp_path.glob("*.npy")))
        assert kept.answers is not None
        said = kept.answers(torch.tensor([1, 0, 1]))
        assert said.features.shape == (3, 3, 512) and torch.equal(said.features[0, 0], said.features[2, 2])
        assert not torch.equal(said.features[0, 0], said.features[1, 0])
    assert [len(names) for names in files] == [1, 2, 2] and not files[0] & files[2]
    with pytest.raises(InputError, match=r"--set kd\.teacher_cache_gib="):
        remembered(found, tmp_path / "no", index, samples, settings(f"kd.teacher_cache_gib={one / 2**32}"), CPU)
    assert not (tmp_path / "no").exists()


def test_what_a_cache_cannot_do_is_refused(teacher: str, synthetic_shards: Path, tmp_path: Path) -> None:
    def plan(*more: str, world: World | None = None) -> None:
        plan_run(
            tmp_path / "run",
            synthetic_shards,
            settings(VIEW, *more),
            teachers=[teacher],
            teacher_cache=tmp_path / "cache",
            world=world,
        )

    with pytest.raises(InputError, match=r"kd\.grid_weight cannot learn from"):
        plan("kd.grid_weight=1")
    with pytest.raises(InputError, match="2 processes would each fill it"):
        plan(world=World(rank=0, size=2))
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)
    assert not (tmp_path / "run").exists()
