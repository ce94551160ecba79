import hashlib
import io
import json
import shutil
import tarfile
import zlib
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from pclkd.sharding import InputError, Manifest, ShardIndex, pack_videos, plan_packing
from pclkd.sharding.video.frames import open_video
from pclkd.sharding.video.settings import PackSettings

SMALL = {"height": 32, "width": 43, "quality": 50}


def frames_of(payload: bytes) -> list[bytes]:
    """Split a Motion-JPEG stream at its start marks: inside a JPEG, 0xFF 0xD8 cannot occur."""
    starts = [place for place in range(len(payload)) if payload.startswith(b"\xff\xd8\xff", place)]
    return [payload[a:b] for a, b in zip(starts, [*starts[1:], len(payload)], strict=True)]


def members(root: Path) -> dict[str, bytes]:
    found = {}
    for shard in sorted(root.glob("*.tar")):
        with tarfile.open(shard) as tar:
            for member in tar:
                file = tar.extractfile(member)
                assert file is not None
                found[member.name] = file.read()
    return found


def sums(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def copy_videos(folder, target: Path) -> Path:
    return Path(shutil.copytree(folder.videos, target / "UCF-101"))


@pytest.mark.real_videos
def test_real_frame_counts_equal_a_plain_decode_of_each_file(ucf101_sample, real_shards: Path) -> None:
    counted = {}
    for path in ucf101_sample.videos.glob("*/*.avi"):
        with av.open(str(path)) as container:
            counted[path.stem] = sum(1 for _ in container.decode(video=0))
    index = ShardIndex.open(real_shards)
    assert len(index) == len(counted) == 71
    assert {index.key(sample): index.frame_count(sample) for sample in range(71)} == counted
    assert index.manifest.frames == sum(counted.values())
    assert not index.manifest.quarantined


@pytest.mark.real_videos
def test_real_set_knows_what_is_missing_and_where_each_video_belongs(ucf101_sample, real_shards: Path) -> None:
    index = ShardIndex.open(real_shards)
    manifest = index.manifest
    assert len(manifest.missing) == 13320 - 71
    assert manifest.unlisted == ()
    assert len(manifest.classes) == 101
    on_disk = {path.name for path in ucf101_sample.videos.glob("*/*.avi")}
    for split in (1, 2, 3):
        for part in ("train", "test"):
            lines = (ucf101_sample.splits / f"{part}list{split:02d}.txt").read_text().split()
            expected = {Path(line).stem for line in lines if line.rpartition("/")[2] in on_disk}
            count = manifest.splits[str(split)]
            assert (count.train if part == "train" else count.test) == len(expected)
            if expected:
                assert {index.key(int(sample)) for sample in index.split_samples(split, part)} == expected
            else:
                with pytest.raises(InputError, match=f"the {part} part of split {split} in .* is empty"):
                    index.split_samples(split, part)


def test_samples_hold_jpeg_frames_and_what_they_came_from(synthetic_videos, synthetic_shards: Path) -> None:
    found = members(synthetic_shards)
    paths = {path.stem: path for path in synthetic_videos.videos.glob("*/*.avi")}
    assert set(found) == {f"{key}.{kind}" for key in paths for kind in ("mjpeg", "json")}
    classes = sorted({path.parent.name for path in paths.values()})
    for key, path in paths.items():
        about = json.loads(found[f"{key}.json"])
        assert about == {
            "key": key,
            "class": path.parent.name,
            "label": classes.index(path.parent.name),
            "group": int(key.split("_g")[1][:2]),
            "frames": 96,
            "fps": 25.0,
            "height": 64,
            "width": 86,
            "source": f"{path.parent.name}/{path.name}",
            "source_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }


def test_every_stored_frame_is_its_frame_of_the_video(synthetic_videos, synthetic_shards: Path) -> None:
    found = members(synthetic_shards)
    for path in sorted(synthetic_videos.videos.glob("*/*.avi"))[::5]:
        stored = frames_of(found[f"{path.stem}.mjpeg"])
        assert len(stored) == 96
        with av.open(str(path)) as container:
            for frame, jpeg in zip(container.decode(video=0), stored, strict=True):
                with Image.open(io.BytesIO(jpeg)) as image:
                    assert (image.format, image.size, image.mode) == ("JPEG", (86, 64), "RGB")
                    assert not image.info.get("progressive")
                    seen = np.asarray(image, dtype=float)
                expected = np.asarray(frame.to_image().resize((86, 64), Image.Resampling.BICUBIC), dtype=float)
                # Another resizer and a lossy codec lie between the two; frames apart in time differ by more.
                assert np.abs(seen - expected).mean() < 6.0


def test_index_columns_point_at_the_frames(synthetic_shards: Path) -> None:
    index = ShardIndex.open(synthetic_shards)
    found = members(synthetic_shards)
    for sample in range(len(index)):
        data = Path(index.shard_url(int(index.sample_shard[sample]))).read_bytes()
        frames = frames_of(found[f"{index.key(sample)}.mjpeg"])
        rows = range(index.sample_frames[sample], index.sample_frames[sample + 1])
        assert len(rows) == len(frames)
        assert index.frame_offset[rows[0]] == index.sample_offset[sample]
        for row, frame in zip(rows, frames, strict=True):
            start, length = int(index.frame_offset[row]), int(index.frame_length[row])
            assert data[start : start + length] == frame
            assert zlib.crc32(frame) == index.frame_crc32[row]


def test_columns_hold_the_lists_and_folders(synthetic_videos, synthetic_shards: Path) -> None:
    index = ShardIndex.open(synthetic_shards)
    assert index.classes == tuple(sorted(folder.name for folder in synthetic_videos.videos.iterdir()))
    for sample in range(len(index)):
        _, name, group, _ = index.key(sample).split("_")
        assert index.classes[index.sample_label[sample]] == name
        assert f"g{index.sample_group[sample]:02d}" == group
        for row, split in enumerate((1, 2, 3)):
            listed = (synthetic_videos.splits / f"testlist{split:02d}.txt").read_text()
            assert index.sample_split[sample, row] == (2 if index.key(sample) in listed else 1)


def test_workers_do_not_change_a_byte(synthetic_videos, synthetic_shards: Path, tmp_path: Path) -> None:
    plan = plan_packing(synthetic_videos.videos, synthetic_videos.splits, height=64, width=86)
    seen: list[str] = []
    report = pack_videos(plan, tmp_path / "again", workers=2, step=seen.append)
    assert sums(tmp_path / "again") == sums(synthetic_shards)
    assert report.manifest.fingerprint == Manifest.read(synthetic_shards).fingerprint
    assert sorted(seen) == sorted(video.relative for video in plan.dataset.videos)


@pytest.mark.real_videos
def test_packing_real_videos_twice_gives_the_same_bytes(ucf101_sample, tmp_path: Path) -> None:
    for path in sorted(ucf101_sample.videos.glob("*/*.avi"))[::6]:
        (tmp_path / "UCF-101" / path.parent.name).mkdir(parents=True, exist_ok=True)
        (tmp_path / "UCF-101" / path.parent.name / path.name).symlink_to(path)
    plan = plan_packing(tmp_path / "UCF-101", ucf101_sample.splits, allow_empty_split=True, **SMALL)
    prints = [pack_videos(plan, tmp_path / str(workers), workers=workers).manifest.fingerprint for workers in (1, 3)]
    assert prints[0] == prints[1]
    assert sums(tmp_path / "1") == sums(tmp_path / "3")


def test_quality_and_lists_reach_the_fingerprint(synthetic_videos, tmp_path: Path) -> None:
    lists = Path(shutil.copytree(synthetic_videos.splits, tmp_path / "lists"))
    first = pack_videos(plan_packing(synthetic_videos.videos, lists, **SMALL), tmp_path / "a", workers=1).manifest
    better = SMALL | {"quality": 60}
    second = pack_videos(plan_packing(synthetic_videos.videos, lists, **better), tmp_path / "b", workers=1).manifest
    for path in (lists / "trainlist03.txt", lists / "testlist03.txt"):
        path.unlink()
    third = pack_videos(plan_packing(synthetic_videos.videos, lists, **SMALL), tmp_path / "c", workers=1).manifest
    assert len({first.fingerprint, second.fingerprint, third.fingerprint}) == 3
    assert [shard.sha256 for shard in third.shards] == [shard.sha256 for shard in first.shards]
    assert list(third.splits) == ["1", "2"]


def test_line_ends_of_the_lists_do_not_matter(synthetic_videos, tmp_path: Path) -> None:
    lists = Path(shutil.copytree(synthetic_videos.splits, tmp_path / "lists"))
    plan = plan_packing(synthetic_videos.videos, lists)
    for path in lists.iterdir():
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert plan_packing(synthetic_videos.videos, lists) == plan


def test_unreadable_videos_are_quarantined_and_the_rest_is_packed(synthetic_videos, tmp_path: Path) -> None:
    videos = copy_videos(synthetic_videos, tmp_path)
    paths = sorted(videos.glob("*/*.avi"))
    paths[0].write_bytes(b"")
    paths[1].write_text("not a video\n" * 50)
    paths[2].write_bytes(paths[2].read_bytes()[:2000])
    paths[3].unlink()
    paths[3].mkdir()
    whole = paths[4].read_bytes()
    paths[4].write_bytes(whole[: len(whole) // 2])
    (videos / "Rotate" / "v_Rotate_g77_c01.avi").symlink_to(tmp_path / "gone.avi")
    manifest = pack_videos(plan_packing(videos, synthetic_videos.splits, **SMALL), tmp_path / "out", workers=2).manifest
    reasons = {Path(video.video).name: video.reason for video in manifest.quarantined}
    assert list(reasons) == [*(path.name for path in paths[:5]), "v_Rotate_g77_c01.avi"]
    for name, word in zip(
        reasons, ("empty", "no video", "no video", "folder", "cut short", "leads nowhere"), strict=True
    ):
        assert word in reasons[name]
    assert manifest.videos == 11
    index = ShardIndex.open(tmp_path / "out")
    assert {index.key(sample) for sample in range(11)} == {path.stem for path in paths[5:]}
    assert all(shard.samples > 0 for shard in manifest.shards)
    assert len(list((tmp_path / "out").glob("*.tar"))) == len(manifest.shards)


def test_a_set_without_a_single_readable_video_is_refused_and_leaves_nothing(tmp_path: Path, synthetic_videos) -> None:
    videos = tmp_path / "UCF-101"
    (videos / "Rotate").mkdir(parents=True)
    (videos / "Rotate" / "v_Rotate_g01_c01.avi").write_bytes(b"")
    with pytest.raises(InputError, match="none of the 1 videos"):
        pack_videos(plan_packing(videos, synthetic_videos.splits, allow_empty_split=True), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_finished_set_is_replaced_only_on_demand(synthetic_videos, tmp_path: Path) -> None:
    videos, out = copy_videos(synthetic_videos, tmp_path), tmp_path / "out"
    first = pack_videos(plan_packing(videos, synthetic_videos.splits, **SMALL), out, workers=1).manifest
    (out / "mine.txt").write_text("keep me")
    before = sums(out)
    shutil.rmtree(videos / "Rotate")
    plan = plan_packing(videos, synthetic_videos.splits, **SMALL)
    with pytest.raises(InputError, match="holds a finished shard set"):
        pack_videos(plan, out)
    assert sums(out) == before
    second = pack_videos(plan, out, workers=1, overwrite=True).manifest
    assert (first.videos, second.videos) == (16, 12)
    assert len(second.missing) == 4
    assert len(list(out.glob("*.tar"))) == len(list(out.glob("*.idx"))) == len(second.shards)
    assert (out / "mine.txt").read_text() == "keep me"


def test_strict_refuses_what_is_missing_or_unlisted_before_anything_is_written(synthetic_videos, tmp_path) -> None:
    videos = copy_videos(synthetic_videos, tmp_path)
    plan_packing(videos, synthetic_videos.splits, strict=True)
    victim = videos / "Rotate" / "v_Rotate_g01_c01.avi"
    renamed = victim.rename(victim.with_name("v_Rotate_g55_c01.avi"))
    plan = plan_packing(videos, synthetic_videos.splits)
    assert plan.dataset.missing == ("Rotate/v_Rotate_g01_c01.avi",)
    assert plan.dataset.unlisted == ("Rotate/v_Rotate_g55_c01.avi",)
    with pytest.raises(InputError, match=r"1 videos listed in .* are not in .*v_Rotate_g01_c01"):
        plan_packing(videos, synthetic_videos.splits, strict=True)
    shutil.copy(renamed, victim)
    with pytest.raises(InputError, match=r"1 videos in .* stand in no list .*v_Rotate_g55_c01"):
        plan_packing(videos, synthetic_videos.splits, strict=True)


@pytest.mark.parametrize("settings", [{"height": 0}, {"width": 5000}, {"quality": 0}, {"quality": 96}])
def test_settings_out_of_range(synthetic_videos, settings: dict[str, int]) -> None:
    with pytest.raises(InputError, match=str(next(iter(settings.values())))):
        plan_packing(synthetic_videos.videos, synthetic_videos.splits, **settings)


def test_two_runs_cannot_fill_one_folder(synthetic_videos, tmp_path: Path) -> None:
    plan = plan_packing(synthetic_videos.videos, synthetic_videos.splits, **SMALL)

    refused = []

    def intrude(_: str) -> None:
        if not refused:
            with pytest.raises(InputError, match="another run is packing") as told:
                pack_videos(plan, tmp_path / "out", workers=1)
            refused.append(told)

    assert pack_videos(plan, tmp_path / "out", workers=1, step=intrude).manifest.videos == 16
    assert refused


def test_output_that_is_a_file(synthetic_videos, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(InputError, match="is not a folder"):
        pack_videos(plan_packing(synthetic_videos.videos, synthetic_videos.splits), tmp_path / "out")


def test_odd_metadata_does_not_matter(synthetic_videos, tmp_path: Path) -> None:
    """A file whose metadata is not UTF-8, as one of HMDB51's, decodes like any other."""
    path = tmp_path / "v.avi"
    source = next(iter(sorted(synthetic_videos.videos.glob("*/*.avi"))))
    with av.open(str(source)) as old, av.open(str(path), "w", format="avi") as new:
        new.metadata["title"] = "AAAABBBB"
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                new.mux(packet)
    raw = path.read_bytes()
    assert b"AAAABBBB" in raw
    path.write_bytes(raw.replace(b"AAAABBBB", b"\xff\xfe\xe9\xe8\xff\xff\xe0\xe1"))
    with pytest.raises(UnicodeDecodeError):
        av.open(str(path))
    with open_video(path, PackSettings(30, 40)) as video:
        assert sum(1 for _ in video.frames) == 96
