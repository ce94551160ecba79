"""Folders of numbered pictures as videos: what is a frame, what is stored as it is, and what is damaged."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pclkd.sharding.common.frame_names import frames_among
from pclkd.sharding.video.frames import UnreadableVideoError, open_planes, open_video
from pclkd.sharding.video.settings import PackSettings

SIZE = (48, 64)


def picture(
    number: int, *, size: tuple[int, int] = SIZE, kind: str = "JPEG", mode: str = "RGB", **how: object
) -> bytes:
    """A slope that moves from frame to frame."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    pixels = np.stack([rows * 3 + number * 5, columns * 2, (rows + columns) % 256], axis=-1).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(out, kind, **({"quality": 90} if kind == "JPEG" else {}) | how)
    return out.getvalue()


def folder(root: Path, *frames: bytes, name: str = "{:05d}.jpg", first: int = 1, step: int = 1) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(frames):
        (root / name.format(first + number * step)).write_bytes(data)
    return root


def stored(path: Path, height: int = SIZE[0], width: int = SIZE[1], **settings: object) -> list[bytes]:
    with open_video(path, PackSettings(height, width, **settings)) as video:
        return list(video.frames)


def pixels(jpeg: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB"), dtype=float)


@pytest.mark.parametrize(
    ("names", "frames"),
    [
        (["2.jpg", "10.jpg", "1.jpg"], ["1.jpg", "2.jpg", "10.jpg"]),
        (["frame000002.PNG", "frame000001.png", "notes.txt"], ["frame000001.png", "frame000002.PNG"]),
        (["img_1.jpeg", "img_2.jpeg", "flow_x_1.jpg", "flow_y_1.jpg", "flow_x_2.jpg"], ["img_1.jpeg", "img_2.jpeg"]),
        (["a1.jpg", "b1.jpg", "a2.jpg", "b2.jpg"], []),
        (["cover1.jpg"], []),
        (["cover.jpg", "back.jpg"], []),
        ([".1.jpg", ".2.jpg"], []),
    ],
)
def test_names_tell_the_frames_and_their_order(names: list[str], frames: list[str]) -> None:
    assert [name for _, name in frames_among(names)] == frames


def test_jpegs_that_fit_are_taken_byte_for_byte(tmp_path: Path) -> None:
    frames = [picture(number, quality=70 + number, optimize=number % 2 == 0) for number in range(4)]
    assert stored(folder(tmp_path / "v", *frames)) == frames
    assert stored(folder(tmp_path / "v", *frames), max_frames=2) == frames[:2]
    wide = [picture(number, subsampling=0) for number in range(2)]
    assert stored(folder(tmp_path / "w", *wide), chroma="4:4:4") == wide
    short = PackSettings(0, 0, short_side=SIZE[0])
    with open_video(tmp_path / "v", short) as video:
        assert (video.height, video.width, video.fps, list(video.frames)) == (*SIZE, 0, frames)


@pytest.mark.parametrize(
    "unfit",
    [
        picture(1, size=(96, 128)),
        picture(1, subsampling=0),
        picture(1, progressive=True),
        picture(1, mode="L"),
        picture(1) + b"trailer",
        picture(1, exif=b"Exif\0\0" + picture(0, size=(16, 16))),
        picture(1, kind="PNG"),
        picture(1, kind="BMP"),
        picture(1, kind="WEBP", lossless=True),
    ],
)
def test_other_pictures_are_made_to_fit(tmp_path: Path, unfit: bytes) -> None:
    fits = picture(0)
    first, second = stored(folder(tmp_path / "v", fits, unfit))
    assert first == fits
    assert second != unfit
    image = Image.open(io.BytesIO(second))
    assert (image.size, image.mode, image.info.get("progressive")) == ((64, 48), "RGB", None)
    expected = np.asarray(Image.open(io.BytesIO(unfit)).convert("RGB").resize((64, 48)), dtype=float)
    assert np.abs(pixels(second) - expected).mean() < 4


def test_a_picture_that_is_turned_is_stored_upright(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 3  # upside down
    frames = [picture(number, exif=turned.tobytes()) for number in range(2)]
    first = stored(folder(tmp_path / "v", *frames))[0]
    assert np.abs(pixels(first) - pixels(frames[0])[::-1, ::-1]).mean() < 4


def test_numbers_may_begin_anywhere_and_go_in_steps(tmp_path: Path) -> None:
    frames = [picture(number) for number in range(3)]
    assert stored(folder(tmp_path / "v", *frames, first=7, step=5)) == frames
    with open_planes(tmp_path / "v", PackSettings(*SIZE)) as video:
        assert sum(1 for _ in video.frames) == 3


WHOLE = picture(5)


@pytest.mark.parametrize(
    ("damaged", "told"),
    [
        (b"", "00003.jpg is empty"),
        (b"<html>", "00003.jpg is no picture"),
        (WHOLE[:-2], "00003.jpg"),
        (WHOLE[: len(WHOLE) * 9 // 10], "00003.jpg"),
        (WHOLE[: len(WHOLE) // 2], "00003.jpg"),
        (picture(5, kind="PNG")[:120], "00003.jpg cannot be decoded"),
    ],
)
def test_a_damaged_frame_is_a_damaged_video_from_there_on(tmp_path: Path, damaged: bytes, told: str) -> None:
    frames = [picture(number) for number in range(4)]
    folder(tmp_path / "v", *frames)
    (tmp_path / "v/00003.jpg").write_bytes(damaged)
    with open_video(tmp_path / "v", PackSettings(*SIZE)) as video:
        assert [next(video.frames), next(video.frames)] == frames[:2]
        with pytest.raises(UnreadableVideoError, match=f"is damaged: {told}"):
            next(video.frames)


def test_a_missing_frame_is_a_damaged_video(tmp_path: Path) -> None:
    root = folder(tmp_path / "v", *(picture(number) for number in range(5)))
    (root / "00003.jpg").unlink()
    with pytest.raises(UnreadableVideoError, match=r"is damaged: frame 3 is missing, the next one is 00004\.jpg"):
        stored(root)
    (root / "3.jpg").write_bytes(WHOLE)
    assert len(stored(root)) == 5
    (root / "00003.png").write_bytes(WHOLE)
    with pytest.raises(UnreadableVideoError, match="stands there twice"):
        stored(root)


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(UnreadableVideoError, match="is a folder without a row of numbered pictures"):
        stored(tmp_path)
    folder(tmp_path / "v", WHOLE, WHOLE)
    with pytest.raises(UnreadableVideoError, match="tells no frame rate, which cannot be brought to 5"):
        stored(tmp_path / "v", fps=5)
