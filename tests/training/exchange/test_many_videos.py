"""What train-kd predict, embed and search do with video files as users name them, damaged ones among them."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner, Result
from safetensors.torch import load_file

from pclkd.sharding.common.errors import InputError
from pclkd.training import load_backbone, video_clips
from pclkd.training.cli import main
from pclkd.training.exchange.features import read_features
from pclkd.training.exchange.many_videos import clips_of, name_videos
from pclkd.training.models.registry import build_backbone
from pclkd.training.runs.clip_form import ClipForm
from pclkd.training.runs.fine_tuned import load_fine_tuned

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = ["--preset=demo", "--set=backbone.width=0.125", "--set=loader.batch_size=4", "--set=evaluation.every=0"]
FORM = {"frames": 8, "crop": 32, "modality": "residual", "size": (64, 86)}


def cli(*arguments: object, lines: str | bytes = "") -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], input=lines)


@pytest.fixture(scope="module")
def run(synthetic_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, fine-tuned for an epoch."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    data = ("--data", synthetic_shards)
    tuned = ("--protocol", "finetune", "--epochs", 1, "--lr", 0.05, "--clips", 1)
    for done in (
        cli("pretrain", *data, "--out", folder, "--max-steps=1", *TINY),
        cli("evaluate", folder, *data, *tuned),
    ):
        assert done.exit_code == 0, done.output
    return folder


@pytest.fixture(scope="module")
def clips_folder(synthetic_videos, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three videos in two folders, and one that is none."""
    folder = tmp_path_factory.mktemp("clips")
    (folder / "more").mkdir()
    for place, video in zip(
        ("b.avi", "a.avi", "more/c.avi"), sorted(synthetic_videos.videos.rglob("*.avi"))[:3], strict=True
    ):
        shutil.copy(video, folder / place)
    (folder / "more" / "broken.avi").write_bytes((folder / "a.avi").read_bytes()[:2000])
    return folder


def test_words_are_files_folders_globs_or_lines(clips_folder: Path) -> None:
    all_of_them = [str(clips_folder / name) for name in ("a.avi", "b.avi", "more/broken.avi", "more/c.avi")]
    assert list(name_videos([str(clips_folder)])) == all_of_them
    assert list(name_videos([f"{clips_folder}/**/*.avi"])) == all_of_them
    assert list(name_videos([f"{clips_folder}/m*"])) == all_of_them[2:]  # a folder that matches
    assert list(name_videos(["x", "-", "y"], ["b.avi\n", "\n", " a.avi\n"])) == ["x", "b.avi", "a.avi", "y"]
    for word, told in ((f"{clips_folder}/*.mp4", "nothing matches"), (f"{clips_folder.parent}/none", None)):
        if told is None:
            assert list(name_videos([word])) == [word]  # it costs itself alone, when it is its turn
        else:
            with pytest.raises(InputError, match=told):
                name_videos(["-", word])  # before the first line is read
    (empty := clips_folder.parent / "empty").mkdir(exist_ok=True)
    with pytest.raises(InputError, match="no videos"):
        name_videos([str(empty)])


def test_names_are_taken_as_they_come(clips_folder: Path) -> None:
    """A list on standard input may be endless."""
    asked = []

    def endless() -> Iterator[str]:
        while True:
            asked.append(str(clips_folder / "a.avi"))
            yield asked[-1]

    found = clips_of(endless(), ClipForm(**FORM), 1, pytest.fail)
    assert [next(found)[0] for _ in range(3)] == asked[:3]
    found.close()
    assert len(asked) < 200


def test_predictions_are_those_of_the_weights_in_the_file(run: Path, clips_folder: Path) -> None:
    done = cli("predict", run, f"{clips_folder}/a.avi", "-", "--clips", 2, lines=f"{clips_folder}/more/c.avi\n")
    assert done.exit_code == 0, done.output
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [Path(row["video"]).name for row in told] == ["a.avi", "c.avi"]
    weights = load_file(run / "finetuned.safetensors")
    backbone = load_backbone(run)
    name, before = next(iter(backbone.state_dict().items()))
    assert not torch.equal(before, weights[f"backbone.{name}"])
    backbone.load_state_dict({k.removeprefix("backbone."): v for k, v in weights.items() if "backbone" in k})
    classes = load_fine_tuned(run)[1].classes
    assert len(classes) == 4
    for row in told:
        clips = video_clips(row["video"], clips=2, **FORM)
        with torch.inference_mode():
            logits = F.linear(backbone(clips), weights["head.weight"], weights["head.bias"])
        for found, said in zip([row["top"], *row["clips"]], [logits.mean(0), *logits], strict=True):
            order = said.argsort(descending=True).tolist()
            assert [entry["class"] for entry in found] == [classes[place] for place in order]  # four of five: all
            shares = [entry["probability"] for entry in found]
            assert shares == pytest.approx(said.softmax(0)[order].tolist(), abs=1e-4)


