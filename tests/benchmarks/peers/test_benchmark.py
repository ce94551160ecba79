"""Peers must do our work: their clips are compared with ours, and each other's mistakes must show."""

import io
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from pclkd.benchmarks.loading.case import LoadCase
from pclkd.benchmarks.measuring.clip_shape import ClipShape
from pclkd.benchmarks.peers.clips import PeerWork, torch_loader
from pclkd.benchmarks.peers.dali import DaliShards
from pclkd.benchmarks.peers.shards import FolderClips, ShardClips, write_frame_folders
from pclkd.benchmarks.peers.videos import VIDEO_READERS, VideoClips, missing_library
from pclkd.pipeline.clips.augment import AugmentSettings
from pclkd.pipeline.clips.recipe import TupleRecipe
from pclkd.pipeline.pixels.colours import STD
from pclkd.sharding.datasets.reading import read_dataset
from pclkd.sharding.video.decode import open_container

LEVEL = 1 / (255 * np.mean(STD))  # one grey level after normalisation
# Grey levels: two JPEG decoders and, in residuals, the colours of DALI and torchvision. Hue is turned in other colour
# spaces (docs/augmentation.md); without it, the rest agrees to a level.
TOLERANCE = {"plain": 0.5, "full": 3.5, "hueless": 1.0}
JPEG_SHARE = 1.6  # originals: times what Pillow's JPEG of the same quality takes from the same frames


pytestmark = pytest.mark.usefixtures("one_thread")


class Hueless(LoadCase):
    @property
    def recipe(self):
        return TupleRecipe(seed=0, tuples=self.shape.tuples, augment=AugmentSettings(hue=0))


@pytest.fixture(scope="module", params=["plain", "full", "hueless"])
def case(request, synthetic_shards):
    kind, name = (Hueless, "full") if request.param == "hueless" else (LoadCase, request.param)
    return kind.choose(synthetic_shards, name, ClipShape(4, 8, 48), 16, 1)


@pytest.fixture(scope="module")
def from_shards(case):
    """Grey levels that clips of the same JPEG files may be apart."""
    return dict.fromkeys(range(16), TOLERANCE["hueless" if isinstance(case, Hueless) else case.name])


@pytest.fixture(scope="module")
def work(case, synthetic_shards):
    return PeerWork(synthetic_shards, case.recipe, case.shape.side, case.residual)


@pytest.fixture(scope="module")
def ours(case):
    with case.loader() as loader:
        return {
            int(sample): clips.clone()
            for batch in loader.epoch(0)
            for sample, clips in zip(batch.sample_index, batch.clips, strict=True)
        }


@pytest.fixture(scope="module")
def originals(synthetic_videos):
    return {video.key: video.path for video in read_dataset(synthetic_videos.videos, synthetic_videos.splits).videos}


@pytest.fixture(scope="module")
def from_videos(case, originals):
    """Grey levels that clips of the originals may be apart: what a JPEG of theirs loses, and hue."""
    hue = TOLERANCE["full"] if case.name == "full" and not isinstance(case, Hueless) else 0
    return {
        sample: hue + JPEG_SHARE * jpeg_loss(whole_video(originals[case.index.key(sample)], (64, 86))[::8])
        for sample in range(16)
    }


def jpeg_loss(frames):
    lost = []
    for frame in frames:
        file = io.BytesIO()
        Image.fromarray(frame).save(file, "JPEG", quality=90, subsampling="4:2:0")
        lost.append(np.abs(np.asarray(Image.open(file)).astype(int) - frame).mean())
    return np.mean(lost)


def compare(found, ours, tolerance):
    assert found.keys() == ours.keys() == set(range(16))
    apart, others = [], []
    for sample, clips in found.items():
        assert clips.shape == (3, 3, 8, 48, 48)
        assert clips.dtype == torch.float32
        apart.append((clips - ours[sample]).abs().mean() / LEVEL)
        others.append((clips - ours[(sample + 5) % 16]).abs().mean() / LEVEL)
        assert apart[-1] < min(others[-1], tolerance[sample]), sample
    assert np.mean(others) > 2 * np.mean(apart)


def test_webdataset_and_pillow_deliver_our_clips(case, work, ours, from_shards):
    compare(dict(ShardClips(work, case.samples)), ours, from_shards)


def test_frame_folders_deliver_our_clips(case, work, ours, from_shards, tmp_path):
    write_frame_folders(case.index, case.samples.tolist(), tmp_path)
    stored = sorted(path.name for path in (tmp_path / case.index.key(3)).iterdir())
    assert stored == [f"{number:06d}.jpg" for number in range(96)]
    dataset = FolderClips(work, case.samples, tmp_path)
    compare(dict(dataset[i] for i in range(len(dataset))), ours, from_shards)


