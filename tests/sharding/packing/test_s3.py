"""Videos from and shards to an S3 store: a real server on this machine, reached by the real client."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pclkd.sharding import InputError, Manifest, ShardIndex, pack_videos, plan_packing
from pclkd.sharding.common import storage
from pclkd.sharding.common.identity import identify, version_of
from pclkd.sharding.shards.verify import verify_shards

moto_server = pytest.importorskip("moto.server")
pytest.importorskip("s3fs")

SMALL = {"height": 32, "width": 43, "quality": 50, "max_frames": 8}


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    """A bucket of a server on loopback; the environment leads every process there."""
    import boto3
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            patch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket="bucket")
        yield "s3://bucket"
        s3fs.S3FileSystem.clear_instance_cache()
        server.stop()


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PCLKD_CACHE", str(tmp_path / "cache"))


def local_contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def contents(url: str) -> dict[str, bytes]:
    return {name: storage.read_bytes(f"{url}/{name}") for name in storage.find(url)}


def test_from_s3_to_s3_gives_the_bytes_of_a_local_run(store: str, synthetic_videos, tmp_path: Path) -> None:
    for path in synthetic_videos.videos.parent.rglob("*"):
        if path.is_file():
            storage.put(path, f"{store}/ucf/{path.relative_to(synthetic_videos.videos.parent)}")
    pack_videos(plan_packing(synthetic_videos.videos, synthetic_videos.splits, **SMALL), tmp_path / "local")
    source = f"{store}/ucf"
    plan = plan_packing(f"{source}/{synthetic_videos.videos.name}", f"{source}/{synthetic_videos.splits.name}", **SMALL)
    out = f"{store}/whole"
    report = pack_videos(plan, out, workers=2)
    assert (report.made, report.kept, report.manifest.quarantined) == (4, 0, ())
    assert contents(out) == local_contents(tmp_path / "local")
    again = pack_videos(plan, out, workers=2)
    assert again.complete
    assert contents(out) == local_contents(tmp_path / "local")
    # All of it can be read where it lies.
    assert Manifest.read(out) == report.manifest
    index = ShardIndex.open(out)
    assert index.root == out
    assert (len(index), index.shard_url(1)) == (16, f"{out}/shard-000001.tar")
    assert index.sample_sizes([0]).tolist() == [[32, 43]]
    assert verify_shards(out).damage == ()
    name = f"{out}/shard-000001.tar"
    data = bytearray(storage.read_bytes(name))
    data[int(index.frame_offset[int(index.sample_frames[int((index.sample_shard < 1).sum())])]) + 300] ^= 1
    storage.write_bytes(name, bytes(data))
    assert len(verify_shards(out).damaged_videos) == 1
    storage.write_bytes(name, bytes(data[:-1]))
    with pytest.raises(InputError, match=r"shard-000001\.tar has \d+ bytes, expected"):
        ShardIndex.open(out)


def test_shards_packed_to_s3_load_as_those_on_disk(store: str, synthetic_videos, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("nvidia.dali")
    from pclkd.pipeline import clip_loader

    plan = plan_packing(synthetic_videos.videos, synthetic_videos.splits, height=48, width=64)
    epochs = []
    for out in (f"{store}/to-load", str(tmp_path / "local")):
        pack_videos(plan, out, workers=2)
        with clip_loader(out, batch_size=4, crop=32, seed=3, device=torch.device("cpu")) as loader:
            epochs.append(list(loader.epoch(0)))
    assert len(epochs[0]) == len(epochs[1]) > 0
    for there, here in zip(*epochs, strict=True):
        assert torch.equal(there.sample_index, here.sample_index)
        assert torch.equal(there.clips, here.clips)


def test_a_killed_run_leaves_whole_objects_and_is_gone_on_with(
    store: str, synthetic_videos, held_packing, tmp_path: Path
) -> None:
    options = {"height": 120, "width": 160}
    plan = plan_packing(synthetic_videos.videos, synthetic_videos.splits, **options)
    pack_videos(plan, tmp_path / "local")
    expected = local_contents(tmp_path / "local")
    out = f"{store}/killed"
    program = "import sys; from pclkd.sharding.cli import main; main(sys.argv[1:])"
    command = [
        *(sys.executable, "-c", program, "pack", str(synthetic_videos.videos), out),
        *("--splits", str(synthetic_videos.splits), "--size=120x160", "--workers=1", "--json"),
    ]
    process = held_packing(out, 120, 160, lambda: any(name.startswith(".pack/shard-") for name in storage.find(out)))
    process.kill()
    process.wait()
    left = contents(out)
    assert "manifest.json" not in left
    assert ".pack/plan.json" in left
    assert [name for name in left if name.startswith(".pack/lock-")]
    final = {name: data for name, data in left.items() if not name.startswith(".pack/")}
    assert final
    assert final.items() <= expected.items()
    done = subprocess.run(command, capture_output=True, check=True)
    summary = json.loads(done.stdout)
    assert summary["shards_kept"] >= 1
    assert summary["shards_kept"] + summary["shards_made"] == 4
    assert contents(out) == expected


def test_the_version_of_an_object_is_asked_for_without_listing_its_folder(store: str, monkeypatch) -> None:
    import s3fs

    url = f"{store}/versions/shard-000000.tar"
    assert version_of(url) == ""
    storage.write_bytes(url, b"a tar")
    (listed,) = identify([url])
    monkeypatch.setattr(s3fs.S3FileSystem, "_lsdir", None)
    assert version_of(url) == listed != ""


def test_a_second_run_is_refused(store: str, synthetic_videos) -> None:
    plan = plan_packing(synthetic_videos.videos, synthetic_videos.splits, **SMALL)
    refused = []

    def intrude(_name: str, _failed: bool = False, /) -> None:
        if not refused:
            with pytest.raises(InputError, match="another run is packing into s3://") as told:
                pack_videos(plan, f"{store}/twice", workers=1)
            refused.append(told)

    pack_videos(plan, f"{store}/twice", workers=1, step=intrude)
    assert refused


def test_places_that_cannot_be_written(store: str, synthetic_videos, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_packing(synthetic_videos.videos, synthetic_videos.splits, **SMALL)
    with pytest.raises(InputError, match=r"s3://nobucket/.*bucket"):
        pack_videos(plan, "s3://nobucket/out")
    with pytest.raises(InputError, match="memory of one process"):
        pack_videos(plan, "memory://out")
    with pytest.raises(InputError, match="nosuch://"):
        pack_videos(plan, "nosuch://out")
    with pytest.raises(InputError, match="no finished shard set at s3://bucket/nothing"):
        ShardIndex.open(f"{store}/nothing")


def test_no_credentials(store: str, synthetic_videos, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    program = "import sys; from pclkd.sharding.cli import main; main(sys.argv[1:])"
    done = subprocess.run(
        [
            *(sys.executable, "-c", program, "pack"),
            *(str(synthetic_videos.videos), f"{store}/out", "--splits", str(synthetic_videos.splits)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: no credentials for s3://bucket/out")
