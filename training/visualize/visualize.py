"""What a run's network has learned, as one page, pictures and numbers.

RUN/learned/index.html       everything, in one file: mail it, open it, print it
RUN/learned/<parts>.html     the same of some parts alone, such as retrieval-collapse.html
RUN/learned/<part>.png       each part as a picture
RUN/learned/<part>.json      its numbers, unrounded
"""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pclkd.sharding.common.files import write_text
from pclkd.sharding.common.pictures import write_png
from pclkd.training.evaluation.evaluate import of_checkpoint
from pclkd.training.options import check_folder
from pclkd.training.runs.run_folder import LEARNED_PAGE
from pclkd.training.visualize.answers import attention, confusion
from pclkd.training.visualize.drawing import write_picture
from pclkd.training.visualize.material import Material
from pclkd.training.visualize.neighbours import embedding, retrieval
from pclkd.training.visualize.networks import collapse, similarity
from pclkd.training.visualize.page import render_learned
from pclkd.training.visualize.part import Part

__all__ = ["visualize_run"]

_MAKERS: dict[str, Callable[[Material], Part]] = {
    "retrieval": retrieval,
    "embedding": embedding,
    "confusion": confusion,
    "attention": attention,
    "similarity": similarity,
    "collapse": collapse,
}


def visualize_run(
    run: Path,
    data: str | Path,
    out: Path | None = None,
    *,
    parts: Sequence[str] = (),
    clips: int = 10,
    teachers: tuple[Path, ...] = (),
    teacher_key: str = "",
) -> Path:
    """Show what the network of a run makes of the test videos of its split.

    Args:
        run: run folder or checkpoint.
        data: the shard set.
        out: folder to write to; by default `learned` in the run's folder, of its best.pt `learned-best`.
        parts: some of retrieval, embedding, confusion, attention, similarity, collapse; by default all, on the page
            index.html; a page of some is named by them.
        clips: clips a video whose features are averaged.
        teachers: networks to compare with; by default those that taught the run.
        teacher_key: which network of several in their files, as `load_backbone` takes it.

    Returns:
        The page.

    Raises:
        InputError: no such run or teacher, data that does not fit, or a folder that cannot be written to.
    """
    of = Material(run, data, clips, teachers, teacher_key)
    chosen = [name for name in _MAKERS if not parts or name in parts]
    # A page of some parts must not take the place of the whole one.
    name = LEARNED_PAGE.name if len(chosen) == len(_MAKERS) else f"{'-'.join(chosen)}{LEARNED_PAGE.suffix}"
    page = (out or of.folder / f"{LEARNED_PAGE.parent}{of_checkpoint(run)}") / name
    try:
        check_folder(page.parent)
        found = {name: _MAKERS[name](of) for name in chosen}
    finally:
        of.close()
    page.parent.mkdir(parents=True, exist_ok=True)
    for name, part in found.items():
        if part.drawings:
            write_picture(page.with_name(f"{name}.png"), part.drawings)
        elif part.sheet is not None:
            write_png(page.with_name(f"{name}.png"), part.sheet)
        write_text(page.with_name(f"{name}.json"), json.dumps(_finite(part.numbers), indent=1) + "\n")
    write_text(page, render_learned(of, list(found.values())))
    return page


def _finite(value: Any) -> Any:
    """Numbers that are not finite as null."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
