"""Standard errors against numpy, against resampling, and of a network that is asked as the evaluator asks it."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pclkd.pipeline.opening import clip_loader
from pclkd.pipeline.world import World
from pclkd.sharding.shards.index import ShardIndex
from pclkd.training.evaluation.accuracy import accuracy, mean_over_splits
from pclkd.training.evaluation.evaluator import Evaluator
from pclkd.training.runs.checkpoint import build_model
from pclkd.training.settings import override, preset


@given(st.integers(2, 40), st.integers(1, 5), st.integers(0, 99))
def test_videos_asked_equally_often_are_averaged_one_by_one(videos: int, passes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    answers = rng.random((videos, passes)) < rng.random((videos, 1))
    video = np.repeat(rng.permutation(videos)[:, None], passes, axis=1)
    shuffled = rng.permutation(videos * passes)
    got = accuracy("x", *(torch.from_numpy(a.ravel()[shuffled]) for a in (answers, video)))
    assert got["x_pct"] == pytest.approx(100 * answers.mean())
    assert got["x_pct_se"] == pytest.approx(100 * answers.mean(1).std(ddof=1) / np.sqrt(videos), abs=1e-9)
    alone = accuracy("x", torch.from_numpy(answers[:, 0]))
    assert alone["x_pct_se"] == pytest.approx(100 * answers[:, 0].std(ddof=1) / np.sqrt(videos), abs=1e-9)


def test_videos_asked_unequally_often_err_as_far_as_resampled_videos_do() -> None:
    rng = np.random.default_rng(3)
    asked = rng.integers(1, 6, 300)
    skill = rng.beta(1, 1, 300)  # answers about a video hang together
    right = rng.binomial(asked, skill)
    hits = np.concatenate([np.arange(n) < h for n, h in zip(asked, right, strict=True)])
    got = accuracy("x", torch.from_numpy(hits), torch.from_numpy(np.repeat(np.arange(300), asked)))
    assert got["x_pct"] == pytest.approx(100 * right.sum() / asked.sum())
    chosen = rng.integers(0, 300, (4000, 300))
    resampled = 100 * right[chosen].sum(1) / asked[chosen].sum(1)
    assert got["x_pct_se"] == pytest.approx(resampled.std(), rel=0.1)
    share = got["x_pct"] / 100
    independent = 100 * np.sqrt(share * (1 - share) / asked.sum())
    assert got["x_pct_se"] > 1.3 * independent


def test_one_video_tells_no_error() -> None:
    assert accuracy("x", torch.tensor([True])) == {"x_pct": 100}
    assert accuracy("x", torch.tensor([True, False]), torch.tensor([4, 4])) == {"x_pct": 50}


def test_splits_are_averaged_and_their_errors_shrink() -> None:
    found = [
        {"a_pct": 40.0, "a_pct_se": 3.0, "b_pct": 7.0, "test_videos": 5, "by_class_pct": {"x": 1.0}},
        {"a_pct": 60.0, "a_pct_se": 4.0, "test_videos": 6, "by_class_pct": {"x": 2.0}},
    ]
    assert mean_over_splits(found) == {"a_pct": 50, "a_pct_se": 2.5, "b_pct": 7, "test_videos": 11}


def test_the_pretext_task_is_asked_in_every_pass_and_clustered_by_video(synthetic_shards: Path) -> None:
    changes = ["backbone.width=0.125", "loader.crop=32", "loader.batch_size=3", "evaluation.pretext_passes=4"]
    settings = override(preset("demo"), changes)
    index, device = ShardIndex.open(synthetic_shards), torch.device("cpu")
    torch.manual_seed(0)
    model = build_model(settings)
    with Evaluator(index, settings, device, clips=2) as evaluator:
        got = evaluator.pretext(model)
        again = evaluator.pretext(model)
    assert got == again and model.training
    model.eval()
    answers: dict[int, list[bool]] = {}
    by_class: dict[int, list[bool]] = {}
    options = {"part": "test", "seed": 20_201_015, "augment": None, "shuffle": False, "device": device}
    with clip_loader(index, settings, World(), **options) as loader, torch.no_grad():
        for number in range(4):
            for batch in loader.epoch(number):
                predicted = model(batch.clips).pretext_logits.argmax(1)
                for i in range(batch.valid):
                    hit = bool(predicted[i] == batch.pretext_label[i])
                    answers.setdefault(int(batch.sample_index[i]), []).append(hit)
                    by_class.setdefault(int(batch.pretext_label[i]), []).append(hit)
    assert {len(given) for given in answers.values()} == {4}
    means = np.array([np.mean(given) for given in answers.values()])
    assert got["pretext_samples"] == 4 * len(means)
    assert got["pretext_top1_pct"] == pytest.approx(100 * means.mean())
    assert got["pretext_top1_pct_se"] == pytest.approx(100 * means.std(ddof=1) / np.sqrt(len(means)))
    for number, hits in by_class.items():
        assert got[f"pretext_class{number}_pct"] == pytest.approx(100 * np.mean(hits))


def test_every_accuracy_is_that_of_the_answers_kept_beside_it(synthetic_shards: Path) -> None:
    changes = ["backbone.width=0.125", "loader.crop=32", "loader.batch_size=3", "evaluation.pretext_passes=4"]
    settings, index = override(preset("demo"), changes), ShardIndex.open(synthetic_shards)
    with Evaluator(index, settings, torch.device("cpu"), clips=2) as evaluator:
        figures, answers = evaluator.all(build_model(settings))
        alone = evaluator.all(build_model(settings), features=False)
    asked = {
        "pretext_top1": 4,
        "linear_top1": 1,
        "knn_top1": 1,
        "retrieval_r1": 1,
        "retrieval_r5": 1,
        "retrieval_r10": 1,
    }
    assert {name: len(marks) for name, marks in answers.items()} == {f"val/{name}_pct": n for name, n in asked.items()}
    for name, marks in answers.items():
        assert {len(line) for line in marks} == {len(index.split_samples(1, "test"))}
        told = np.array([[int(mark) for mark in line] for line in marks])
        assert figures[name] == pytest.approx(100 * told.mean())
        if told.std():
            share = told.mean(0)
            assert figures[f"{name}_se"] == pytest.approx(100 * share.std(ddof=1) / len(share) ** 0.5)
    assert list(alone.answers) == ["val/pretext_top1_pct"]


def test_damaged_videos_are_counted_in_what_is_measured(synthetic_shards: Path, tmp_path: Path) -> None:
    settings = override(preset("demo"), ["backbone.width=0.125", "loader.crop=32", "evaluation.pretext_passes=3"])
    index, device = ShardIndex.open(shutil.copytree(synthetic_shards, tmp_path / "shards")), torch.device("cpu")
    model = build_model(settings)
    with Evaluator(index, settings, device, clips=2) as evaluator:
        assert "val/quarantined_samples" not in evaluator.all(model, features=False).figures
    lost = int(index.split_samples(1, "test")[0])
    with Path(index.shard_url(int(index.sample_shard[lost]))).open("r+b") as shard:
        shard.seek(int(index.sample_offset[lost]))
        shard.write(bytes(int(index.sample_size[lost]) - 512))  # its frames
    with Evaluator(index, settings, device, clips=2) as evaluator:
        measured = evaluator.all(model, features=False)
        assert measured.figures["val/quarantined_samples"] == 3  # once a pass
        assert [marks[0] for marks in measured.answers["val/pretext_top1_pct"]] == [".", ".", "."]
        assert evaluator.all(model).figures["val/quarantined_samples"] == 3 + 1
