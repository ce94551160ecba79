import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from pclkd.pipeline.clips.augment import AugmentSettings, ClipAugment
from pclkd.pipeline.clips.recipe import ClipPlan, TupleRecipe
from pclkd.pipeline.clips.sampling import TupleSettings
from pclkd.pipeline.pretext.clip_order import ClipOrder
from pclkd.sharding.shards.index import ShardIndex
from pclkd.sharding.shards.samples import read_frames
from pclkd.training.cli import main
from pclkd.training.preview import preview
from pclkd.training.preview.preview import choose_samples
from pclkd.training.preview.sheets import describe_augment, describe_class, describe_frames, shown_views

SMALL = ["--set", "loader.crop=48", "--set", "tuples.clip_frames=8", "--set", "tuples.clip_stride=12"]
PLAIN = [
    *("--set", "augment.flip_probability=0", "--set", "augment.jitter_probability=0"),
    *("--set", "augment.grayscale_probability=0", "--set", "augment.blur_probability=0"),
]
TUPLES = TupleSettings(clip_frames=8, clip_stride=12)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def index(synthetic_shards):
    return ShardIndex.open(synthetic_shards)


def run(*arguments):
    return CliRunner().invoke(main, ["preview", *map(str, arguments)], catch_exceptions=False)


def plan_of(index, recipe, ids):
    frames = index.sample_frames[ids + 1] - index.sample_frames[ids]
    return recipe.plan(0, ids, frames, index.sample_sizes(ids), 48)


def test_an_overview_and_a_sheet_and_a_gif_of_each_sample(index, tmp_path):
    done = run("--data", index.root, "--out", tmp_path / "p", "--samples", 2, "--compare", *SMALL)
    assert done.exit_code == 0, done.output
    names = sorted(path.name for path in (tmp_path / "p").iterdir())
    assert names[0] == "overview.png"
    assert len(names) == 5
    assert all(f"wrote {tmp_path / 'p' / name}" in done.output for name in names)
    keys = {name.partition(".")[0] for name in names[1:]}
    assert keys <= {index.key(sample) for sample in index.split_samples(1, "train")}
    for key in keys:
        with Image.open(tmp_path / "p" / f"{key}.gif") as gif:
            assert gif.n_frames == 8


def test_a_few_samples_show_all_five_classes(index):
    recipe = TupleRecipe(0, TUPLES)
    train = index.split_samples(1, "train")
    present = set(plan_of(index, recipe, train).pretext.label.tolist())
    ids, classes = choose_samples(index, train, recipe, 48, 2)
    assert classes == len(present) == len(ids) == 5
    assert plan_of(index, recipe, ids).pretext.label.tolist() == [0, 1, 2, 3, 4]
    more, _ = choose_samples(index, train, recipe, 48, 7)
    assert len(set(more.tolist())) == 7
    assert more[:5].tolist() == ids.tolist()


@pytest.mark.parametrize("task", [{}, {"pretext": None}])
def test_more_samples_than_there_are_give_all(index, task):
    train = index.split_samples(1, "train")
    ids, classes = choose_samples(index, train, TupleRecipe(0, TUPLES, **task), 48, 10**12)
    assert sorted(ids.tolist()) == sorted(train.tolist()) and classes == (5 if not task else len(train))


def test_pictures_show_what_the_loader_delivers(index, tmp_path):
    """Without augmentation and task the middle band is the window of the stored frames, the lowest its residual."""
    arguments = ["--data", index.root, "--out", tmp_path, "--samples", 1, "--compare", *SMALL, *PLAIN]
    assert run(*arguments, "--set", "pretext.task=none").exit_code == 0
    (path,) = tmp_path.glob("*.gif")
    nothing = dict.fromkeys(("flip", "jitter", "grayscale", "blur"), 0)
    settings = AugmentSettings(**{f"{name}_probability": chance for name, chance in nothing.items()})
    (sample,) = [sample for sample in range(len(index)) if index.key(sample) == path.stem]
    plan = plan_of(index, TupleRecipe(0, TUPLES, settings, None), np.array([sample]))
    numbers = plan.frames[0, 2]
    top, left = int(plan.augment.top[0, 2]), int(plan.augment.left[0, 2])
    stored = np.stack(read_frames(index, sample, numbers.tolist())).astype(int)
    windows = stored[:, top : top + 48, left : left + 48]
    residual = np.clip(128 + 2 * (np.roll(windows, 1, axis=0) - windows), 0, 255)
    with Image.open(path) as gif:
        assert gif.size == (3 * 86 + 12, 64 + 6 + 48 + 6 + 48)
        for t in (0, 3, 7):
            gif.seek(t)
            picture = np.asarray(gif.convert("RGB")).astype(int)
            right = (270 - 156) // 2 + 2 * 54  # three clips with gaps of 6 are 156 wide and centred
            clip = picture[70:118, right : right + 48]
            difference = picture[124:172, right : right + 48]
            # 256 colours for the whole GIF cost a few levels.
            assert np.abs(clip - windows[t]).mean() < 8
            assert np.abs(difference - residual[t]).mean() < 8
            assert np.abs(difference - residual[(t + 4) % 8]).mean() > np.abs(difference - residual[t]).mean()


