import hashlib
from pathlib import Path

import av
import pytest

from pclkd.sharding import InputError, SynthSettings, plan_packing, render_dataset
from pclkd.sharding.synth.dataset import LISTS_FOLDER, VIDEOS_FOLDER

TINY = {"classes": 3, "groups": 3, "clips": 1, "frames": 8, "height": 48, "width": 64}


def sums(root: Path) -> dict[str, str]:
    files = [path for path in sorted(root.rglob("*")) if path.is_file()]
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_same_seed_same_bytes_whatever_the_workers(tmp_path: Path) -> None:
    for name, workers in (("one", 1), ("two", 2)):
        render_dataset(tmp_path / name, SynthSettings(**TINY, seed=3), workers=workers)
    render_dataset(tmp_path / "other", SynthSettings(**TINY, seed=4), workers=1)
    one, two, other = (sums(tmp_path / name) for name in ("one", "two", "other"))
    assert one == two
    assert list(one) == list(other)
    videos = [name for name in one if name.endswith(".avi")]
    assert len(videos) == 9
    assert all(one[name] != other[name] for name in videos)
    assert len({one[name] for name in videos}) == 9


def test_more_groups_do_not_change_the_first(tmp_path: Path) -> None:
    render_dataset(tmp_path / "few", SynthSettings(**TINY), workers=1)
    render_dataset(tmp_path / "many", SynthSettings(**TINY | {"groups": 4}), workers=1)
    few, many = sums(tmp_path / "few" / VIDEOS_FOLDER), sums(tmp_path / "many" / VIDEOS_FOLDER)
    assert few.items() <= many.items()


def test_videos_are_those_of_the_real_folder_layout(synthetic_videos) -> None:
    paths = sorted(synthetic_videos.videos.glob("*/*"))
    names = {path.parent.name for path in paths}
    assert {f"{path.parent.name}/{path.name}" for path in paths} == {
        f"{name}/v_{name}_g{group:02d}_c01.avi" for name in names for group in (1, 2, 3, 4)
    }
    with av.open(str(paths[0])) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "mpeg4"
        assert (stream.average_rate, stream.height, stream.width) == (25, 120, 160)
        assert sum(1 for _ in container.decode(video=0)) == 96


def test_drawn_lengths_leave_room_for_a_remote_clip(tmp_path: Path) -> None:
    render_dataset(tmp_path, SynthSettings(**TINY | {"frames": None}), workers=1)
    lengths = []
    for path in (tmp_path / VIDEOS_FOLDER).glob("*/*.avi"):
        with av.open(str(path)) as container:
            lengths.append(sum(1 for _ in container.decode(video=0)))
    assert all(96 <= length <= 120 for length in lengths)
    assert len(set(lengths)) > 1


@pytest.mark.parametrize("groups", [3, 4, 7, 12, 25])
def test_splits_hold_out_whole_groups_each_other_ones(tmp_path: Path, groups: int) -> None:
    settings = SynthSettings(classes=2, groups=groups, clips=1, frames=1, height=32, width=32)
    render_dataset(tmp_path, settings, workers=1)
    plan = plan_packing(tmp_path / VIDEOS_FOLDER, tmp_path / LISTS_FOLDER, strict=True)
    held_out = []
    for split in (1, 2, 3):
        test = {video.group for video in plan.dataset.videos if video.parts[split] == "test"}
        train = {video.group for video in plan.dataset.videos if video.parts[split] == "train"}
        assert not test & train
        assert test | train == set(range(1, groups + 1))
        assert 0.2 <= len(test) / groups <= 1 / 3
        held_out.append(test)
    assert not (held_out[0] & held_out[1] or held_out[1] & held_out[2] or held_out[0] & held_out[2])


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    render_dataset(tmp_path, SynthSettings(**TINY), workers=1)
    before = sums(tmp_path)
    with pytest.raises(InputError, match="UCF-101 exists already"):
        render_dataset(tmp_path, SynthSettings(**TINY, seed=9), workers=1)
    assert sums(tmp_path) == before


def test_a_stopped_run_leaves_nothing(tmp_path: Path) -> None:
    def stop(_: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        render_dataset(tmp_path / "out", SynthSettings(**TINY), workers=1, step=stop)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("classes", 1),
        ("classes", 11),
        ("groups", 2),
        ("clips", 0),
        ("frames", 0),
        ("height", 241),
        ("width", 16),
        ("seed", -1),
    ],
)
def test_settings_out_of_range_are_named(name: str, value: int) -> None:
    with pytest.raises(InputError, match=f"{name} = {value}: input should be"):
        SynthSettings.given(**{name: value})
