"""The shards are plain WebDataset: other people's readers read them."""

import json
from pathlib import Path

import numpy as np
import pytest

from pclkd.sharding import Manifest, ShardIndex


def test_webdataset_reads_the_shards(synthetic_shards: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    index = ShardIndex.open(synthetic_shards)
    shards = [str(synthetic_shards / shard.name) for shard in index.manifest.shards]
    samples = list(webdataset.WebDataset(shards, shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == [index.key(number) for number in range(len(index))]
    for number, sample in enumerate(samples):
        rows = slice(index.sample_frames[number], index.sample_frames[number + 1])
        assert len(sample["mjpeg"]) == index.frame_length[rows].sum()
        assert json.loads(sample["json"])["label"] == index.sample_label[number]


def test_dali_reads_the_shards(synthetic_shards: Path) -> None:
    pytest.importorskip("nvidia.dali")
    from nvidia.dali import fn, pipeline_def

    manifest = Manifest.read(synthetic_shards)
    shards = [synthetic_shards / shard.name for shard in manifest.shards]

    @pipeline_def(batch_size=manifest.videos, num_threads=2, device_id=None)
    def read():
        return tuple(
            fn.readers.webdataset(
                paths=[str(shard) for shard in shards],
                index_paths=[str(shard.with_suffix(".idx")) for shard in shards],
                ext=["mjpeg", "json"],
                missing_component_behavior="error",
            )
        )

    pipeline = read()
    pipeline.build()
    streams, texts = pipeline.run()
    index = ShardIndex.open(synthetic_shards)
    for number in range(len(index)):
        about = json.loads(bytes(np.asarray(texts[number])))
        assert about["key"] == index.key(number)
        rows = slice(index.sample_frames[number], index.sample_frames[number + 1])
        assert len(np.asarray(streams[number])) == index.frame_length[rows].sum()


def test_the_frames_of_a_sample_play_as_motion_jpeg(synthetic_shards: Path, tmp_path: Path) -> None:
    import av

    index = ShardIndex.open(synthetic_shards)
    rows = slice(index.sample_frames[0], index.sample_frames[1])
    data = Path(index.shard_url(0)).read_bytes()
    start = int(index.sample_offset[0])
    path = tmp_path / "sample.mjpeg"
    path.write_bytes(data[start : start + int(index.frame_length[rows].sum())])
    with av.open(str(path)) as container:
        sizes = [(frame.height, frame.width) for frame in container.decode(video=0)]
    assert sizes == [(64, 86)] * index.frame_count(0)
