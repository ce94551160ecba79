from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pclkd.sharding.video.settings import PackSettings, stored_size

SQUARE = Fraction(1)


@pytest.mark.parametrize(
    ("height", "width", "short_side", "chroma", "stored"),
    [
        (240, 320, 128, "4:2:0", (128, 170)),  # 170.67: 170 is the nearest even number
        (240, 320, 128, "4:4:4", (128, 171)),
        (1080, 1920, 256, "4:2:0", (256, 456)),  # 455.1
        (1920, 1080, 256, "4:2:0", (456, 256)),
        (100, 100, 127, "4:2:0", (128, 128)),
        (100, 100, 127, "4:4:4", (127, 127)),
        (33, 35, 64, "4:4:4", (64, 68)),  # 67.9
    ],
)
def test_short_side(height: int, width: int, short_side: int, chroma: str, stored: tuple[int, int]) -> None:
    settings = PackSettings(0, 0, short_side, chroma=chroma)
    assert stored_size(height, width, SQUARE, settings) == stored


def test_exact_size_whatever_the_video() -> None:
    assert stored_size(1080, 1920, Fraction(2), PackSettings(128, 171)) == (128, 171)


def test_pixels_that_are_not_square() -> None:
    # PAL DVD, 16:9: 720 x 576 pixels shown as 1024 x 576.
    assert stored_size(576, 720, Fraction(64, 45), PackSettings(0, 0, 128, chroma="4:4:4")) == (128, 228)


@given(
    st.integers(1, 4000),
    st.integers(1, 4000),
    st.integers(16, 512),
    st.sampled_from(["4:2:0", "4:4:4"]),
    st.fractions(Fraction(1, 4), 4, max_denominator=99),
)
def test_aspect_is_kept_within_a_pixel_and_a_turn_turns_the_size(
    height: int, width: int, short_side: int, chroma: str, pixel_aspect: Fraction
) -> None:
    settings = PackSettings(0, 0, short_side, chroma=chroma)
    stored = stored_size(height, width, pixel_aspect, settings)
    grid = 2 if chroma == "4:2:0" else 1
    assert all(side % grid == 0 for side in stored)
    assert min(stored) in range(short_side, short_side + grid)
    aspect = width * pixel_aspect / height
    exact = min(stored) * max(aspect, 1 / aspect)
    assert abs(max(stored) - exact) <= Fraction(grid, 2)
    assert stored_size(width, height, 1 / pixel_aspect, settings) == stored[::-1]
