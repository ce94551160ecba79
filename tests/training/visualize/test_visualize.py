"""The pages of runs as a user makes them: with a teacher and without one, of networks of one's own."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from torch import nn

from pclkd.sharding.shards.index import ShardIndex
from pclkd.training.cli import main
from pclkd.training.evaluation.evaluate import evaluate_run
from pclkd.training.exchange.trained_backbone import load_backbone
from pclkd.training.models import registry
from pclkd.training.models.registry import register_backbone
from pclkd.training.runs.checkpoint import build_model, load_checkpoint
from pclkd.training.visualize.answers import count_answers
from pclkd.training.visualize.arithmetic import linear_cka
from pclkd.training.visualize.material import Material

pytestmark = pytest.mark.usefixtures("one_thread")

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
PARTS = ["attention", "collapse", "confusion", "embedding", "retrieval", "similarity"]
TINY = [
    "--preset=demo", "--set=backbone.width=0.125", "--set=loader.crop=32", "--set=loader.batch_size=4",
    "--set=evaluation.every=0", "--set=guards.least_spread=0", "--set=loader.quarantine_limit_pct=100",
]  # fmt: skip


@pytest.fixture
def flat_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_BUILDERS", dict(registry._BUILDERS))  # forgotten after the test
    flat = lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 32 * 32, 8))  # noqa: E731
    register_backbone("visualize-flat", flat, feature_dim=8)


def cli(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture(scope="module")
def runs(synthetic_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher and its student of another architecture, which kept its first epoch."""
    folder = tmp_path_factory.mktemp("runs")
    common = ["--data", synthetic_shards, *TINY]
    made = [
        cli("pretrain", *common, "--out", folder / "teacher", "--backbone=c3d", "--epochs=1"),
        cli("distill", *common, "--out", folder / "student", "--teacher", folder / "teacher", "--epochs=2",
            "--set=checkpoint.keep=2"),
    ]  # fmt: skip
    assert [done.exit_code for done in made] == [0, 0], [done.output for done in made]
    return folder


@pytest.fixture(scope="module")
def learned(runs: Path, synthetic_shards: Path) -> Path:
    done = cli("visualize", runs / "student", "--data", synthetic_shards, "--clips=2")
    assert done.exit_code == 0, done.output
    assert str(runs / "student" / "learned" / "index.html") in done.output
    return runs / "student" / "learned"


def numbers(folder: Path, part: str) -> Any:
    return json.loads((folder / f"{part}.json").read_text())