def test_dalis_own_reader_delivers_our_clips_in_every_pass(case, ours, from_shards, tmp_path):
    graph = case.graph("graph" if case.recipe.colours else "none")
    with DaliShards(
        case.index, case.samples, case.recipe, graph, take_residual=case.residual, scratch=tmp_path
    ) as peer:
        for _ in range(2):
            found = {int(id_): own.clone() for ids, clips in peer for id_, own in zip(ids, clips, strict=True)}
            compare(found, ours, from_shards)


def test_dalis_own_reader_reads_no_more_samples_than_a_pass_has(case, ours, from_shards, tmp_path):
    """12 of 16 samples: the second pass must begin at the first sample again, not at the 13th."""
    graph = case.graph("graph" if case.recipe.colours else "none")
    with DaliShards(
        case.index, case.samples[:12], case.recipe, graph, take_residual=case.residual, scratch=tmp_path
    ) as peer:
        for _ in range(2):
            for ids, clips in peer:
                for id_, own in zip(ids, clips, strict=True):
                    assert (own - ours[int(id_)]).abs().mean() / LEVEL < from_shards[int(id_)]


@pytest.mark.parametrize("reader", VIDEO_READERS)
def test_readers_of_the_originals_deliver_our_clips(reader, case, work, ours, originals, from_videos):
    if reason := missing_library(reader):
        pytest.skip(reason)
    dataset = VideoClips(work, case.samples, originals, reader)
    compare(dict(dataset[i] for i in range(len(dataset))), ours, from_videos)


def test_workers_deliver_each_sample_once(case, work, ours, from_shards):
    """Two processes on shards that cannot be dealt out evenly, and batches small enough for both to have work."""
    loader = torch_loader(ShardClips(work, case.samples[:6]), 6, 4, 2, pin_memory=False)
    found = [(int(id_), own) for ids, clips in loader for id_, own in zip(ids, clips, strict=True)]
    assert sorted(sample for sample, _ in found) == [0, 1, 2, 3, 4, 5]
    assert loader.batch_size == 3
    for sample, own in found:
        assert (own - ours[sample]).abs().mean() / LEVEL < from_shards[sample]


def whole_video(path, size):
    with open_container(path) as container:
        return [
            frame.reformat(width=size[1], height=size[0], format="rgb24", interpolation="BICUBIC").to_ndarray()
            for frame in container.decode(video=0)
        ]


def check_windows(reader, path, size=(30, 40)):
    whole = whole_video(path, size)
    n = len(whole)
    for wanted in ([0], [n - 1], [n // 2, n // 2 + 1, n // 2 + 7], [1, 13], [12], [11, n - 2]):
        found = VIDEO_READERS[reader](str(path), wanted, size)
        assert sorted(found) == wanted
        for number in wanted:
            apart = np.abs(found[number].astype(int) - whole[number]).mean()
            assert apart < (0.01 if reader == "torch_pyav" else 6.0), (path.name, number)


@pytest.mark.parametrize("reader", VIDEO_READERS)
def test_windows_of_rendered_videos_hold_the_right_frames(reader, synthetic_videos):
    if reason := missing_library(reader):
        pytest.skip(reason)
    for path in sorted(synthetic_videos.videos.rglob("*.avi"))[:3]:
        check_windows(reader, path)


@pytest.mark.real_videos
@pytest.mark.parametrize("reader", ["torch_pyav", "torch_decord"])
def test_windows_of_real_videos_hold_the_right_frames(reader, ucf101_sample):
    """Key frames every 12 frames in some, B-frames, one key frame and unordered time stamps in others."""
    if reason := missing_library(reader):
        pytest.skip(reason)
    for path in sorted(ucf101_sample.videos.rglob("*.avi"))[::5]:
        check_windows(reader, path)


def test_a_library_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "decord", None)
    assert missing_library("torch_decord") == "decord is not installed: pip install 'pclkd[peers]'"
    assert missing_library("torch_pyav") is None


def test_a_library_that_cannot_load_is_named_with_its_reason(monkeypatch, tmp_path):
    """As torchcodec fails where FFmpeg's libraries are absent."""
    broken = tmp_path / "torchcodec"
    broken.mkdir()
    (broken / "__init__.py").write_text("raise RuntimeError('Could not load libtorchcodec.\\nFFmpeg is needed.')\n")
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchcodec"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    reason = missing_library("torch_torchcodec_exact")
    assert reason == "torchcodec cannot be loaded: Could not load libtorchcodec."
