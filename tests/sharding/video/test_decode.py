import errno
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import Interpolation

from pclkd.sharding.video.decode import telling
from pclkd.sharding.video.frames import UnreadableVideoError, open_pixels
from pclkd.sharding.video.settings import PackSettings

ACCURATE = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT


def decode(path: Path, height: int = 30, width: int = 40) -> list[np.ndarray]:
    with open_pixels(path, PackSettings(height, width)) as video:
        return list(video.frames)


@pytest.fixture
def video(synthetic_videos) -> bytes:
    """Bytes of a rendered video of 96 frames."""
    return next(iter(sorted(synthetic_videos.videos.glob("*/*.avi")))).read_bytes()


@pytest.mark.real_videos
@pytest.mark.parametrize("name", ["ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi", "Punch/v_Punch_g01_c03.avi"])
def test_frames_come_in_the_decoders_order_not_in_that_of_time_stamps(ucf101_sample, name: str) -> None:
    path = ucf101_sample.videos / name
    with av.open(str(path)) as container:
        plain = list(container.decode(video=0))
        # Without these flags FFmpeg's RGB is two levels too dark.
        images = [frame.to_ndarray(format="rgb24", interpolation=ACCURATE) for frame in plain]
        stamps = [frame.pts for frame in plain]
    # The first of the two is what sorting by time stamp would scramble.
    assert (stamps != sorted(stamps)) == ("ApplyEyeMakeup" in name)
    ours = decode(path, 240, 320)
    assert len(ours) == len(images)
    for one, other in zip(ours, images, strict=True):
        assert np.abs(one.astype(int) - other.astype(int)).mean() < 1.0
        assert one.dtype == np.uint8


@pytest.mark.real_videos
def test_frame_rates_of_both_kinds(ucf101_sample) -> None:
    for name, rate in (("Punch/v_Punch_g01_c01.avi", 25.0), ("Basketball/v_Basketball_g01_c01.avi", 30000 / 1001)):
        with open_pixels(ucf101_sample.videos / name, PackSettings(30, 40)) as video:
            assert video.fps == pytest.approx(rate)


def test_frames_are_resized_and_whole(video: bytes, tmp_path: Path) -> None:
    path = tmp_path / "v.avi"
    path.write_bytes(video)
    frames = decode(path, 33, 47)
    assert {frame.shape for frame in frames} == {(33, 47, 3)}
    assert len(frames) == 96


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_cut_file_is_refused_whatever_could_be_decoded(video: bytes, tmp_path: Path, share: float) -> None:
    path = tmp_path / "v.avi"
    path.write_bytes(video[: int(share * len(video))])
    with pytest.raises(UnreadableVideoError, match=r"cut short: \d+ of 96 frames"):
        decode(path)


def test_large_hole_is_refused(video: bytes, tmp_path: Path) -> None:
    path = tmp_path / "v.avi"
    middle = len(video) // 2
    path.write_bytes(video[:middle] + bytes(len(video) // 4) + video[middle + len(video) // 4 :])
    with pytest.raises(UnreadableVideoError, match=r"damaged|cannot be decoded at frame"):
        decode(path)


def test_decoder_error_tells_the_frame(video: bytes, tmp_path: Path) -> None:
    path = tmp_path / "v.avi"
    noisy = bytearray(video)
    noise = np.random.default_rng(0)
    for place in noise.integers(len(noisy) // 2, len(noisy) * 3 // 4, 2000):
        noisy[place] = int(noise.integers(256))
    path.write_bytes(noisy)
    with pytest.raises(UnreadableVideoError, match=r"at frame [3-9]\d |only \d+ of 96"):
        decode(path)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is empty"),
        (b"this is a text\n" * 100, "is a text, no video"),
        (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n", "is a playlist"),
        (b"\n <!DOCTYPE html><html><title>404</title>", "is an HTML page, no video"),
        (b"<!-- saved --><html><title>404</title>", "is an HTML page, no video"),
        (b"<?xml version='1.0'?><MPD profiles='live'>", "is a playlist"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "is an XML document"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a Git LFS pointer"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "is a JPEG picture"),
        (b"PK\x03\x04" + bytes(99), "is a ZIP archive"),
        (b'{"error": "not found"}', "is JSON"),
        (bytes(3000), "begins with zeros"),
        (b"\xf0\x9f" * 2000, "is no video"),
        (b"RIFF" + bytes(2000), "is no video"),
        (None, "is not a regular file"),
    ],
)
def test_what_is_no_video_is_told(tmp_path: Path, content: bytes | None, told: str) -> None:
    path = tmp_path / "v.avi"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UnreadableVideoError, match=told):
        decode(path)


def test_play_list_cannot_reach_another_file(video: bytes, tmp_path: Path) -> None:
    (tmp_path / "real.avi").write_bytes(video)
    path = tmp_path / "v.avi"
    path.write_text("ffconcat version 1.0\nfile real.avi\n")
    with pytest.raises(UnreadableVideoError, match="is a playlist"):
        decode(path)


def test_video_without_pictures(tmp_path: Path) -> None:
    path = tmp_path / "v.avi"
    with av.open(str(path), "w", format="avi") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), dtype=np.int16), format="s16", layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    with pytest.raises(UnreadableVideoError, match="no video stream"):
        decode(path)


def test_folder_with_a_videos_name(tmp_path: Path) -> None:
    (tmp_path / "v.avi").mkdir()
    with pytest.raises(UnreadableVideoError, match="is a folder"):
        decode(tmp_path / "v.avi")


@pytest.mark.parametrize("number", [errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EIO])
def test_a_server_that_is_away_is_no_fault_of_the_video(number: int) -> None:
    error = OSError(number, "told by the file system")
    assert (telling("cannot be read", error) is error) == (number != errno.EIO)


def test_trouble_of_the_machine_is_not_blamed_on_the_video(video: bytes, tmp_path: Path) -> None:
    import resource

    path = tmp_path / "v.avi"
    path.write_bytes(video)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        with pytest.raises(OSError) as caught:
            decode(path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert caught.value.errno == errno.EMFILE