class Page(HTMLParser):
    """Addresses and pictures of a page, and whether its elements are closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.open: list[str] = []
        self.without_text = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.addresses += [found[name] or "" for name in ("src", "href") if name in found]
        self.without_text += tag == "img" and not found.get("alt")
        if tag not in {"img", "meta", "input"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_one_page_that_can_be_mailed_and_pictures_and_numbers(learned: Path) -> None:
    assert sorted(path.stem for path in learned.glob("*.json")) == PARTS
    for path in learned.glob("*.png"):
        with Image.open(path) as picture:
            assert min(picture.size) > 300
    assert sorted(path.stem for path in learned.glob("*.png")) == PARTS
    text = (learned / "index.html").read_text()
    assert len(text) < 3_000_000
    page = Page(text)
    assert page.open == [] and page.without_text == 0
    assert page.addresses and all(address.startswith("data:image/jpeg") for address in page.addresses)
    assert "http" not in re.sub(r"base64,[^\"]*", "", text).replace("http://www.w3.org/2000/svg", "")


def test_numbers_are_those_of_the_evaluation(learned: Path, runs: Path, synthetic_shards: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(runs / "student", tmp_path / "student"))
    found = evaluate_run(copy, synthetic_shards, ["linear", "retrieval", "pretext"], clips=2)
    measured = {figures["protocol"]: figures for figures in found}
    assert numbers(learned, "retrieval")["r1_pct"] == measured["retrieval"]["retrieval_r1_pct"]
    confusion = numbers(learned, "confusion")
    for name, protocol in (("linear_probe", "linear"), ("pretext_task", "pretext")):
        counts = np.array(confusion[name]["counts"])
        assert 100 * counts.trace() / counts.sum() == pytest.approx(measured[protocol][f"{protocol}_top1_pct"])
    counts = np.array(confusion["pretext_task"]["counts"])
    for number, row in enumerate(counts):
        if row.sum():
            share = measured["pretext"][f"pretext_class{number}_pct"]
            assert 100 * row[number] / row.sum() == pytest.approx(share)


def test_answers_are_counted_by_row_and_column() -> None:
    right, given = torch.randint(0, 4, (2, 200), generator=torch.Generator().manual_seed(0))
    wanted = torch.zeros(5, 5, dtype=torch.int64)
    for one, other in zip(right, given, strict=True):
        wanted[one, other] += 1
    assert torch.equal(count_answers(right, given, 5), wanted)


def test_neighbours_are_sorted_and_name_training_videos(learned: Path, synthetic_shards: Path) -> None:
    index = ShardIndex.open(synthetic_shards)
    parts = {part: {index.key(int(i)) for i in index.split_samples(1, part)} for part in ("train", "test")}
    found = numbers(learned, "retrieval")["queries"]
    assert {query["key"] for query in found} == parts["test"]
    for query in found:
        assert {near["key"] for near in query["nearest"]} <= parts["train"]
        cosines = [near["cosine"] for near in query["nearest"]]
        assert cosines == sorted(cosines, reverse=True)
        assert all(f"_{near['class']}_" in near["key"] for near in query["nearest"])


def test_a_damaged_video_is_left_out_and_shifts_no_other(runs: Path, synthetic_shards: Path, tmp_path: Path) -> None:
    shards = Path(shutil.copytree(synthetic_shards, tmp_path / "shards"))
    index = ShardIndex.open(shards)
    samples = [int(sample) for sample in index.split_samples(1, "test")]
    with Path(index.shard_url(int(index.sample_shard[samples[0]]))).open("r+b") as file:
        for row in range(int(index.sample_frames[samples[0]]), int(index.sample_frames[samples[0] + 1])):
            file.seek(int(index.frame_offset[row]) + 60)
            byte = file.read(1)[0]
            file.seek(-1, 1)
            file.write(bytes([byte ^ 4]))
    done = cli("visualize", runs / "teacher", "--data", shards, "--clips=1", "--out", tmp_path / "out",
               *(f"--part={part}" for part in ("retrieval", "embedding", "attention")))  # fmt: skip
    assert done.exit_code == 0, done.output
    keys = [index.key(sample) for sample in samples[1:]]
    for found in (numbers(tmp_path / "out", "retrieval")["queries"], numbers(tmp_path / "out", "embedding")["videos"]):
        assert [video["key"] for video in found] == keys
        assert all(f"_{video['class']}_" in video["key"] for video in found)
    seen = numbers(tmp_path / "out", "attention")["linear_probe"]
    assert [video["video"].partition(":")[0] for video in seen] == keys
    assert all(f"_{video['video'].split()[2].rstrip(',')}_" in video["video"] for video in seen)


def test_similarity_is_that_of_the_networks_asked_one_by_one(learned: Path, runs: Path, synthetic_shards: Path) -> None:
    of = Material(runs / "student", synthetic_shards, 2)
    clips = torch.cat([batch.clips[: batch.valid].clone() for batch in of.evaluator._test.epoch(0)])
    settings = load_checkpoint(runs / "student").settings
    torch.manual_seed(settings.seed)
    networks = {
        "0": build_model(settings).base_network.eval(),
        "teacher": load_backbone(runs / "teacher"),
        "1": load_backbone(runs / "student" / "epoch-0001.pt"),
        "2": load_backbone(runs / "student"),
    }
    said = {}
    with torch.no_grad():
        for name, network in networks.items():
            said[name] = network(clips.flatten(0, 1)).reshape(len(clips), 2, -1).mean(1)
    of.close()
    found = numbers(learned, "similarity")["teacher"]
    assert found["teacher_layers"] == ["bn1", "bn2", "bn3b", "bn4b", "features"]
    assert found["layers"] == ["conv2", "conv3", "conv4", "features"]
    over = found["cka_with_features_by_epoch"]
    assert list(over) == ["0", "1", "2"]
    for epoch, values in over.items():
        assert values[-1] == pytest.approx(linear_cka(said["teacher"], said[epoch]), abs=1e-4)
    assert over["2"] == found["cka"][-1]
    assert numbers(learned, "collapse").keys() == {
        "embeddings", "features", "embeddings, before", "features, before", "features of teacher",
    }  # fmt: skip


def test_attention_adds_up_over_clips_and_times(learned: Path) -> None:
    found = numbers(learned, "attention")
    assert found["layer"] == "conv3"
    for name, views in (("pretext_task", 3), ("linear_probe", 1)):
        for video in found[name]:
            weights = np.array(video["by_clip_and_time"])
            assert weights.shape == (views, 4)
            assert (weights >= 0).all() and weights.max() <= 1


def test_a_run_without_a_teacher_says_so_and_takes_one(runs: Path, synthetic_shards: Path, tmp_path: Path) -> None:
    common = ["visualize", runs / "teacher", "--data", synthetic_shards, "--clips=1", "--part=similarity"]
    assert cli(*common, "--out", tmp_path / "alone").exit_code == 0
    assert "The run had no teacher" in (tmp_path / "alone" / "similarity.html").read_text()
    assert sorted(path.name for path in (tmp_path / "alone").iterdir()) == ["similarity.html", "similarity.json"]
    assert cli(*common, "--out", tmp_path / "with", "--teacher", runs / "student").exit_code == 0
    found = numbers(tmp_path / "with", "similarity")["student"]
    assert np.array(found["cka"]).shape == (4, 5)
    refused = CliRunner().invoke(main, [*map(str, common), "--teacher", str(tmp_path / "gone")])
    assert refused.exit_code == 2 and f"no teacher at {tmp_path / 'gone'}" in refused.output


def test_a_page_of_some_parts_leaves_the_whole_one(runs: Path, synthetic_shards: Path, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("all parts")
    some = ("--part=collapse", "--part=retrieval", "--clips=1", "--out", tmp_path)
    done = cli("visualize", runs / "teacher", "--data", synthetic_shards, *some)
    assert done.exit_code == 0 and f"wrote {tmp_path / 'retrieval-collapse.html'}" in done.output, done.output
    assert (tmp_path / "index.html").read_text() == "all parts"


def test_what_another_checkpoint_has_learned_is_not_the_runs(runs: Path, synthetic_shards: Path) -> None:
    run = runs / "student"
    before = (run / "learned").exists()
    done = cli("visualize", run / "epoch-0001.pt", "--data", synthetic_shards, "--clips=1", "--part=collapse")
    assert done.exit_code == 0 and str(run / "learned-epoch-0001") in done.output, done.output
    (page,) = (run / "learned-epoch-0001").glob("*.html")
    assert "after 1 epochs (epoch-0001.pt)" in page.read_text()
    assert (run / "learned").exists() == before


def test_a_teacher_is_found_beside_a_run_that_was_moved(runs: Path, synthetic_shards: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(runs / "student", tmp_path / "student"))
    told = json.loads((moved / "settings.json").read_text())
    (moved / "settings.json").write_text(json.dumps({**told, "teachers": [str(tmp_path / "elsewhere" / "teacher")]}))
    common = ["visualize", moved, "--data", synthetic_shards, "--clips=1", "--part=similarity"]
    assert cli(*common).exit_code == 0
    assert "is not there any more" in (moved / "learned" / "similarity.html").read_text()
    shutil.copytree(runs / "teacher", tmp_path / "teacher")
    assert cli(*common).exit_code == 0
    assert "teacher" in numbers(moved / "learned", "similarity")


@pytest.mark.usefixtures("flat_network")
def test_a_network_of_ones_own_without_maps_or_pretext_task(synthetic_shards: Path, tmp_path: Path) -> None:
    made = cli(
        "pretrain", "--data", synthetic_shards, "--out", tmp_path / "run", *TINY, "--backbone=visualize-flat",
        "--set=backbone.width=1", "--set=pretext.task=none", "--set=pcl.pretext_weight=0", "--epochs=1",
    )  # fmt: skip
    assert made.exit_code == 0, made.output
    done = cli("visualize", tmp_path / "run", "--data", synthetic_shards, "--clips=1")
    assert done.exit_code == 0, done.output
    text = (tmp_path / "run" / "learned" / "index.html").read_text()
    assert "No layer of this network has maps" in text and "The run has no pretext task" in text
    assert list(numbers(tmp_path / "run" / "learned", "confusion")) == ["linear_probe"]


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_the_script_runs_in_a_browser_without_a_word_on_the_console(learned: Path, tmp_path: Path) -> None:
    options = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--enable-logging=stderr",
        "--virtual-time-budget=3000",
    ]
    page = learned / "index.html"
    assert '<button type="button" disabled' in page.read_text()  # without a script they would do nothing
    command = [str(CHROMIUM), *options, f"--user-data-dir={tmp_path}", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "CONSOLE" not in done.stderr
    circles = re.findall(r"<circle[^>]*></circle>", done.stdout)  # the script has taken the titles out of them
    assert len(circles) == 4
    buttons = re.findall(r"<button[^>]*>", done.stdout)
    assert buttons and not any("disabled" in button for button in buttons)
