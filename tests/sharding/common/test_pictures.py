from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pclkd.sharding.common.pictures import _Font, _schedule, contact_sheet, write_gif, write_png


def flat(height: int, width: int, colour: tuple[int, int, int]) -> np.ndarray:
    return np.full((height, width, 3), colour, dtype=np.uint8)


def shown(picture: Image.Image, colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Bounding box (left, top, right, bottom) of a colour."""
    ys, xs = np.nonzero((np.asarray(picture) == colour).all(axis=-1))
    return xs.min(), ys.min(), xs.max() + 1, ys.max() + 1


def test_frames_stand_in_rows_without_overlap_and_in_order() -> None:
    colours = [[(200, 10 * row, 60 * column) for column in range(3 + row)] for row in range(2)]
    rows = [[flat(160, 200, colour) for colour in row] for row in colours]
    sheet = contact_sheet(rows, ["first", "second"], title="A title")
    boxes = [[shown(sheet, colour) for colour in row] for row in colours]
    for row in boxes:
        assert {box[3] - box[1] for box in row} == {160}
        assert {box[2] - box[0] for box in row} == {200}
        assert len({box[1] for box in row}) == 1
        assert all(left[2] < right[0] for left, right in pairwise(row))
    assert boxes[0][0][3] < boxes[1][0][1]
    assert boxes[0][0][0] == boxes[1][0][0]


def test_small_frames_grow_by_a_whole_factor_and_large_ones_shrink() -> None:
    checks = np.indices((4, 60)).sum(axis=0)[..., None].repeat(3, axis=-1).astype(np.uint8) % 2 * 255
    red = flat(1080, 1920, (255, 0, 0))
    sheet = np.asarray(contact_sheet([[checks], [red]], ["", ""]))
    left, top, right, bottom = shown(Image.fromarray(sheet), (255, 0, 0))
    assert (right - left, bottom - top) == (400, 225)
    assert (sheet[20 : 20 + 12, 20 : 20 + 180] == checks.repeat(3, axis=0).repeat(3, axis=1)).all()


def test_captions_are_drawn_and_long_ones_are_broken() -> None:
    row = [[flat(100, 160, (0, 0, 255))]]
    heights = [contact_sheet(row, [text]).height for text in ("", "short", "word " * 40)]
    assert heights[0] < heights[1] < heights[2]
    plain, captioned = (contact_sheet(row, [""], frame_captions=[[text]]) for text in ("", "frame 7"))
    assert captioned.width == plain.width
    below = np.asarray(captioned)[shown(captioned, (0, 0, 255))[3] :]
    assert below.min() < 128, "no ink below the frame"


@given(st.text("aAiW_. ", max_size=60), st.integers(30, 200))
def test_no_line_is_wider_than_the_sheet_and_no_letter_is_lost(text: str, width: int) -> None:
    font = _Font.of(13)
    lines = font.broken(text, width)
    assert all(font.font.getlength(line) <= width for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")


def test_long_names_are_broken_where_a_part_begins() -> None:
    font = _Font.of(12)
    width = font.font.getlength("SkyDivingFromVeryHi")
    assert font.broken("SkyDivingFromVeryHighPlaces (123)", width) == ["SkyDivingFromVery", "HighPlaces (123)"]


def test_what_does_not_fit_is_refused() -> None:
    row = [flat(8, 8, (0, 0, 0))]
    for rows, captions, texts in (([], [], None), ([[]], [""], None), ([row], [], None), ([row], [""], [["", ""]])):
        with pytest.raises(ValueError, match=r"frames|captions"):
            contact_sheet(rows, captions, frame_captions=texts)


@given(st.integers(1, 300), st.floats(0.5, 240))
def test_delays_add_up_to_the_length_of_the_video(count: int, fps: float) -> None:
    chosen, delays = _schedule(count, fps)
    assert chosen == sorted(set(chosen))
    assert chosen[0] == 0
    assert chosen[-1] < count
    assert min(delays) >= 2
    # Half a hundredth of rounding; the last frame may need its shortest delay beyond the end.
    assert abs(sum(delays) - 100 * count / fps) <= 2.5
    if fps <= 40:
        assert len(chosen) == count
    # Each frame comes up at its time, rounded to hundredths of a second.
    starts = np.cumsum([0, *delays[:-1]])
    assert (np.abs(starts - 100 * np.array(chosen) / fps) <= 0.5 + 1e-9).all()


def test_a_gif_plays_the_frames_in_order_at_their_speed(tmp_path: Path) -> None:
    frames = [flat(24, 32, (20 * number, 255 - 20 * number, 128)) for number in range(10)]
    write_gif(tmp_path / "a.gif", frames, 29.97)
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.n_frames == 10
        assert gif.info["loop"] == 0
        total = 0
        for number in range(10):
            gif.seek(number)
            total += gif.info["duration"]
            assert np.abs(np.asarray(gif.convert("RGB")).astype(int) - frames[number]).max() <= 8
    assert abs(total - 10 / 29.97 * 1000) <= 5
    assert [path.name for path in tmp_path.iterdir()] == ["a.gif"]
    for bad in ([], frames):
        with pytest.raises(ValueError, match="frames"):
            write_gif(tmp_path / "b.gif", bad, 0.0)


def test_a_picture_comes_back_from_its_png(tmp_path: Path) -> None:
    sheet = contact_sheet([[flat(100, 160, (1, 2, 3))]], ["x"])
    write_png(tmp_path / "a.png", sheet)
    with Image.open(tmp_path / "a.png") as read:
        assert (np.asarray(read) == np.asarray(sheet)).all()
