"""Pictures for people: sheets of captioned frames, and GIFs that play at the right speed.

Written for the previews of shards and of training clips alike, so it takes plain arrays and knows neither.
"""

import bisect
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from pclkd.sharding.common.files import atomic_write

__all__ = ["NARROWEST", "WIDEST", "Frame", "contact_sheet", "write_gif", "write_png"]

Frame = npt.NDArray[np.uint8]

_PAPER = (255, 255, 255)
_INK = (31, 35, 40)
_PALE_INK = (101, 109, 118)
_MARGIN = 20
_GAP = 6
_ROW_GAP = 16
NARROWEST = 150
"""Pixels. Frames that are less wide are enlarged by a whole factor, so that their pixels stay true."""
WIDEST = 400
"""Pixels; frames that are wider are scaled down on a sheet."""
_SHORTEST_DELAY = 2  # hundredths of a second: players take less for a mistake and play at 10 frames/s


def contact_sheet(
    rows: Sequence[Sequence[Frame]],
    captions: Sequence[str],
    *,
    frame_captions: Sequence[Sequence[str]] | None = None,
    title: str = "",
    subtitle: str = "",
) -> Image.Image:
    """Lay rows of frames out on white paper, each row under its caption.

    Frames narrower than 150 pixels are enlarged by a whole factor, frames wider than 400 are scaled down. Captions are
    broken over lines where they are wider than the sheet.

    Args:
        rows: frames, uint8 [H, W, 3] in RGB; sizes and lengths may differ from row to row.
        captions: a text for each row, above it; "" for none.
        frame_captions: a text below each frame, in the shape of `rows`.
        title: large text at the top.
        subtitle: small text under the title; may hold line breaks.

    Raises:
        ValueError: no frames, or texts that do not fit the rows in number.
    """
    if not any(len(row) for row in rows):
        raise ValueError("no frames to show")
    if len(captions) != len(rows):
        raise ValueError(f"{len(captions)} captions for {len(rows)} rows")
    texts = frame_captions or [[""] * len(row) for row in rows]
    if [len(row) for row in texts] != [len(row) for row in rows]:
        raise ValueError("frame captions and frames differ in number")
    strips = [_strip(row, own) for row, own in zip(rows, texts, strict=True)]
    width = max([strip.width for strip in strips] + ([360] if title or subtitle or any(captions) else []))
    head = _text_blocks(width, [(title, 19, _INK), (subtitle, 13, _PALE_INK)])
    pieces: list[tuple[Image.Image, int]] = [(block, 4) for block in head]
    if pieces:
        pieces[-1] = (pieces[-1][0], _ROW_GAP)
    for strip, caption in zip(strips, captions, strict=True):
        pieces += [(block, 5) for block in _text_blocks(width, [(caption, 13, _INK)])]
        pieces.append((strip, _ROW_GAP))
    height = sum(piece.height + gap for piece, gap in pieces) - pieces[-1][1]
    sheet = Image.new("RGB", (width + 2 * _MARGIN, height + 2 * _MARGIN), _PAPER)
    y = _MARGIN
    for piece, gap in pieces:
        sheet.paste(piece, (_MARGIN, y))
        y += piece.height + gap
    return sheet


def write_png(path: Path, picture: Image.Image) -> None:
    """Write a picture to `path` as PNG, whole or not at all."""
    with atomic_write(path) as file:
        picture.save(file, "PNG", optimize=True)


def write_gif(path: Path, frames: Sequence[Frame], fps: float) -> None:
    """Write frames, uint8 [H, W, 3] in RGB and all of one size, as an endless GIF, whole or not at all.

    Delays are in hundredths of a second: they are dealt out so that the whole plays in `len(frames) / fps` seconds.
    Above 50 frames/s, which players do not show, frames are left out.

    Raises:
        ValueError: no frames, or `fps` not positive.
    """
    if not len(frames):
        raise ValueError("no frames to show")
    if not fps > 0:
        raise ValueError(f"{fps} frames/s")
    chosen, delays = _schedule(len(frames), fps)
    # One palette for all: with one a frame, flat areas flicker.
    picks = sorted({round(position) for position in np.linspace(0, len(frames) - 1, 12)})
    palette = Image.fromarray(np.concatenate([frames[pick] for pick in picks])).quantize(256)
    pictures = [Image.fromarray(frames[number]).quantize(palette=palette) for number in chosen]
    with atomic_write(path) as file:
        pictures[0].save(
            file,
            "GIF",
            save_all=True,
            append_images=pictures[1:],
            duration=[10 * delay for delay in delays],
            loop=0,
            optimize=False,
            disposal=1,
        )


