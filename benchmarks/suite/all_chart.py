"""Pictures of all sections: a folder with one of each, or all of them on one sheet."""

import io
import tempfile
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from pclkd.benchmarks.measuring.charts import write_chart
from pclkd.benchmarks.measuring.growth_chart import tells_growth, write_growth_chart
from pclkd.benchmarks.measuring.result import BenchmarkResult
from pclkd.sharding.common.files import atomic_write

__all__ = ["write_charts"]

_GAP = 24  # pixels


def write_charts(parts: Mapping[str, BenchmarkResult], place: Path) -> None:
    """Draw each section and write it to the folder `place`, or all on one sheet where that is a PNG's name."""
    if place.suffix.lower() != ".png":
        place.mkdir(exist_ok=True)
        for section, part in parts.items():
            _draw(section, part, place / f"{section}.png")
        return
    pictures = []
    with tempfile.TemporaryDirectory(prefix="pclkd-chart-") as folder:
        for section, part in parts.items():
            file = Path(folder) / f"{section}.png"
            _draw(section, part, file)
            pictures.append(Image.open(io.BytesIO(file.read_bytes())).convert("RGB"))
    with atomic_write(place) as out:
        _sheet(pictures).save(out, format="PNG", optimize=True)


def _draw(section: str, part: BenchmarkResult, file: Path) -> None:
    if tells_growth(part):
        write_growth_chart(part, file)
    else:
        write_chart(part.model_copy(update={"benchmark": section}), file)


def _sheet(pictures: list[Image.Image]) -> Image.Image:
    """Two columns, each picture under the shorter one."""
    width = max(picture.width for picture in pictures)
    heights = [0, 0]
    places = []
    for picture in pictures:
        column = 0 if len(pictures) == 1 or heights[0] <= heights[1] else 1
        places.append((column * (width + _GAP), heights[column]))
        heights[column] += picture.height + _GAP
    columns = 2 if heights[1] else 1
    sheet = Image.new("RGB", (columns * width + (columns - 1) * _GAP, max(heights) - _GAP), "white")
    for picture, corner in zip(pictures, places, strict=True):
        sheet.paste(picture, corner)
    return sheet