def test_a_damaged_video_costs_itself_alone_in_a_line(run: Path, clips_folder: Path) -> None:
    done = cli("predict", run, clips_folder, clips_folder / "gone.avi", "--clips", 1)
    assert done.exit_code == 3
    assert [Path(json.loads(line)["video"]).name for line in done.stdout.splitlines()] == ["a.avi", "b.avi", "c.avi"]
    lines = done.stderr.splitlines()
    assert len(lines) == 2 and all(line.startswith("left out: ") for line in lines)
    assert "broken.avi" in lines[0] and "gone.avi" in lines[1]


@pytest.mark.parametrize("suffix", ["npz", "parquet"])
def test_features_are_the_mean_over_a_videos_clips(run: Path, clips_folder: Path, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"features.{suffix}"
    done = cli("embed", run, f"{clips_folder}/?.avi", "-o", out, "--clips", 2)
    assert done.exit_code == 0, done.output
    assert "2 videos, features [2, 64]" in done.output
    found = read_features(out)
    assert found.videos == (str(clips_folder / "a.avi"), str(clips_folder / "b.avi"))
    backbone = load_backbone(run)
    for video, features in zip(found.videos, found.features, strict=True):
        with torch.inference_mode():
            expected = backbone(video_clips(video, clips=2, **FORM)).mean(0).numpy()
        np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-6)