def _schedule(count: int, fps: float) -> tuple[list[int], list[int]]:
    """Return which frames to show and for how many hundredths of a second each."""
    starts = [round(100 * number / fps) for number in range(count + 1)]
    chosen = [0]
    while (after := bisect.bisect_left(starts, starts[chosen[-1]] + _SHORTEST_DELAY)) < count:
        chosen.append(after)
    ends = [starts[number] for number in chosen[1:]] + [max(starts[count], starts[chosen[-1]] + _SHORTEST_DELAY)]
    return chosen, [end - starts[number] for number, end in zip(chosen, ends, strict=True)]


def _font_file() -> str:
    """Return the path of DejaVu Sans, which knows more letters than Pillow's own font; Matplotlib brings it along."""
    package = importlib.util.find_spec("matplotlib")
    folder = Path(package.origin).parent if package and package.origin else Path()
    return str(folder / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf")


@dataclass(frozen=True)
class _Font:
    """A font of one size: its lines are `height` pixels high."""

    font: ImageFont.FreeTypeFont | ImageFont.ImageFont
    height: int

    @classmethod
    def of(cls, size: int) -> "_Font":
        try:
            return cls(ImageFont.truetype(_font_file(), size), round(size * 1.35))
        except OSError:
            return cls(ImageFont.load_default(size), round(size * 1.35))

    def broken(self, text: str, width: int) -> list[str]:
        """Return `text` in lines that are not wider than `width`, broken at spaces where it has any."""
        lines = []
        for paragraph in text.splitlines():
            line = ""
            for word in paragraph.split(" "):
                longer = f"{line} {word}" if line else word
                if line and self.font.getlength(longer) > width:
                    lines.append(line)
                    longer = word
                while len(longer) > 1 and self.font.getlength(longer) > width:
                    place = self._break(longer, width)
                    lines.append(longer[:place])
                    longer = longer[place:]
                line = longer
            lines.append(line)
        return lines

    def _break(self, word: str, width: int) -> int:
        """Return where to break a word that is too long: where a part of a name begins, else where it must be."""
        most = max(1, sum(self.font.getlength(word[:end]) <= width for end in range(1, len(word) + 1)))
        for place in range(most, most // 2, -1):
            if word[place].isupper() or word[place - 1] == "_":
                return place
        return most


def _text_blocks(width: int, texts: Sequence[tuple[str, int, tuple[int, int, int]]]) -> list[Image.Image]:
    blocks = []
    for text, size, ink in texts:
        if not text:
            continue
        font = _Font.of(size)
        lines = font.broken(text, width)
        block = Image.new("RGB", (width, font.height * len(lines)), _PAPER)
        for number, line in enumerate(lines):
            ImageDraw.Draw(block).text((0, font.height * number), line, fill=ink, font=font.font)
        blocks.append(block)
    return blocks


def _strip(row: Sequence[Frame], texts: Sequence[str]) -> Image.Image:
    """Return one row of frames, the texts centred below them."""
    if not len(row):
        return Image.new("RGB", (1, 1), _PAPER)
    pictures = [_legible(frame) for frame in row]
    font = _Font.of(12)
    width = max(picture.width for picture in pictures)
    height = max(picture.height for picture in pictures)
    broken = [font.broken(text, width) for text in texts]
    lines = max(len(text) for text in broken)
    strip = Image.new(
        "RGB", (len(row) * (width + _GAP) - _GAP, height + (4 + font.height * lines if lines else 0)), _PAPER
    )
    draw = ImageDraw.Draw(strip)
    for column, (picture, text) in enumerate(zip(pictures, broken, strict=True)):
        x = column * (width + _GAP)
        strip.paste(picture, (x + (width - picture.width) // 2, 0))
        for number, line in enumerate(text):
            place = (x + width / 2, height + 4 + font.height * number)
            draw.text(place, line, fill=_PALE_INK, font=font.font, anchor="ma")
    return strip


def _legible(frame: Frame) -> Image.Image:
    picture = Image.fromarray(np.ascontiguousarray(frame))
    if picture.width < NARROWEST:
        factor = -(-NARROWEST // picture.width)
        return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    if picture.width > WIDEST:
        height = max(1, round(picture.height * WIDEST / picture.width))
        return picture.resize((WIDEST, height), Image.Resampling.LANCZOS)
    return picture
