"""Results of several sections as one, and what they come to on one page."""

import io
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from pclkd.benchmarks.measuring.charts import tells_growth, write_chart, write_growth_chart
from pclkd.benchmarks.measuring.result import BenchmarkResult, Figure
from pclkd.sharding.common.console import text_columns
from pclkd.sharding.common.files import atomic_write

__all__ = ["joined_result", "show_summary", "write_charts"]


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


def joined_result(
    parts: Mapping[str, BenchmarkResult], missing: Mapping[str, str], settings: Mapping[str, Any], notes: list[str]
) -> BenchmarkResult:
    """One result whose figures, settings and missing cases bear their section's name: `section/case`.

    Args:
        parts: results by section, at least one; all of one machine.
        missing: sections that gave none, and why.
        settings: of the whole.
        notes: on the whole.
    """
    of_parts: dict[str, Any] = {}
    for section, part in parts.items():
        of_parts |= {f"{section}/{name}": value for name, value in part.settings.items()}
        of_parts[f"{section}/base"] = part.base
    return BenchmarkResult(
        benchmark="all",
        base="each section's own",
        results=[_renamed(figure, section) for section, part in parts.items() for figure in part.results],
        bounding=[f"{section}/{name}" for section, part in parts.items() for name in part.bounding],
        missing={
            **missing,
            **{f"{section}/{name}": why for section, part in parts.items() for name, why in part.missing.items()},
        },
        env=next(iter(parts.values())).env,
        settings={**settings, **of_parts},
        notes=notes + [f"{section}: {note}" for section, part in parts.items() for note in part.notes],
    )


def show_summary(result: BenchmarkResult) -> str:
    """All figures of a joined result as one table, with their bounds and what this package is beside its peers."""
    rows = [["", "unit", "median", "low", "high", "x base", "of bound", "bound", "pclkd is x"]]
    for figure in result.results:
        times = figure.extra.get("pclkd_times")
        rows.append(
            [
                figure.name,
                figure.unit,
                *(f"{value:.4g}" for value in (figure.median, figure.low, figure.high)),
                f"{figure.ratio:.3g}",
                "" if figure.of_bound_pct is None else f"{figure.of_bound_pct:.0f} %",
                "" if figure.bound is None else figure.bound.partition("/")[2],
                "" if times is None else f"{times:.3g}",
            ]
        )
    machine = result.env
    return "\n".join(
        [
            f"all: {machine['gpu'] or 'no GPU'}, {machine['cpu']}, {machine['cores']} cores ({machine['date_utc']})",
            "x base: beside the section's own base case; pclkd is x: so many times that peer; low, high: of the median",
            "",
            text_columns(rows),
            "",
            *(f"- missing: {name} ({reason})" for name, reason in result.missing.items()),
            *(f"- {note}" for note in result.notes if not _of_section(note, result)),
        ]
    ).rstrip()


def _of_section(note: str, result: BenchmarkResult) -> bool:
    """Whether the note stood under a section's own table."""
    return any(note.startswith(f"{figure.name.partition('/')[0]}: ") for figure in result.results)


def _renamed(figure: Figure, section: str) -> Figure:
    bound = None if figure.bound is None else f"{section}/{figure.bound}"
    return figure.model_copy(update={"name": f"{section}/{figure.name}", "bound": bound})
