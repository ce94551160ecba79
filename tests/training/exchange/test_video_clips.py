import struct
import tracemalloc
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from pclkd.pipeline import UniformRecipe, clip_loader
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.shards.index import ShardIndex
from pclkd.training import load_backbone, video_clips
from pclkd.training.models.registry import build_backbone


@pytest.mark.real_videos
@pytest.mark.parametrize("modality", ["rgb", "residual"])
def test_a_video_file_gives_the_clips_that_its_shard_gives(modality: str, ucf101_sample, real_shards: Path) -> None:
    index = ShardIndex.open(real_shards)
    sample = 5
    (path,) = ucf101_sample.videos.rglob(f"{index.key(sample)}.avi")
    how = {"batch_size": 1, "crop": 48, "modality": modality, "recipe": UniformRecipe(views=3, clip_frames=8)}
    with clip_loader(index, samples=np.array([sample]), device=torch.device("cpu"), shuffle=False, **how) as loader:
        (batch,) = loader.epoch(0)
    clips = video_clips(path, clips=3, frames=8, crop=48, modality=modality, size=(64, 86))  # type: ignore[arg-type]
    assert clips.shape == (3, 3, 8, 48, 48) and clips.dtype == torch.float32 and clips.is_contiguous()
    stored = batch.clips[0]
    # What is between them is the JPEG; another frame, another crop or another colour would be far off.
    difference = (clips - stored).abs().mean() / stored.abs().mean()
    assert difference < (0.1 if modality == "rgb" else 0.6)
    assert float(torch.corrcoef(torch.stack([clips.flatten(), stored.flatten()]))[0, 1]) > (
        0.995 if modality == "rgb" else 0.8
    )


def test_ten_lines_from_a_video_to_features(synthetic_videos, tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.save(build_backbone("r3d").state_dict(), tmp_path / "weights.pt")
    video = next(synthetic_videos.videos.rglob("*.avi"))
    backbone = load_backbone(tmp_path / "weights.pt")
    clips = video_clips(video, clips=2, frames=8, crop=64)
    with torch.inference_mode():
        features = backbone(clips).mean(0)
    assert features.shape == (512,) and features.isfinite().all()


def test_what_is_no_video_is_told(tmp_path: Path) -> None:
    (tmp_path / "text.avi").write_text("no video")
    with pytest.raises(InputError, match=r"text\.avi"):
        video_clips(tmp_path / "text.avi")
    with pytest.raises(InputError, match="a crop of 200"):
        video_clips(tmp_path / "text.avi", crop=200)


def long_video(path: Path, frames: int) -> Path:
    """An AVI of grey frames; how many tens of a second have passed is their level."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=25, options={"g": "1"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        packets = []
        for level in range(20, 220, 2):
            packets += stream.encode(av.VideoFrame.from_ndarray(np.full((72, 64), level, np.uint8), format="yuv420p"))
        packets += stream.encode()
        for number in range(frames):
            packet = av.Packet(bytes(packets[number * len(packets) // frames]))
            packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, 25), True
            packet.pts = packet.dts = number
            out.mux(packet)
    return path


def test_memory_does_not_grow_with_the_video(tmp_path: Path) -> None:
    """4,000 frames of 112x112 would be 150 MB; those of the clips are 2.4."""
    path = long_video(tmp_path / "v.avi", 4000)
    video_clips(path, clips=1, frames=2, size=(112, 149))
    tracemalloc.start()
    clips = video_clips(path, clips=2, frames=32, size=(112, 149), modality="rgb")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6
    # Each clip shows its place in the video, at the start and at the end.
    levels = clips.mean(dim=(1, 2, 3, 4))
    assert levels[1] - levels[0] > 2


def test_a_header_that_announces_other_frames_changes_no_clip(tmp_path: Path) -> None:
    path = long_video(tmp_path / "v.avi", 200)
    clips = video_clips(path, clips=3, frames=4, crop=48, size=(48, 64))
    raw = bytearray(path.read_bytes())
    for at in (raw.index(b"avih") + 24, raw.index(b"strh") + 40):
        raw[at : at + 4] = struct.pack("<I", 431)
    path.write_bytes(raw)
    assert torch.equal(video_clips(path, clips=3, frames=4, crop=48, size=(48, 64)), clips)


def test_clips_of_another_rate_and_of_a_short_side(tmp_path: Path) -> None:
    path = long_video(tmp_path / "v.avi", 200)  # at 25 a second
    how = {"clips": 1, "crop": 48, "modality": "rgb"}
    every = video_clips(path, frames=200, size=(48, 64), **how)
    half = video_clips(path, frames=100, size=48, fps=12.5, **how)
    assert torch.equal(half, every[:, :, ::2]) or torch.equal(half, every[:, :, 1::2])
    assert (half.diff(dim=2).abs().mean(dim=(0, 1, 3, 4)) > 0.01).sum() > 50  # they are not all alike
    with pytest.raises(InputError, match="a crop of 48 out of frames of 40"):
        video_clips(path, size=40, **how)
