"""Videos that lie in a finished set are copied into another one, never decoded again."""

import json
import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from pclkd.sharding import InputError, Manifest, ShardIndex, merge_sets, pack_videos, plan_packing
from pclkd.sharding.cli import main
from pclkd.sharding.packing.pack import PackReport
from pclkd.sharding.shards.verify import verify_shards
from pclkd.sharding.video.frames import UnreadableVideoError, open_video

SMALL = {"height": 32, "width": 43, "quality": 50, "max_frames": 8}
NEW = re.compile(r"_g[12]\d_")


def open_new_ones(path: Path, settings):
    """A decoder that knows the added videos alone."""
    if not NEW.search(path.name):
        raise UnreadableVideoError("was decoded again")
    return open_video(path, settings)


@pytest.fixture
def videos(synthetic_videos, tmp_path: Path) -> Path:
    """Copies that may be changed."""
    return Path(shutil.copytree(synthetic_videos.videos, tmp_path / "videos" / "UCF-101"))


def pack(videos: Path, out: Path, **options) -> PackReport:
    options = {"workers": 1} | options
    settings = {name: options.pop(name) for name in list(options) if name in SMALL}
    return pack_videos(plan_packing(videos, dataset="folder", **SMALL | settings), out, **options)


def add(videos: Path, count: int) -> None:
    paths = sorted(videos.glob("*/*.avi"))
    for number in range(count):
        path = paths[number % len(paths)]
        shutil.copy(path, path.with_name(re.sub(r"_g\d+_", f"_g{10 + number}_", path.name)))


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def kept_videos(out: Path, before: Manifest) -> int:
    """How many videos are in shards that are the same as before."""
    return sum(shard.samples for shard in Manifest.read(out).shards if shard in before.shards)


@pytest.mark.parametrize("added", [2, 20])  # with 20 there are twice as many shards, and every video moves
def test_of_a_set_that_has_grown_only_what_is_new_is_decoded(videos: Path, tmp_path: Path, added: int) -> None:
    before = pack(videos, tmp_path / "out").manifest
    add(videos, added)
    report = pack(videos, tmp_path / "out", overwrite=True, opener=open_new_ones, workers=2)
    assert report.quarantined == ()
    assert report.taken_over == (16 if added == 20 else report.videos - added - kept_videos(tmp_path / "out", before))
    assert report.taken_over > 0
    whole = pack(videos, tmp_path / "whole")
    assert whole.taken_over == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.parametrize("damage", ["frame", "notes", "source", "shard"])
def test_what_is_damaged_or_changed_is_decoded_again(videos: Path, tmp_path: Path, damage: str) -> None:
    pack(videos, tmp_path / "out")
    index = ShardIndex.open(tmp_path / "out")
    tar = Path(index.shard_url(int(index.sample_shard[0])))
    key = index.key(0)
    data = bytearray(tar.read_bytes())
    (source,) = videos.glob(f"*/{key.rpartition('__')[2]}.avi")
    if damage == "shard":
        tar.unlink()
    elif damage == "source":
        other = next(path for path in videos.glob("*/*.avi") if path != source)
        shutil.copy(other, source)
    else:
        place = int(index.sample_offset[0]) + 100 if damage == "frame" else data.index(b'{"key": "' + key.encode())
        data[place] ^= 1
        tar.write_bytes(data)
    report = pack(videos, tmp_path / "out", overwrite=True)
    assert (report.made, report.kept) == (1, 3)
    assert report.taken_over == (0 if damage == "shard" else int((index.sample_shard == 0).sum()) - 1)
    pack(videos, tmp_path / "whole")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_two_sets_are_joined_to_the_bytes_of_one_that_was_packed_at_once(videos: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "one" / "UCF-101", tmp_path / "two" / "UCF-101"
    for path in videos.glob("*/*.avi"):
        # A class in one set alone, and a video in both.
        sides = [first] if path.parent.name == "Zoom" else [second] if "_g03_" in path.name else [first, second]
        for side in sides if path.stem.endswith("g01_c01") else sides[:1]:
            (side / path.parent.name).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, side / path.parent.name)
    for name, side in (("a", first), ("b", second)):
        pack(side, tmp_path / name)
    calls = []

    def stop(name: str, _failed: bool = False, /) -> None:
        calls.append(name)
        if len(calls) == 12:
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        merge_sets(tmp_path / "a", tmp_path / "b", tmp_path / "again", workers=1, step=stop)
    report = merge_sets(tmp_path / "a", tmp_path / "b", tmp_path / "out", workers=2)
    assert (report.videos, report.taken_over, report.retried) == (16, 16, 0)
    pack(videos, tmp_path / "whole")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert verify_shards(tmp_path / "out").damage == ()
    told = CliRunner().invoke(main, ["merge", *(str(tmp_path / name) for name in ("a", "b", "again")), "--json"])
    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout)["shards_kept"] > 0
    assert contents(tmp_path / "again") == contents(tmp_path / "whole")