def test_samples_are_the_same_a_few_at_a_time(index, tmp_path, monkeypatch):
    """Also behind a damaged one, which moves no other to its place."""
    shards = Path(shutil.copytree(index.root, tmp_path / "shards"))
    ids, classes = choose_samples(index, index.split_samples(1, "train"), TupleRecipe(0, TUPLES), 48, 7)
    damaged = int(ids[1])
    with Path(shards / index.manifest.shards[int(index.sample_shard[damaged])].name).open("r+b") as file:
        file.seek(int(index.sample_offset[damaged]))
        file.write(bytes(int(index.sample_size[damaged]) - 512))
    drawn = []
    for at_a_time in (64, 3):
        monkeypatch.setattr(preview, "_IN_MEMORY", at_a_time)
        out = tmp_path / str(at_a_time)
        assert run("--data", shards, "--out", out, "--samples", 7, "--compare", *SMALL).exit_code == 0
        drawn.append({path.name: path.read_bytes() for path in out.iterdir()})
    assert drawn[0] == drawn[1] and classes == 5
    assert {name.partition(".")[0] for name in drawn[0]} == {index.key(i) for i in ids.tolist() if i != damaged} | {
        "overview"
    }


def test_nothing_but_damaged_samples(index, tmp_path):
    shards = Path(shutil.copytree(index.root, tmp_path / "shards"))
    for path in shards.glob("*.tar"):
        path.write_bytes(bytes(path.stat().st_size))
    done = run("--data", shards, "--out", tmp_path / "p", *SMALL)
    assert done.exit_code == 2 and f"shard-ucf101 verify {shards}" in done.stderr.splitlines()[-1]


def test_without_residuals_there_is_one_band(index, tmp_path):
    done = run("--data", index.root, "--out", tmp_path, "--samples", 1, "--set", "loader.modality=rgb", *SMALL)
    assert done.exit_code == 0
    (path,) = tmp_path.glob("*.gif")
    with Image.open(path) as gif:
        assert gif.size == (3 * 48 + 12, 48)


def augment(**changes):
    values = {"top": 3, "left": 4, "height": 112, "width": 112, "flip": 0, "hue": 0.0, "sigma": 0.0}
    values |= {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0}
    return ClipAugment(**{name: np.array([[value]]) for name, value in (values | changes).items()})


def test_captions_tell_what_was_changed_and_nothing_else():
    assert describe_augment(augment(), 0, 0) == "window 112x112 at (3, 4)"
    changed = augment(flip=1, brightness=1.25, contrast=0.8, saturation=0.0, hue=-12.4, sigma=1.26, height=90, width=80)
    assert describe_augment(changed, 0, 0) == (
        "window 90x80 at (3, 4), flipped, brightness 1.25, contrast 0.80, grayscale, hue -12 degrees, blur sigma 1.3 px"
    )


@pytest.mark.parametrize(
    ("numbers", "told"),
    [
        ([4, 5, 6, 7], "frames 4-7"),
        ([4, 6, 8, 10], "frames 4-10, 2 at a time"),
        ([8, 9, 9, 9], "frames 8-9, the last one held"),
        ([8, 9, 0, 1], "frames 8-1, going round"),
        ([3], "frames 3-3"),
    ],
)
def test_captions_tell_which_frames(numbers, told):
    assert describe_frames(np.array(numbers)) == told


def test_captions_follow_clips_that_changed_places(index):
    """The order task shows clips in another order: each place must be told with the parameters of its own clip."""
    recipe = TupleRecipe(0, TUPLES, pretext=ClipOrder())
    ids = index.split_samples(1, "train")
    plan = plan_of(index, recipe, ids)
    views = shown_views(plan)
    # In the class names, such as "1 3 2", stand the clips in the order in which they are shown.
    digits = [[int(digit) for digit in plan.pretext.classes[label] if digit.isdigit()] for label in plan.pretext.label]
    expected = [[digit - min(row) for digit in row] for row in digits]
    assert views.tolist() == expected
    assert len({tuple(row) for row in views.tolist()}) > 2
    inside = plan_of(index, TupleRecipe(0, TUPLES), ids)
    assert (shown_views(inside) == np.arange(3)).all()


def test_captions_name_the_class(index):
    plan = plan_of(index, TupleRecipe(0, TUPLES), index.split_samples(1, "train"))
    for b, label in enumerate(plan.pretext.label.tolist()):
        assert describe_class(plan, b).startswith(f"class {label} ({plan.pretext.classes[label]})")
    assert describe_class(ClipPlan(plan.frames, plan.augment, None), 0) == "no pretext task"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--data", "{none}"], "none"),
        (["--data", "{shards}", "--set", "loader.crp=48"], "loader.crop"),
        (["--data", "{shards}"], "loader.crop 112 does not fit"),
        (["--data", "{shards}", "--set", "split=9"], "no split 9"),
        (["--data", "{shards}", "--out", "{file}", *SMALL], "cannot be a folder"),
    ],
)
def test_wrong_input_ends_in_one_line(index, tmp_path, arguments, told):
    (tmp_path / "file").write_text("")
    places = {"shards": index.root, "none": tmp_path / "none", "file": tmp_path / "file"}
    done = run("--out", tmp_path / "p", *(part.format(**places) for part in arguments))
    assert done.exit_code == 2
    assert told in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
