import av
import numpy as np
import pytest
import torch

from pclkd.benchmarks.load import find_videos
from pclkd.benchmarks.reference_loaders import ShardClips, VideoClips, read_window
from pclkd.pipeline.augment import AugmentSettings
from pclkd.pipeline.loader import ClipLoader, LoaderSettings
from pclkd.pipeline.recipe import TupleRecipe
from pclkd.pipeline.sampling import TupleSettings
from pclkd.sharding.index import ShardIndex

CROP = 48
RECIPE = TupleRecipe(
    seed=3,
    tuples=TupleSettings(clip_frames=8, clip_stride=12),
    augment=AugmentSettings(jitter_probability=0, grayscale_probability=0, blur_probability=0),
    pretext=None,
)
LEVEL = 1 / (255 * 0.225)  # one grey level after normalisation


@pytest.fixture(scope="module")
def loaded(synthetic_shards):
    """Clips [3, C, T, H, W] by sample id, from this package's loader."""
    index = ShardIndex.open(synthetic_shards)
    samples = np.arange(len(index))
    settings = LoaderSettings(batch_size=4, crop=CROP, threads=1, modality="rgb")
    with ClipLoader(index, samples, RECIPE, settings, training=True) as loader:
        return {
            int(samples[position]): clips.clone()
            for batch in loader.epoch(0)
            for position, clips in zip(batch.sample_index, batch.clips, strict=True)
        }


def distance(a, b):
    """Mean difference in grey levels."""
    return ((a - b).abs().mean() / LEVEL).item()


def test_webdataset_and_pillow_deliver_the_same_clips(synthetic_shards, loaded):
    found = dict(ShardClips(synthetic_shards, np.arange(16), RECIPE, CROP))
    assert found.keys() == loaded.keys() == set(range(16))
    for sample, clips in found.items():
        assert clips.shape == (3, 3, 8, CROP, CROP)
        assert clips.dtype == torch.float32
        assert distance(clips, loaded[sample]) < 1.0  # two JPEG decoders
        assert distance(clips.flip(4), loaded[sample]) > 3.0


def test_no_shard_is_read_further_than_needed(synthetic_shards):
    assert sorted(sample for sample, _ in ShardClips(synthetic_shards, np.arange(5), RECIPE, CROP)) == [0, 1, 2, 3, 4]


def test_pyav_delivers_the_same_clips(synthetic_shards, synthetic_videos, loaded):
    videos = find_videos(synthetic_videos.videos, synthetic_videos.splits)
    dataset = VideoClips(synthetic_shards, np.arange(16), videos, RECIPE, CROP)
    assert len(dataset) == 16
    for position in range(16):
        sample, clips = dataset[position]
        assert clips.shape == (3, 3, 8, CROP, CROP)
        assert distance(clips, loaded[sample]) < 6.0  # what JPEG took away
        assert distance(clips, loaded[(sample + 5) % 16]) > 12.0


def check_windows(path, size):
    with av.open(str(path), metadata_errors="replace") as container:
        whole = [
            frame.reformat(width=size[1], height=size[0], format="rgb24", interpolation="BICUBIC").to_ndarray()
            for frame in container.decode(video=0)
        ]
    n = len(whole)
    for wanted in ([0], [n - 1], [n // 2, n // 2 + 1, n // 2 + 7], [1, 13], [12], [11, n - 2]):
        found = read_window(path, wanted, size)
        assert sorted(found) == wanted
        for number in wanted:
            assert np.array_equal(found[number], whole[number]), (path.name, number)


def test_windows_of_rendered_videos_hold_the_right_frames(synthetic_videos):
    for path in sorted(synthetic_videos.videos.rglob("*.avi"))[:3]:
        check_windows(path, (30, 40))


@pytest.mark.real_videos
def test_windows_of_real_videos_hold_the_right_frames(ucf101_sample):
    """Key frames every 12 frames in some, B-frames and one key frame in others."""
    for path in sorted(ucf101_sample.videos.rglob("*.avi"))[::5]:
        check_windows(path, (30, 40))