def test_a_merged_set_tells_what_both_sets_lack(videos: Path, synthetic_videos, tmp_path: Path) -> None:
    one, two = tmp_path / "one" / "UCF-101", tmp_path / "two" / "UCF-101"
    for side, name in ((one, "Rotate"), (two, "Zoom")):
        for folder in sorted(videos.iterdir()):
            (side / folder.name).mkdir(parents=True)
        shutil.copytree(videos / name, side / name, dirs_exist_ok=True)
    (one / "Zoom" / "v_Zoom_g09_c01.avi").write_text("no video")
    next((two / "Zoom").glob("*.avi")).unlink()
    for name, side in (("a", one), ("b", two)):
        pack_videos(
            plan_packing(side, synthetic_videos.splits, allow_empty_split=True, **SMALL), tmp_path / name, workers=1
        )
    manifest = merge_sets(tmp_path / "a", tmp_path / "b", tmp_path / "out", workers=1).manifest
    assert [video.video for video in manifest.quarantined] == ["Zoom/v_Zoom_g09_c01.avi"]
    listed = {name for side in "ab" for name in Manifest.read(tmp_path / side).missing}
    packed = {
        f"{name}/{path.name}" for side, name in ((one, "Rotate"), (two, "Zoom")) for path in (side / name).iterdir()
    }
    assert set(manifest.missing) == listed - packed
    assert (manifest.dataset, manifest.source, manifest.videos) == ("ucf101", "UCF-101", 7)
    train = sum(Manifest.read(tmp_path / side).splits["1"].train for side in "ab")
    assert manifest.splits["1"].train == train > 0


def test_sets_that_do_not_go_together_are_refused(videos: Path, tmp_path: Path) -> None:
    pack(videos, tmp_path / "a")
    pack(videos, tmp_path / "q", quality=60)
    (path, other) = sorted(videos.glob("*/*.avi"))[:2]
    shutil.copy(other, path)
    pack(videos, tmp_path / "b")
    with pytest.raises(InputError, match="other settings: quality 50 and 60"):
        merge_sets(tmp_path / "a", tmp_path / "q", tmp_path / "out")
    with pytest.raises(InputError, match=f"both hold a video .*{path.stem}, with other frames"):
        merge_sets(tmp_path / "a", tmp_path / "b", tmp_path / "out")
    with pytest.raises(InputError, match="holds a finished shard set already"):
        merge_sets(tmp_path / "a", tmp_path / "b", tmp_path / "a")
    tar = sorted((tmp_path / "a").glob("*.tar"))[0]
    data = bytearray(tar.read_bytes())
    data[900] ^= 1
    tar.write_bytes(data)
    with pytest.raises(InputError, match=r"video .* cannot be read \(a frame does not have its checksum\)"):
        merge_sets(tmp_path / "a", tmp_path / "a", tmp_path / "out", workers=1)
    assert not (tmp_path / "out" / "manifest.json").exists()