def test_other_tools_read_the_columns(run: Path, clips_folder: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    cli("embed", run, clips_folder / "a.avi", "-o", tmp_path / "one.parquet", "--clips", 1)
    cli("embed", run, clips_folder / "a.avi", "-o", tmp_path / "one.npz", "--clips", 1)
    table, arrays = parquet.read_table(tmp_path / "one.parquet"), np.load(tmp_path / "one.npz")
    assert table.column_names == ["video", "features"]
    assert table["video"].to_pylist() == arrays["videos"].tolist() == [str(clips_folder / "a.avi")]
    assert table["features"].to_pylist()[0] == arrays["features"][0].tolist()


def test_search_finds_the_nearest_and_shows_them(run: Path, clips_folder: Path, tmp_path: Path) -> None:
    index, page = tmp_path / "i.npz", tmp_path / "pages" / "found.html"
    shutil.copy(clips_folder / "b.avi", tmp_path / "same.avi")
    gone = shutil.copy(clips_folder / "more" / "c.avi", tmp_path / "gone.avi")
    words = [f"{clips_folder}/?.avi", tmp_path / "same.avi", gone]
    assert cli("embed", run, *words, "-o", index, "--clips", 2).exit_code == 0
    Path(gone).unlink()
    options = ("--index", index, "--out", page, "--clips", 2)
    done = cli("search", run, clips_folder / "b.avi", *options, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.output)["nearest"]
    assert {row["video"] for row in found} == {str(clips_folder / "a.avi"), str(tmp_path / "same.avi"), str(gone)}
    assert found[0] == {"video": str(tmp_path / "same.avi"), "cosine": 1.0}  # a copy; the query itself is not listed
    stored = read_features(index)
    lengths = stored.features / np.linalg.norm(stored.features, axis=1, keepdims=True)
    by_hand = lengths @ lengths[stored.videos.index(str(clips_folder / "b.avi"))]
    for row in found:
        assert row["cosine"] == pytest.approx(by_hand[stored.videos.index(row["video"])], abs=1e-4)
    text = page.read_text()
    pictures = re.findall(r'<figure class="strip (\w*)"><img alt="([^"]*)" src="data:image/jpeg;base64,([^"]+)"', text)
    assert [kind for kind, _, _ in pictures] == ["asked", "", "", ""]
    assert [alt.partition(",")[0] for _, alt, _ in pictures] == ["b.avi", *(Path(r["video"]).name for r in found)]
    assert pictures[0][2] == pictures[1][2] != pictures[2][2]  # the copy has the query's frames
    two = cli("search", run, clips_folder / "b.avi", *options, "--nearest", 2).output.splitlines()
    assert [line.split()[0] for line in two[:2]] == [f"{row['cosine']:.4f}" for row in found[:2]]
    assert two[2] == f"wrote {page}"


def test_an_index_is_not_replaced_by_an_empty_one(run: Path, clips_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "i.npz").write_text("an index")
    for words, lines in ((clips_folder / "more" / "broken.avi", ""), ("-", "\n")):
        done = cli("embed", run, words, "-o", tmp_path / "i.npz", "--clips", 1, lines=lines)
        assert done.exit_code == 3 and "no features, so nothing was written" in done.stderr
    assert (tmp_path / "i.npz").read_text() == "an index"


def test_names_need_not_be_utf8(run: Path, clips_folder: Path, tmp_path: Path) -> None:
    odd, gone = (tmp_path / os.fsdecode(name) for name in (b"caf\xe9.avi", b"gone\xff.avi"))
    shutil.copy(clips_folder / "a.avi", odd)
    words = (clips_folder / "b.avi", "-", "--clips", 1)
    lines = os.fsencode(odd) + b"\n" + os.fsencode(gone) + b"\n"
    for name in ("i.npz", "i.parquet"):
        done = cli("embed", run, *words, "-o", tmp_path / name, lines=lines)
        assert done.exit_code == 3 and "2 videos" in done.stdout, done.output
        assert "gone\\udcff.avi" in done.stderr and done.stderr.count("\n") == 1
    assert read_features(tmp_path / "i.npz").videos[1] == str(odd)
    assert read_features(tmp_path / "i.parquet").videos[1] == str(tmp_path / "caf\\udce9.avi")
    page = ("--out", tmp_path / "page.html", "--clips", 1)
    done = cli("search", run, clips_folder / "b.avi", "--index", tmp_path / "i.npz", *page)
    assert done.exit_code == 0 and "caf\\udce9.avi" in done.stdout, done.output


def test_the_key_says_which_network_of_a_file(
    run: Path, clips_folder: Path, synthetic_shards: Path, tmp_path: Path
) -> None:
    one, other = (build_backbone("r3d").state_dict() for _ in range(2))
    torch.save({"student": one, "teacher": other}, tmp_path / "two.pt")
    video, index = clips_folder / "a.avi", tmp_path / "i.npz"
    embed = ("embed", tmp_path / "two.pt", video, clips_folder / "b.avi", "-o", index, "--clips", 1)
    unsaid = cli(*embed)
    assert unsaid.exit_code == 2 and "holds 2 networks: student, teacher - say which with --key, " in unsaid.stderr
    assert cli(*embed, "--key=teacher").exit_code == 0
    search = ("search", tmp_path / "two.pt", video, "--index", index, "--out", tmp_path / "page.html", "--clips", 1)
    assert cli(*search, "--key=teacher").exit_code == 0
    assert "was written with another network" in cli(*search, "--key=student").stderr
    learned = ("visualize", run, "--data", synthetic_shards, "--out", tmp_path / "learned", "--clips", 1)
    compared = (*learned, "--part=similarity", "--teacher", tmp_path / "two.pt")
    assert cli(*compared).exit_code == 2 and cli(*compared, "--teacher-key=teacher").exit_code == 0


def test_wrong_calls_are_told_in_a_line(run: Path, clips_folder: Path, tmp_path: Path, synthetic_shards: Path) -> None:
    other, index, video = tmp_path / "other", tmp_path / "i.npz", clips_folder / "a.avi"
    cli("pretrain", "--data", synthetic_shards, "--out", other, "--max-steps=1", *TINY, "--set=seed=9")
    cli("embed", run, video, "-o", index, "--clips", 1)
    (tmp_path / "no.npz").write_text("no features")
    page = ("--out", tmp_path / "page.html")
    for arguments, told in (
        (("predict", other, video), "no fine-tuned network at"),
        (("embed", run, video, "-o", tmp_path / "x.csv"), "neither .npz nor .parquet"),
        (("embed", tmp_path / "none", video, "-o", index), "no checkpoint"),
        (("search", other, video, "--index", index, *page), "another network"),
        (("search", run, video, "--index", index, *page), "no video beside the query"),
        (("search", run, clips_folder / "more" / "broken.avi", "--index", index, *page), "broken.avi"),
        (("search", run, video, "--index", tmp_path / "no.npz", *page), "cannot be read as features"),
        (("search", run, video, "--index", tmp_path / "none.npz", *page), "no features at"),
    ):
        done = cli(*arguments)
        assert done.exit_code == 2 and told in done.output and done.output.count("\n") == 1, done.output
