"""`bench-throughput load`."""

from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pclkd.benchmarks.options import COUNTS, loading, measuring
from pclkd.benchmarks.session import Session

if TYPE_CHECKING:
    from pclkd.benchmarks.load_case import RecipeName

__all__ = ["load"]


@click.command()
@loading
@click.option("--threads", type=COUNTS, multiple=True, help="Also with so many threads each, as 1,2,4.")
@measuring
def load(
    data: Path,
    recipe: "RecipeName",
    batch_size: int,
    frames: int,
    crop: int | None,
    samples: int | None,
    workers: int,
    threads: tuple[tuple[int, ...], ...],
    session: Session,
) -> None:
    """Clips a second of the loader, beside its bounds: reading alone, and decoding alone.

    With --threads also with other numbers of threads; the bound is then as many times the fewest.

    plain: crop, flip, normalise. full: colours, blur, pretext task and residual as well.
    """
    from pclkd.benchmarks.clip_shape import ClipShape
    from pclkd.benchmarks.load import LoadBenchmark

    shape = ClipShape(batch_size, frames, crop)
    samples = samples or (16 if session.quick else 64)
    several = tuple(sorted(set(chain(*threads))))
    session.finish(LoadBenchmark(data, recipe, shape, samples, workers, several).run(session))
